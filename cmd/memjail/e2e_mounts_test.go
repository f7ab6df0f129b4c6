package main_test

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// foreignPlaces are starting points that the mount table does not show, each with a
// procfs below: the script has /tmp and the directory $d for its own and ends by
// "begin", which is called in the place.
var foreignPlaces = []struct{ name, script string }{
	{"another mount namespace", `
unshare -m --propagation private sh -c "$tree; touch $d/ready; exec sleep 60" &
there=$!
while [ ! -e $d/ready ]; do sleep 0.05; done
cd /proc/$there/root$d/jail
begin; kill $there`},
	{"under a mount that covers it", `
eval "$tree"
cd $d/jail
mount --bind $d $d
begin`},
	{"above the root directory", `
mkdir $d/root; mount --rbind / $d/root
eval "$tree"
cd $d/jail
root=$d/root
begin`},
}

// foreignHarness runs the attempt without memjail and then with each of its ways to
// start something. What it writes is its own memory and a file with a canary.
const foreignHarness = `set -e
d=$PWD memjail=$1 uid=$2 how=$3
chmod 755 .; mkdir jail
tree="mount -t tmpfs none $d/jail; mkdir $d/jail/proc; mount -t proc proc $d/jail/proc; echo old >$d/jail/file; chmod 666 $d/jail/file"
launch() { python3 -c '
import os, sys
if sys.argv[1]: os.chroot(sys.argv[1])
uid = int(sys.argv[2])
if uid >= 0: os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
os.execvp(sys.argv[3], sys.argv[3:])' "$root" $uid "$@"; }
attempt='
import ctypes, os, sys
where, what = sys.argv[1], sys.argv[2]
if what == "memory":
    victim = ctypes.create_string_buffer(b"old")
    with open(where, "r+b", buffering=0) as f:
        f.seek(ctypes.addressof(victim)); f.write(b"new")
    print(victim.value.decode())
else:
    with open(where, "w") as f: f.write("new\n")
    print("new")'
begin() {
	case $how in
	cwd) launch "$@" python3 -c "$attempt" proc/self/mem memory;;
	directory) exec 3<.; (cd /; launch "$@" python3 -c "$attempt" /proc/self/fd/3/proc/self/mem memory);;
	file) exec 3<file; (cd /; launch "$@" python3 -c "$attempt" /proc/self/fd/3 file);;
	esac || echo "status $?"
}
`

// TestForeignStartingPoints: from a directory or file that lies where the sandbox's
// mount table shows nothing, no rule of the sandbox has been made.
func TestForeignStartingPoints(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	for _, place := range foreignPlaces {
		for _, who := range accounts() {
			for _, how := range []string{"cwd", "directory", "file"} {
				t.Run(place.name+"/"+who.name+"/"+how, func(t *testing.T) {
					who.needs(t, "python3", "unshare")
					run := func(launcher ...string) string { return foreignRun(t, place.script, who, how, launcher...) }
					if got := run(); !strings.HasSuffix(got, "new\n") {
						t.Fatalf("the control: %s", got)
					}
					for _, launcher := range [][]string{{"run"}, {"exec", "--best-effort"}} {
						launcher = append([]string{memjailPath(t)}, launcher...)
						if how != "cwd" {
							launcher = append(launcher, "--keep-fd", "3")
						}
						launcher = append(launcher, "--")
						got := run(launcher...)
						if strings.Contains(got, "new") || !strings.Contains(got, "status 125") ||
							!strings.Contains(got, "mount") {
							t.Errorf("%q: %s", launcher, got)
						}
					}
				})
			}
		}
	}
}

func foreignRun(t *testing.T, place string, who account, how string, launcher ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "mj-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	uid := "-1"
	if who.uid >= 0 {
		uid = "65534"
	}
	script := foreignHarness + strings.Replace(place, "begin", `begin `+strings.Join(launcher, " "), 1)
	cmd := exec.Command("unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", memjailPath(t), uid, how)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// TestUsualStartingPoints: what shells hand to a program works as without memjail,
// also where that has other mounts than the shell.
func TestUsualStartingPoints(t *testing.T) {
	const script = `run="$*"
echo in >file; mkdir gone
$run cat <file
$run echo written >out; cat out
$run echo appended >>out; cat out
$run cat <<X
here
X
(cd gone; rmdir ../gone; $run echo removed)
(echo through >fifo & $run cat <fifo)
unshare -m --propagation private $run cat <file >out; cat out
unshare -m --propagation private sh -c "mkdir p; mount -t proc proc p; $run sh -c 'cat; pwd'" <file >out; cat out
`
	for _, who := range accounts() {
		text := script
		if !who.isRoot() {
			text = script[:strings.Index(script, "unshare")]
		}
		run := func(launcher string) string {
			dir := who.workDir(t)
			if err := syscall.Mkfifo(dir+"/fifo", 0o600); err != nil {
				t.Fatal(err)
			}
			who.own(t, dir+"/fifo")
			cmd := exec.Command("sh", append([]string{"-c", text, "sh"}, strings.Fields(launcher)...)...)
			cmd.Dir, cmd.Env, cmd.SysProcAttr = dir, who.environ(t,
				dir), &syscall.SysProcAttr{Credential: who.credential()}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%s: %s: %v", who.name, launcher, err)
			}
			return strings.ReplaceAll(string(out), dir, "DIR")
		}
		want := run("env")
		for _, launcher := range []string{" run -q --", " exec -q --"} {
			if got := run(memjailPath(t) + launcher); got != want {
				t.Errorf("%s:%s: %s\nwant %s", who.name, launcher, got, want)
			}
		}
	}
}

// TestReadOnlyProcfs: where /proc/self/coredump_filter cannot be written the limit
// alone keeps core dumps away, and says so.
func TestReadOnlyProcfs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil || strings.ContainsAny(string(pattern[:1]), "|@/") {
		t.Skipf("core files go elsewhere (%q, %v)", pattern, err)
	}
	const script = `mount -o remount,bind,ro /proc 2>/dev/null || { mount --bind /proc /proc && mount -o remount,bind,ro /proc; }
ulimit -c unlimited
"$@" sh -c 'ulimit -S -c unlimited; kill -SEGV $$'; ls | grep -c core; rm -f core*`
	for _, test := range []struct {
		want     string
		launcher []string
	}{{"1\n", []string{"env"}}, {"0\n", []string{memjailPath(t), "run", "--"}}} {
		argv := append([]string{"-m", "--propagation", "private", "sh", "-c", script, "sh"}, test.launcher...)
		cmd := exec.Command("unshare", argv...)
		cmd.Dir = t.TempDir()
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if string(out) != test.want {
			t.Errorf("%q: %q (%v), want %q\n%s", test.launcher, out, err, test.want, stderr.String())
		}
		if inside := test.want == "0\n"; inside && !strings.Contains(stderr.String(), "prevented by RLIMIT_CORE only") {
			t.Errorf("there is no warning: %s", stderr.String())
		}
	}
}

// TestReopening: under path rules a redirected file can be opened again by
// /dev/stdout and the like as it was opened, and in no other way.
func TestReopening(t *testing.T) {
	const script = `run="$*"; printf 'in\n' >in; printf 'old\n' >out; ln out link
$run sh -c 'cat /dev/stdin; cat /proc/self/fd/0' <in
$run sh -c 'echo new >/dev/stdout; echo more >>/proc/self/fd/1; echo err >>/dev/fd/2' >out 2>>out; cat out
$run sh -c 'echo appended >>/dev/stderr' 2>>out; cat out
$run /usr/bin/python3 -c 'import fcntl, os; fcntl.fcntl(1, fcntl.F_SETFL, 0); os.ftruncate(1, 0); os.pwrite(1, b"rewritten\n", 0)' >>out; cat out
(sleep 0.1; echo through) >fifo & $run cat /dev/stdin <fifo
`
	const closed = `
$run sh -c 'echo x >/dev/stdin' <in 2>/dev/null || echo refused
$run cat /dev/stderr 2>out || echo refused
$run cat $PWD/in 2>/dev/null </dev/null || echo refused
$run cat /dev/stdin <$PWD 2>/dev/null || echo refused
`
	for _, who := range accounts() {
		run := func(launcher, script string) string {
			dir := who.workDir(t)
			if err := syscall.Mkfifo(dir+"/fifo", 0o600); err != nil {
				t.Fatal(err)
			}
			who.own(t, dir+"/fifo")
			cmd := exec.Command("sh", append([]string{"-c", script, "sh"}, strings.Fields(launcher)...)...)
			cmd.Dir, cmd.Env, cmd.SysProcAttr = dir, who.environ(t,
				dir), &syscall.SysProcAttr{Credential: who.credential()}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%s: %s: %v", who.name, launcher, err)
			}
			return string(out)
		}
		strict := memjailPath(t) + " run -q --rox /usr --rox /bin --rox /lib --rox /lib64 --ro /etc --"
		want := run("env", script)
		if got := run(strict, script); got != want {
			t.Errorf("%s: %s\nwant %s", who.name, got, want)
		}
		// a directory
		if got := run("env", `run="$*"; echo in >in; chmod 600 in;`+closed); strings.Count(got, "refused") != 1 {
			t.Errorf("%s: the control: %s", who.name, got)
		}
		if got := run(strict, `run="$*"; echo in >in;`+closed); got != strings.Repeat("refused\n", 4) {
			t.Errorf("%s: %s", who.name, got)
		}
	}
}

// TestListingProcfs: under path rules the directories of procfs can be listed, and
// what begins with that works.
func TestListingProcfs(t *testing.T) {
	for _, who := range accounts() {
		dir := who.workDir(t)
		for _, command := range []string{
			"ls -d /proc/self/fd /proc/self/task /proc/self/fdinfo /proc/net /proc/sys/kernel",
			"ls /proc/self/fd", "ls /dev/fd", "ls /proc/self/task/", "ps -o comm= -p $$", "lscpu -p=CPU",
			"top -bn1 -p $$",
			`/usr/bin/python3 -c 'import subprocess; print(subprocess.run(["true"], close_fds=True).returncode)'`,
		} {
			run := func(launcher ...string) string {
				cmd := exec.Command("sh", append([]string{"-c", `exec "$@"`, "sh"},
					append(launcher, "sh", "-c", command+" >/dev/null && echo done")...)...)
				cmd.Dir, cmd.Env, cmd.SysProcAttr = dir, who.environ(t,
					dir), &syscall.SysProcAttr{Credential: who.credential()}
				out, _ := cmd.CombinedOutput()
				return string(out)
			}
			want := run()
			for _, policy := range [][]string{
				{"-p", "workspace"}, {"-p", "strict", "--rox", "/usr", "--rox", "/bin", "--rox", "/lib",
					"--rox", "/lib64", "--ro", "/etc", "--ro", "/sys", "--allow", "procfs.system=read"},
			} {
				launcher := append(append([]string{memjailPath(t), "run", "-q"}, policy...), "--")
				if got := run(launcher...); got != want {
					t.Errorf("%s: %q: %s: %s\nwant %s", who.name, policy, command, got, want)
				}
			}
		}
	}
}

// TestNestedUnderPathRules: inside a sandbox with path rules / cannot be listed, and
// another memjail there grants as much as the outer one does.
func TestNestedUnderPathRules(t *testing.T) {
	const script = `echo x >file && cat file /etc/hostname && echo y >/dev/null && head -c 1 /dev/zero | wc -c; cat /proc/self/mem 2>/dev/null || echo closed`
	for _, who := range accounts() {
		dir := who.workDir(t)
		run := func(launcher ...string) (string, string) {
			cmd := exec.Command(memjailPath(t), append(launcher, "sh", "-c", script)...)
			var stderr strings.Builder
			cmd.Dir, cmd.Env, cmd.SysProcAttr, cmd.Stderr = dir, who.environ(t,
				dir), &syscall.SysProcAttr{Credential: who.credential()}, &stderr
			out, _ := cmd.Output()
			return string(out), stderr.String()
		}
		outer := []string{"run", "-q", "-p", "workspace", "--rox", memjailPath(t), "--"}
		want, _ := run(outer...)
		got, said := run(append(outer, memjailPath(t), "run", "--")...)
		if got != want || !strings.HasSuffix(want, "1\nclosed\n") || strings.Contains(said, "cannot be listed") {
			t.Errorf("%s: %s\nwant %s\n%s", who.name, got, want, said)
		}
	}
}

// TestPlainChroot: root starts in a chroot into a plain directory, without devices and
// with a second procfs, its output going to a file outside.
func TestPlainChroot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	const script = `mkdir jail jail/proc jail/p2; cp $1 jail/memjail
mount -t proc proc jail/proc; mount -t proc proc jail/p2
chroot jail /memjail run -q -- /memjail version >out && grep -c . out
chroot jail /memjail run -q --allow private-mounts=yes -- /memjail version >out 2>&1; grep -c 'is not a mount' out`
	cmd := exec.Command("unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", memjailPath(t))
	cmd.Dir = t.TempDir()
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "1\n1\n" {
		t.Errorf("%v: %s", err, out)
	}
}
