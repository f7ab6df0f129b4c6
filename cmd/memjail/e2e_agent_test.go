package main_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// agentAttempts tries, in a project below the home directory, what -p agent is to refuse. Each
// prints its name if it gets through.
const agentAttempts = `
import os, socket, stat, sys
home, outside = os.environ["HOME"], sys.argv[1]
def attempt(name, do):
    try:
        if do() is not False:
            print(name)
    except OSError:
        pass
def content(path):
    return "secret" in open(path).read()
def write(path):
    with open(path, "a") as f:
        f.write("# planted\n")
def connect(path):
    socket.socket(socket.AF_UNIX).connect(path)
def tcp(port):
    s = socket.socket()
    s.settimeout(5)
    try:
        s.connect(("127.0.0.1", port))
    except ConnectionRefusedError:
        pass # nobody listens, and the kernel has let it through
attempt("key", lambda: content(home + "/.ssh/id_ed25519"))
attempt("token file", lambda: content(home + "/.npmrc"))
attempt("token", lambda: "secret" in os.environ.get("GITHUB_TOKEN", ""))
attempt("start-up file", lambda: write(home + "/.bashrc") or os.path.exists(home + "/.ssh"))
attempt("settings", lambda: content(".env"))
attempt("hook", lambda: write(".git/hooks/pre-commit"))
attempt("hooks replaced", lambda: os.rename(".git/hooks", ".git/old"))
attempt("socket", lambda: connect(outside + "/socket"))
attempt("socket in the project", lambda: connect("socket"))
attempt("abstract socket", lambda: connect("\0" + outside))
attempt("temporary file outside", lambda: content(outside + "/file"))
attempt("shared memory", lambda: content(sys.argv[2]))
attempt("mail", lambda: tcp(25))
attempt("memory", lambda: open("/proc/self/mem", "rb+"))
`

// agentSockets listens outside, as daemons of the same user do.
const agentSockets = `
import socket, sys, time
for name in sys.argv[1] + "/socket", sys.argv[2] + "/socket", "\0" + sys.argv[1]:
    s = socket.socket(socket.AF_UNIX)
    s.bind(name)
    s.listen(9)
    globals()["keep" + name] = s
open(sys.argv[1] + "/ready", "w")
time.sleep(120)
`

// TestAgent tries what an agent could do to its user, and what it has to be able to do.
func TestAgent(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		home, outside := as.workDir(t), as.workDir(t)
		project := filepath.Join(home, "project")
		for name, text := range map[string]string{".ssh/id_ed25519": "secret", ".npmrc": "secret", ".bashrc": "",
			"project/.env": "secret", "project/.git/hooks/pre-commit": ""} {
			plantFile(t, as, home, name, text)
		}
		plantFile(t, as, outside, "file", "secret")
		listen := job{as: as, dir: outside, argv: []string{"python3", "-c", agentSockets, outside, project}}.command(t,
			t.Context())
		if err := listen.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { listen.Process.Kill(); listen.Wait() })
		eventually(t, 10*time.Second, "the sockets are there", func() bool {
			_, err := os.Stat(filepath.Join(outside, "ready"))
			return err == nil
		})
		shared := filepath.Join("/dev/shm", "memjail-test-"+strings.ReplaceAll(outside, "/", "-"))
		plantFile(t, as, "/dev/shm", filepath.Base(shared), "secret")
		t.Cleanup(func() { os.Remove(shared) })
		agent := []string{memjailPath(t), "run", "-q", "-p", "agent", "--"}
		run := func(launcher []string, argv ...string) outcome {
			return job{as: as, dir: project, env: []string{"HOME=" + home, "GITHUB_TOKEN=secret"},
				argv: slices.Concat(launcher, argv)}.run(t)
		}
		bashrc := func() string {
			text, err := os.ReadFile(filepath.Join(home, ".bashrc"))
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}

		inside := run(agent, "python3", "-c", agentAttempts, outside, shared)
		if inside.code != 0 || inside.stdout != "" {
			t.Errorf("inside these got through:\n%v", inside)
		}
		if text := bashrc(); text != "" {
			t.Errorf("the start-up file is %q", text)
		}
		control := run(nil, "python3", "-c", agentAttempts, outside, shared)
		all := strings.Count(agentAttempts, `attempt("`)
		if got := strings.Count(control.stdout, "\n"); control.code != 0 || got != all || bashrc() == "" {
			t.Errorf("control: %d of %d got through:\n%v", got, all, control)
		}
	})
}

// TestPrivateHomeShows: without path rules a private home directory has the tool chains and not the
// keys next to them, and a start in what is empty inside says so.
func TestPrivateHomeShows(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		home := as.workDir(t)
		for _, name := range []string{"credentials/credentials.toml", "python/tool", "tools/tool"} {
			plantFile(t, as, home, ".local/share/uv/"+name, name+"\n")
		}
		plantFile(t, as, home, "project/file", "project\n")
		const script = "cat ~/.local/share/uv/*/* ~/project/file 2>/dev/null"
		run := func(dir string, launcher ...string) outcome {
			return job{as: as, dir: dir, env: []string{"HOME=" + home},
				argv: append(launcher, "sh", "-c", script)}.run(t)
		}
		project, launcher := filepath.Join(home, "project"), []string{memjailPath(t), "run", "--private-home", "--"}
		if o := run(project); o.stdout != "credentials/credentials.toml\npython/tool\ntools/tool\nproject\n" {
			t.Errorf("control: %v", o)
		}
		const warning = "is an empty directory of the sandbox's own"
		if o := run(project, launcher...); o.stdout != "python/tool\ntools/tool\nproject\n" ||
			strings.Contains(o.stderr, warning) {
			t.Errorf("in the project: %v", o)
		}
		if o := run(home, launcher...); o.stdout != "python/tool\ntools/tool\n" ||
			!strings.Contains(o.stderr, warning) {
			t.Errorf("in the home directory: %v", o)
		}
	})
}

// TestAgentWorks runs tools of developers under -p agent and without memjail.
func TestAgentWorks(t *testing.T) {
	t.Parallel()
	needCompiler(t)
	const work = `set -e
git init -q tree; cd tree; git config user.name a; git config user.email a@example.com
printf 'int main(void){return 0;}' >a.c; gcc a.c -o a; ./a
git add a.c; git commit -qm one 2>/dev/null; git log --format=%s
python3 -m venv v; v/bin/pip --version >/dev/null; v/bin/python -c 'print(6 * 7)'
mkdir -p p; echo '{"name":"p","version":"1.0.0"}' >p/package.json
npm pack --silent ./p >/dev/null; mkdir n
(cd n; npm install --silent --offline ../p-1.0.0.tgz >/dev/null; ls node_modules)
node -e 'console.log(require(process.cwd() + "/n/node_modules/p/package.json").version)'
mktemp >/dev/null; ls ~ >/dev/null; ls /proc | grep -qx $$ && echo listed`
	forAccounts(t, func(t *testing.T, as account) {
		for _, launcher := range [][]string{nil, {memjailPath(t), "run", "-q", "-p", "agent", "--"}} {
			home := as.workDir(t)
			plantFile(t, as, home, "project/file", "")
			o := job{as: as, dir: filepath.Join(home, "project"), env: []string{"HOME=" + home},
				argv: append(launcher, "sh", "-c", work)}.run(t)
			if want := "one\n42\np\n1.0.0\nlisted\n"; o.code != 0 || o.stdout != want {
				t.Errorf("%q: %v\nwant %q", launcher, o, want)
			}
		}
	})
}
