package main_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// learned are works beyond those of the profiles, to be learned from one run.
var learned = []work{
	{"git clone", []string{"git"}, nil,
		"git init -q o; git -C o -c user.name=a -c user.email=a@b commit -q --allow-empty -m first; git " +
			"clone -q file://$PWD/o c; git -C c log --format=%s",
		"first"},
	{"ls", []string{"ls"}, map[string]string{"a": "", "b/c": ""}, "ls -R", ".:\na\nb\n\n./b:\nc"},
	{"vim", []string{"vi"}, map[string]string{"f": "one\n"}, "vi -es -c '%s/one/two/' -c wq f; cat f", "two"},
	{"a Java program", []string{"javac", "java"}, map[string]string{
		"A.java": "public class A { public static void main(String[] a) throws Exception {" +
			"java.nio.file.Files.writeString(java.nio.file.Path.of(\"out\"), \"42\"); " +
			"System.out.println(java.nio.file.Files.readString(java.nio.file.Path.of(\"out\"))); } }",
	}, "javac A.java && java A", "42"},
	{"a web server", []string{"python3"}, map[string]string{"page": "hello\n", "serve.py": `
import http.server, threading, urllib.request
server = http.server.ThreadingHTTPServer(("127.0.0.1", 18473), http.server.SimpleHTTPRequestHandler)
server.RequestHandlerClass.log_message = lambda *a: None
threading.Thread(target=server.serve_forever, daemon=True).start()
print(urllib.request.urlopen("http://127.0.0.1:%d/page" % server.server_port).read().decode(), end="")
`}, "python3 serve.py", "hello"},
	{"redis", []string{"redis-server", "redis-cli"}, nil,
		"redis-server --port 0 --unixsocket $PWD/s --daemonize no --save '' --logfile l & " +
			"until redis-cli -s s ping >/dev/null 2>&1; do sleep 0.1; done; redis-cli -s s set a 1; " +
			"redis-cli -s s shutdown nosave; wait", "OK"},
}

// TestLearn: what is learned from one run lets the program do the same in another
// directory, and closes what it was not to have: the key that it read.
func TestLearn(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		all := learned
		if !as.isRoot() { // the longer ones once
			all = append(all, works...)
		}
		for _, w := range all {
			t.Run(w.name, func(t *testing.T) {
				t.Parallel()
				as.needs(t, w.needs...)
				home := as.homeDir(t)
				plantSecret(t, as, home)
				policy := filepath.Join(as.workDir(t), "learned.toml")
				script := "set -e; " + w.script + "; cat \"$HOME/.ssh/id\" 2>/dev/null || echo closed"
				for _, run := range []struct {
					launcher []string
					key      string
				}{
					{nil, "secret"}, // the control
					{[]string{memjailPath(t), "learn", "-q", "-o", policy, "--"}, "secret"},
					{[]string{memjailPath(t), "run", "-q", "-p", policy, "--"}, "closed"},
				} {
					dir := as.workDir(t)
					for name, text := range w.files {
						plantFile(t, as, dir, name, text)
					}
					o := job{as: as, dir: dir, argv: append(run.launcher, "sh", "-c", script),
						env: []string{"HOME=" + home}, timeout: 2 * time.Minute}.run(t)
					if want := w.prints + "\n" + run.key + "\n"; o.code != 0 || o.stdout != want {
						text, _ := os.ReadFile(policy)
						t.Fatalf("%q: want %q: %v\n%s", run.launcher, want, o, text)
					}
				}
				if o := (job{as: as, dir: as.workDir(t), argv: []string{memjailPath(t), "verify", "--no-probe",
					policy}, env: []string{"HOME=" + home}}).run(t); o.code != 0 {
					t.Errorf("the policy does not pass verify: %v", o)
				}
			})
		}
	})
}
