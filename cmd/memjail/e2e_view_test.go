package main_test

import (
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

// viewFlags show a script what programs need, and of all else nothing.
func viewFlags(t *testing.T, as account) func(top string) []string {
	return func(top string) []string {
		flags := []string{"--view", "private", "--tmp", "private", "--rox", "/usr", "--ro", "/etc", "--ro", "?/sys",
			"--ro", "?/var/lib", "--rox", memjailPath(t), "--rw", "/dev/shm", "--rwx", "/tmp", "--rwx", top}
		if as.uid < 0 { // compilers in the home directory of who runs the tests
			home, _ := os.UserHomeDir()
			for _, dir := range []string{"/.cargo", "/.rustup", "/.pyenv", "/go", "/.cache/go-build"} {
				flags = append(flags, "--rox", "?"+home+dir)
			}
		}
		return flags
	}
}

// viewTests are further programs that have to go in a view as they go outside.
var viewTests = []sameTest{
	{name: "identity", script: `
id -u; id -g; whoami; pwd; ls -d /usr /etc; ps -o comm= -p $$; cat /proc/$$/comm; test -w . && echo writable`},
	{name: "venv", needs: "/usr/bin/python3", script: `
/usr/bin/python3 -m venv --without-pip env && . env/bin/activate && python -c 'import sys; print(sys.prefix != sys.base_prefix)'
/usr/bin/python3 - <<'EOF'
import multiprocessing as m
def f(x): return x * x
if __name__ == "__main__":
    with m.Pool(2) as p: print(p.map(f, range(4)))
EOF`},
	{name: "git-clone", needs: "git", script: `
git init -q origin && cd origin && git config user.email a@b && git config user.name a && echo x >f && git add f &&
git commit -qm first && cd .. && git clone -q origin copy && cat copy/f && cd copy && git status --short --branch`},
	{name: "npm", needs: "npm tar", script: `
mkdir -p pkg && echo '{"name":"own","version":"1.0.0","main":"i.js"}' >pkg/package.json &&
echo 'module.exports = 42' >pkg/i.js && tar czf own.tgz pkg && mkdir w && cd w && echo '{"name":"w","version":"1.0.0"}' >package.json
npm install --offline --no-audit --no-fund --no-update-notifier --cache ../cache ../own.tgz >log 2>&1 || cat log
node -e 'console.log(require("own"))'`},
	{name: "ssh-keygen", needs: "ssh-keygen", script: `
ssh-keygen -q -t ed25519 -N '' -f key && ssh-keygen -y -f key | cut -c1-11; ssh -G example.org | grep -c ^port`},
	{name: "nested", needs: "memjail", script: `
memjail run -q -- sh -c 'echo inner; cat /proc/self/comm; dd if=/proc/self/mem of=/dev/null bs=1 count=0 status=none 2>&1 | grep -c denied'
memjail exec -q -- sh -c 'echo $0 && exit 3'; echo $?`},
	{name: "pty", needs: "script", script: `script -qec 'tty | cut -c1-9; echo $((6*7))' /dev/null | tr -d '\r'`},
	{name: "shm", needs: "/usr/bin/python3", script: `
/usr/bin/python3 -c 'from multiprocessing import shared_memory as s
m = s.SharedMemory(create=True, size=8); m.buf[0] = 7; n = s.SharedMemory(name=m.name); print(n.buf[0]); n.close(); m.close(); m.unlink()'`},
}

// TestViewSame: programs go in a private view as they go outside.
func TestViewSame(t *testing.T) {
	for _, as := range viewAccounts() {
		for _, test := range append(viewTests, sameTests...) {
			if as.uid == 12345 && test.name == sameTests[0].name {
				break
			}
			if test.as == "root" && !as.isRoot() || test.as == "self" && as.uid >= 0 {
				continue
			}
			if test.name == "go" || test.name == "rust" { // they take long, and do what the others do
				continue
			}
			t.Run(as.name+"/"+test.name, func(t *testing.T) {
				t.Parallel()
				as.needs(t, append(strings.Fields(test.needs), "bash")...)
				test.compareUnder(t, as, viewFlags(t, as))
			})
		}
	}
}

// viewAccounts are all that can be had, and one whose number is not that by which IDs are shown
// that a user namespace does not map.
func viewAccounts() []account {
	if os.Geteuid() == 0 {
		return append(accounts(), account{"another user", 12345})
	}
	return accounts()
}

// TestViewProbes: no name leads out of a private view, and nothing is mounted or unmounted in it.
// The control of each attempt is made outside.
func TestViewProbes(t *testing.T) {
	for _, as := range viewAccounts() {
		report := probed(t, as, memjailPath(t), nil, 0, "--view", "private", "--rox", "/usr", "--ro", "/etc",
			"--only", "view/...", "--only", "mount-call/...", "--only", "proc-links/...")
		held := map[string]int{}
		for _, r := range report.Results {
			if r.Verdict == probe.Held {
				held[r.Route]++
			} else if r.Route == "view" && r.Verdict != probe.NotProven {
				t.Errorf("%s: %s: %s", r.Name, r.Verdict, r.Detail)
			}
		}
		if held["view"] < 10 || held["proc-links"] == 0 || as.isRoot() && held["mount-call"] == 0 {
			t.Errorf("%s: too little was proven: %v", as.name, held)
		}
	}
}

// TestDeniedProbes: no name leads to what paths.deny closes in a granted directory, with a view where
// it can be written and without one where it cannot, nor to sockets of processes outside.
func TestDeniedProbes(t *testing.T) {
	for _, as := range viewAccounts() {
		for _, test := range []struct {
			flags []string
			held  map[string]int
		}{
			{[]string{"--view", "private", "--unix", "own"}, map[string]int{"denied-path": 10, "unix-socket": 5}},
			{nil, map[string]int{"denied-path": 10}},
		} {
			flags := append(test.flags, "--rox", "/usr", "--ro", "/etc", "--deny", "?/nonexistent",
				"--only", "denied-path/...", "--only", "unix-socket/...")
			held := map[string]int{}
			for _, r := range probed(t, as, memjailPath(t), nil, 0, flags...).Results {
				if r.Verdict == probe.Held {
					held[r.Route]++
				}
			}
			if !maps.Equal(held, test.held) {
				t.Errorf("%s: %v: held %v", as.name, test.flags, held)
			}
		}
	}
}

// TestViewRights: in a user namespace a process has all capabilities, over files whose owners are
// mapped, too. The command has none but those that memjail was started with, not even in its
// bounding set.
func TestViewRights(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be root without CAP_SYS_ADMIN")
	}
	as := account{"root", -1}
	as.needs(t, "setpriv")
	dir := as.workDir(t)
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("secret\n"), 0); err != nil {
		t.Fatal(err)
	}
	const script = "grep ^Cap /proc/self/status; cat secret; id -u"
	few := []string{"setpriv", "--bounding-set", "-all,+chown,+setuid,+setgid,+setpcap,+setfcap", "--inh-caps", "-all"}
	plain := job{as: as, dir: dir, argv: append(few, "sh", "-c", script)}.run(t)
	if !strings.Contains(plain.stderr, "Permission denied") || !strings.HasSuffix(plain.stdout, "\n0\n") {
		t.Fatalf("control: root without CAP_DAC_OVERRIDE reads the secret: %v", plain)
	}
	inView := job{as: as, dir: dir, argv: append(few, memjailPath(t), "run", "--view", "private", "--rox", "/usr",
		"--rw", dir, "--", "sh", "-c", script)}.run(t)
	if inView != plain {
		t.Errorf("not the same.\n=== without memjail: %v\n=== in a view: %v", plain, inView)
	}
	full := job{as: as, dir: dir, argv: []string{"unshare", "--user", "--map-root-user", "cat", "secret"}}.run(t)
	if full.stdout != "secret\n" {
		t.Errorf("control: a user namespace alone does not let root read it: %v", full)
	}
}

// TestViewFallback: where no user namespace can be made, auto says which step failed and goes
// on, and private does not start. It is made impossible in a user namespace of the test's own.
func TestViewFallback(t *testing.T) {
	as := accounts()[0]
	as.needs(t, "unshare", "setpriv")
	dir := as.workDir(t)
	const limit = `echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --bounding-set -sys_admin --inh-caps -all "$@"`
	run := func(view string) outcome {
		return job{as: as, dir: dir, argv: []string{"unshare", "--user", "--map-root-user", "sh", "-c", limit, "sh",
			memjailPath(t), "run", "--view", view, "--rox", "/usr", "--rw", dir, "--", "sh", "-c",
			"test -e /etc/passwd && echo seen"}}.run(t)
	}
	if o := run("shared"); o.code != 0 {
		t.Fatalf("control: %v", o)
	}
	const why = "making a user namespace: no space left on device (user.max_user_namespaces allows no more"
	if o := run("auto"); o.code != 0 || o.stdout != "seen\n" || !strings.Contains(o.stderr, why) {
		t.Errorf("auto: %v", o)
	}
	if o := run("private"); o.code != 125 || o.stdout != "" || !strings.Contains(o.stderr, why) {
		t.Errorf("private: %v", o)
	}
}

// TestViewIsPrivate: what is mounted outside later into a granted directory does not appear in a
// view. Control: without a view it does.
func TestViewIsPrivate(t *testing.T) {
	if os.Geteuid() != 0 || os.Getenv(ownMountsMarker) == "" {
		t.Skip("only root in a mount namespace of its own mounts anything")
	}
	as := account{"root", -1}
	for _, view := range []string{"shared", "private"} {
		dir := as.workDir(t)
		script := `echo ready >ready; while ! [ -e mounted ]; do sleep 0.05; done; test -e in/version && echo seen || echo unseen`
		cmd := job{as: as, dir: dir, argv: []string{memjailPath(t), "run", "-q", "--view", view, "--rox",
			"/usr", "--rw", dir, "--", "sh",
			"-c", script}}.command(t, t.Context())
		if err := os.Mkdir(filepath.Join(dir, "in"), 0o755); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, 20*time.Second, "the command has started", func() bool {
			_, err := os.Stat(filepath.Join(dir, "ready"))
			return err == nil
		})
		if err := unix.Mount("proc", filepath.Join(dir, "in"), "proc", 0, ""); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "mounted"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		err := cmd.Wait()
		if err := unix.Unmount(filepath.Join(dir, "in"), 0); err != nil {
			t.Error(err)
		}
		want := map[string]string{"shared": "seen\n", "private": "unseen\n"}[view]
		if err != nil || out.String() != want {
			t.Errorf("%s: %v: %q, want %q", view, err, &out, want)
		}
	}
}

// TestViewShowsNotifySocket: a service in a private view tells its manager that it is ready.
// Control: another socket in the same directory does not exist there.
func TestViewShowsNotifySocket(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		as.needs(t, "/usr/bin/python3")
		dir, outside := as.workDir(t), as.workDir(t)
		var sockets []*net.UnixConn
		for _, name := range []string{"notify", "other"} {
			socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(outside, name),
				Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer socket.Close()
			if err := os.Chmod(filepath.Join(outside, name), 0o777); err != nil {
				t.Fatal(err)
			}
			sockets = append(sockets, socket)
		}
		script := `import os, socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
try: s.sendto(b"x", os.environ["NOTIFY_SOCKET"].replace("notify", "other"))
except FileNotFoundError: print("missing")`
		o := job{as: as, dir: dir, env: []string{"NOTIFY_SOCKET=" + filepath.Join(outside, "notify")},
			argv: []string{memjailPath(t), "exec", "--view", "private", "--rox", "/usr", "--rw", dir, "--",
				"/usr/bin/python3", "-c", script}}.run(t)
		if o.stdout != "missing\n" || o.code != 0 {
			t.Errorf("%v", o)
		}
		text := make([]byte, 64)
		sockets[0].SetReadDeadline(time.Now().Add(5 * time.Second))
		if n, err := sockets[0].Read(text); err != nil || string(text[:n]) != "READY=1" {
			t.Errorf("the manager got %q: %v", text[:n], err)
		}
	})
}

// TestHomeOutOfReach: a HOME that the user cannot enter, as sudo may leave it, is as good as
// one in which nothing exists. A path that may not be missing is an error all the same.
func TestHomeOutOfReach(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		dir := as.workDir(t)
		home := filepath.Join(dir, "home")
		shell(t, dir, "mkdir -p home/.cargo work && chmod 0 home && chmod 777 work")
		t.Cleanup(func() { _ = os.Chmod(home, 0o700) })
		for _, flags := range []string{"-p workspace", "-p build", "-p agent", "-p workspace --view private"} {
			argv := append([]string{memjailPath(t), "run", "-q"}, strings.Fields(flags)...)
			o := job{as: as, dir: filepath.Join(dir, "work"), argv: append(argv, "--", "true"),
				env: []string{"HOME=" + home}}.run(t)
			if o.code != 0 {
				t.Errorf("%s: %v", flags, o)
			}
		}
		argv := []string{memjailPath(t), "run", "--ro", home + "/.cargo/x", "--", "true"}
		o := job{as: as, dir: dir, argv: argv}.run(t)
		if o.code != 125 {
			t.Errorf("%v", o)
		}
	})
}
