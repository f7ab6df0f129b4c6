package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// advised are programs that run by advice alone: what one run says would allow what was
// refused lets the second one do its work.
var advised = []work{
	{"ls", []string{"ls"}, map[string]string{"file": ""}, "ls -l", "file"},
	{"git clone", []string{"git"}, nil, "git clone -q file://$HOME/origin c && cat c/file", "cloned"},
	{"python", []string{"/usr/bin/python3"}, nil, `/usr/bin/python3 -c "import json, ssl, socket; print(42)"`, "42"},
	{"node", []string{"node"}, nil, `node -e "console.log(42)"`, "42"},
	{"npm", []string{"npm"}, map[string]string{"tiny/package.json": `{"name":"tiny","version":"1.0.0"}`},
		"mkdir a; cd a; npm install --no-audit --no-fund ../tiny; ls node_modules", "tiny"},
	{"gcc", []string{"gcc"}, map[string]string{"m.c": "int main() { return 0; }"},
		"gcc m.c -o m && ./m && echo ran", "ran"},
	{"go", []string{"go"}, map[string]string{"go.mod": "module x\ngo 1.20\n",
		"main.go": "package main\nfunc main() { print() }\n"}, "go build -o x . && ./x && echo ran", "ran"},
	{"java", []string{"javac", "java"}, map[string]string{
		"A.java": "public class A { public static void main(String[] a) { System.out.println(42); } }",
	}, "javac A.java && java A", "42"},
	{"make", []string{"make"}, map[string]string{"Makefile": "all:\n\techo made > out\n"}, "make -s; cat out", "made"},
	{"vim", []string{"vim"}, nil, `vim -es -c "call writefile(['a line'], 'f')" -c q; cat f`, "a line"},
	{"sqlite", []string{"sqlite3"}, nil,
		`sqlite3 db "create table t(a); insert into t values(42); select * from t"`, "42"},
	{"redis", []string{"redis-server", "redis-cli"}, nil, "redis-server --port $PORT --daemonize yes > /dev/null; " +
		"for i in 1 2 3 4 5 6 7 8 9; do sleep 0.2; redis-cli -p $PORT set a 42 2>&1 && break; done; " +
		"redis-cli -p $PORT get a; redis-cli -p $PORT shutdown nosave", "42"},
}

// advisedFlags is what the summary says would allow everything, as it is to be pasted.
func advisedFlags(o outcome) string {
	flags := ""
	for line := range strings.Lines(o.stderr) {
		line = strings.TrimSpace(line)
		if all, ok := strings.CutPrefix(line, "memjail: to allow all of this: "); ok {
			return all
		}
		if _, one, ok := strings.Cut(line, "to allow it: "); ok && strings.HasPrefix(line, "memjail:  ") {
			one, _, _ = strings.Cut(one, " (in a policy: ")
			flags += " " + one
		}
	}
	return strings.TrimSpace(flags)
}

// TestAdviceInTwoRuns measures how many runs it takes to follow only what memjail says.
func TestAdviceInTwoRuns(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		for _, w := range advised {
			for _, base := range []string{"-p workspace", "-p strict --add-exec"} {
				t.Run(w.name+"/"+strings.Fields(base)[1], func(t *testing.T) {
					t.Parallel()
					inTwoRuns(t, as, w, base)
				})
			}
		}
	})
}

func inTwoRuns(t *testing.T, as account, w work, base string) {
	as.needs(t, w.needs...)
	home := as.homeDir(t)
	plantSecret(t, as, home)
	env := []string{"HOME=" + home, "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/go/bin"}
	dir := filepath.Join(home, "project")
	origin := "cd ~; git init -q origin; cd origin; echo cloned > file; git add file; " +
		"git -c user.name=a -c user.email=a@b commit -qm first"
	if w.name == "git clone" {
		if o := (job{as: as, dir: home, env: env, argv: []string{"sh", "-c", origin}}).run(t); o.code != 0 {
			t.Fatal(o)
		}
	}
	script := strings.ReplaceAll(w.script, "$PORT", freePort(t)) // strict takes variables away
	flags := ""
	for run := 1; run <= 2; run++ {
		os.RemoveAll(dir)
		plantFile(t, as, home, "project/.keep", "")
		for name, text := range w.files {
			plantFile(t, as, dir, name, text)
		}
		pasted := memjailPath(t) + " run -v " + base + " " + flags + ` -- bash -c "$1"`
		o := job{as: as, dir: dir, env: env, argv: []string{"bash", "-c", pasted, "bash", script},
			timeout: 2 * time.Minute}.run(t)
		if o.code == 0 && strings.Contains(o.stdout, w.prints) {
			t.Logf("run %d: %s", run, flags)
			return
		}
		more := advisedFlags(o)
		if run == 2 || more == "" {
			t.Errorf("run %d with %s: %v", run, flags, o)
			return
		}
		if flags += " " + more; strings.Contains(flags, home+"/.ssh") {
			t.Fatalf("the key is advised: %s", flags)
		}
	}
}
