package main_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/memjail/memjail/sandbox/report/reporttest"
)

// logLines reads a log in JSON.
func logLines(t *testing.T, file string) []map[string]any {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var lines []map[string]any
	for line := range strings.Lines(string(text)) {
		var value map[string]any
		if err := json.Unmarshal([]byte(line), &value); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		lines = append(lines, value)
	}
	return lines
}

// TestLogSchema holds logs of real refusals and docs/log-schema.json together.
func TestLogSchema(t *testing.T) {
	schema := reporttest.ReadSchema(t, filepath.Join("..", "..", "docs", "log-schema.json"))
	forAccounts(t, func(t *testing.T, as account) {
		home, dir := as.homeDir(t), as.workDir(t)
		plantFile(t, as, home, ".npmrc", "token")
		plantFile(t, as, home, "n\xff\x1b\n", "")
		python := []string{"/usr/bin/python3", "-c"}
		kinds := map[string]bool{}
		for _, test := range []struct{ run, argv []string }{
			{[]string{"-p", "workspace"}, []string{"bash", "-c", `cat ~/.npmrc ~/n*; ls ~; mkdir ~/x; rm ~/.npmrc; ` +
				`./missing; chmod 600 ~/.npmrc; /bin/cat /proc/self/mem`}},
			{[]string{"--connect-tcp", "9"}, []string{"bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/10"}},
			{[]string{"--network", "none"}, append(python, "import socket; socket.socket(socket.AF_UNIX)")},
			{nil, append(python, "import ctypes; ctypes.CDLL(None).ptrace(0, 0, 0, 0)")},
			{[]string{"-p", "strict", "--add-exec"}, []string{"/bin/ls"}},
		} {
			log := filepath.Join(dir, "log")
			argv := append([]string{memjailPath(t), "run", "-q", "--log", log, "--log-format", "json"}, test.run...)
			o := job{as: as, dir: dir, argv: append(append(argv, "--"), test.argv...)}.run(t)
			lines := logLines(t, log)
			if len(lines) == 0 {
				t.Errorf("%v: nothing was logged: %v", test.argv, o)
			}
			for _, line := range lines {
				for _, complaint := range schema.Complaints(line) {
					t.Errorf("%v: %s", line, complaint)
				}
				for key := range line {
					kinds[key] = true
				}
			}
			if err := os.Remove(log); err != nil {
				t.Fatal(err)
			}
		}
		for key := range schema.Definitions["refusal"].Properties {
			if !kinds[key] && key != "harmless" {
				t.Errorf("no line has %q", key)
			}
		}
	})
	// The control: what the schema does not allow is found.
	for name, line := range map[string]map[string]any{
		"a forged key": {"time": "2026-01-01T00:00:00Z", "warning": "w", "more": "m"},
		"neither":      {"time": "2026-01-01T00:00:00Z"},
		"a text as remedy": {"time": "2026-01-01T00:00:00Z", "policy": "p", "pid": 1.0, "tid": 1.0, "comm": "c",
			"call": "c", "layer": "landlock", "errno": "EACCES", "remedy": "--ro /"},
	} {
		if len(schema.Complaints(line)) == 0 {
			t.Errorf("%s: not found", name)
		}
	}
}

// attemptsScript makes each attempt once and prints its outcome. Its arguments are the home
// directory and a process outside.
const attemptsScript = `
import ctypes, errno, os, signal, socket, struct, sys
home, outside = sys.argv[1], int(sys.argv[2])
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    if libc.syscall(*args) < 0:
        raise OSError(ctypes.get_errno(), "")
at = lambda name: os.path.join(home, name)
def connect():
    with socket.socket() as s:
        s.connect(("127.0.0.1", 10))
if (child := os.fork()) == 0: # of the root of one process nothing follows for others
    try:
        os.chroot("/usr")
    finally:
        os._exit(0)
os.waitpid(child, 0)
for name, attempt in {
    "list": lambda: os.listdir(home),
    "read": lambda: open(at("file")).close(),
    "write": lambda: open(at("file"), "r+").close(),
    "create": lambda: os.close(os.open(at("new"), os.O_CREAT | os.O_EXCL | os.O_WRONLY)),
    "mkdir": lambda: os.mkdir(at("d")),
    "mkdir with a slash": lambda: os.mkdir(at("d2/")),
    "rmdir": lambda: os.rmdir(at("dir")),
    "unlink": lambda: os.unlink(at("file")),
    "rename": lambda: os.rename(at("file"), at("file2")),
    "link": lambda: os.link(at("file"), at("file3")),
    "symlink": lambda: os.symlink("x", at("link2")),
    "mkfifo": lambda: os.mkfifo(at("fifo")),
    "truncate": lambda: os.truncate(at("file"), 0),
    "chmod": lambda: os.chmod(at("file"), 0o600),
    "chown": lambda: os.chown(at("file"), os.getuid(), -1),
    "utime": lambda: os.utime(at("file")),
    "setxattr": lambda: os.setxattr(at("file"), "user.x", b"1"),
    "execute": lambda: os.posix_spawn(at("tool"), ["tool"], {}),
    "execute a descriptor": lambda: call(322, os.open(at("tool"), os.O_PATH), b"", 0, 0, 0x1000),
    "read below a root": lambda: call(437, os.open(home, os.O_PATH), b"/file", struct.pack("3Q", 0, 0, 16), 24),
    "unnamed file": lambda: os.open(at("dir"), os.O_TMPFILE | os.O_WRONLY, 0o600),
    "name of an unnamed file": lambda: call(265, -100, b"/proc/self/fd/%d" % os.open(".", os.O_TMPFILE | os.O_RDWR,
        0o600), -100, at("named").encode(), 0x400),
    "move in": lambda: os.link(at("granted/f"), "second"),
    "connect": connect,
    "socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).close(),
    "kill": lambda: os.kill(outside, 0),
    "tkill": lambda: call(200, outside, 15),
    "tgkill": lambda: call(234, outside, outside, 0),
    "group": lambda: os.killpg(outside, 0),
    "queue": lambda: call(129, outside, 10, struct.pack("3i116x", 10, 0, -1)),
    "pidfd": lambda: signal.pidfd_send_signal(os.pidfd_open(outside), 0),
    "clone3": lambda: call(435, struct.pack("Q24xQ48x", 0x10000000, 17), 88),
    "keyctl": lambda: call(250, 0, -1, 0, 0),
    "ptrace": lambda: call(101, 0, 0, 0, 0),
    "unshare": lambda: call(272, 0x10000000),
    "memory": lambda: open("/proc/self/mem").close(),
}.items():
    try:
        attempt()
        print(name, "done")
    except OSError as e:
        print(name, errno.errorcode[e.errno])
`

// TestToldOnce: every kind of refusal is in the log once, with what would allow it; where
// nobody listens the program gets the same answers.
func TestToldOnce(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		home, dir := as.homeDir(t), as.workDir(t)
		plantFile(t, as, home, "file", "text")
		plantFile(t, as, home, "tool", "#!/bin/sh\n")
		plantFile(t, as, home, "dir/.keep", "")
		os.Remove(filepath.Join(home, "dir", ".keep"))
		os.Chmod(filepath.Join(home, "tool"), 0o755)
		plantFile(t, as, home, "granted/f", "")
		plantFile(t, as, dir, "policy.toml", "version = 1\nextends = [\"workspace\"]\n[paths]\nro = [\""+home+
			"/granted\"]\n[syscalls]\ndeny = [\"keyctl\"]\n[network]\nconnect-tcp = [9]\n")
		victim := sleeper(t, as)
		argv := []string{"/usr/bin/python3", "-c", attemptsScript, home, victim}
		silent := job{as: as, dir: dir, argv: append([]string{memjailPath(t), "run", "-q", "--report=off", "-p",
			"./policy.toml", "--"}, argv...)}.run(t)
		told := job{as: as, dir: dir, argv: append([]string{memjailPath(t), "run", "-q", "--report=all",
			"--log", "log", "--log-format", "json", "-p", "./policy.toml", "--"}, argv...)}.run(t)
		if silent.stdout != told.stdout || strings.Contains(told.stdout, "list done") {
			t.Errorf("the answers differ where somebody listens:\n%v\n%v", silent, told)
		}
		counts, refused := map[string]int{}, 0
		for _, line := range logLines(t, filepath.Join(dir, "log")) {
			if line["comm"] != "python3" || line["remedy"] == nil && line["call"] != "utimensat" {
				continue
			}
			path, _ := line["path"].(string)
			access, _ := line["access"].(string)
			counts[strings.Join([]string{line["call"].(string), filepath.Base(path), access,
				line["errno"].(string)}, " ")]++
		}
		for line := range strings.Lines(told.stdout) {
			if !strings.HasSuffix(line, "done\n") {
				refused++
			}
		}
		for kind, n := range counts {
			if n != 1 {
				t.Errorf("%s is told %d times", kind, n)
			}
		}
		if len(counts) != refused {
			t.Errorf("%d kinds are told of %d refusals: %v\n%s", len(counts), refused, counts, told.stdout)
		}
	})
}

// sleeper starts a process outside every sandbox and returns its number.
func sleeper(t *testing.T, as account) string {
	t.Helper()
	cmd := exec.Command("sleep", "300")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as.credential(), Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return strconv.Itoa(cmd.Process.Pid)
}

// otherwiseScript makes attempts that the kernel refuses for another reason than the rules.
const otherwiseScript = `
import ctypes, errno, os, sys
home = sys.argv[1]
at = lambda name: os.path.join(home, name)
def as_user(attempt):
    r, w = os.pipe()
    if os.fork() == 0:
        libc(setresuid, 12345, 12345, 12345)
        try:
            attempt()
        except OSError as e:
            os.write(w, bytes([e.errno]))
        os._exit(0)
    os.close(w)
    if (error := os.read(r, 1)):
        raise OSError(error[0], "")
setresuid = 117 if os.uname().machine == "x86_64" else 147
renameat2, tgkill = (316, 234) if os.uname().machine == "x86_64" else (276, 131)
def libc(number, *args):
    if ctypes.CDLL(None, use_errno=True).syscall(number, *args) < 0:
        raise OSError(ctypes.get_errno(), "")
for attempt in (
    lambda: open(at("missing")),
    lambda: open(at("file/below")),
    lambda: os.open(at("file"), os.O_CREAT | os.O_EXCL | os.O_WRONLY),
    lambda: os.open(at("file"), os.O_DIRECTORY),
    lambda: os.open(at("dir"), os.O_WRONLY),
    lambda: os.open(at("dir"), os.O_CREAT | os.O_RDWR),
    lambda: os.open(at("link"), os.O_NOFOLLOW),
    lambda: os.open(at("loop"), os.O_RDONLY),
    lambda: os.mkdir(at("dir")),
    lambda: os.mkdir(at("missing/below")),
    lambda: os.rmdir(at("missing")),
    lambda: os.unlink(at("missing")),
    lambda: os.rename(at("missing"), at("new")),
    lambda: os.symlink("x", at("file")),
    lambda: os.link(at("missing"), at("new")),
    lambda: os.truncate(at("missing"), 0),
    lambda: os.chmod(at("missing"), 0),
    lambda: os.execv(at("missing"), ["x"]),
    lambda: os.kill(4194303, 0),
    lambda: os.kill(os.getppid(), 99),
    lambda: os.killpg(4194303, 0),
    lambda: libc(tgkill, os.getppid(), os.getpid(), 0),
    lambda: os.listdir(at("file")),
    lambda: os.execv(at("dir"), ["x"]),
    lambda: os.execv(at("file"), ["x"]),
    lambda: os.truncate(at("dir"), 0),
    lambda: os.rename(at("dir/."), at("new")),
    lambda: os.rename(at("file"), at("new/")),
    lambda: os.unlink(at("file/")),
    lambda: os.symlink("x", at("new/")),
    lambda: os.rename("/dev/shm/none-%d" % os.getpid(), at("new")),
    lambda: libc(renameat2, -100, at("dir/x").encode(), -100, at("file").encode(), 1),
    lambda: os.link("/dev/full", at("new")),
    *((lambda: os.chmod("/usr/bin/env", 0o755), lambda: open("/etc/shadow"), lambda: open("/usr/new", "x"))
      if os.getuid() else (lambda: as_user(lambda: os.chmod("/usr/bin/env", 0o755)),
      lambda: as_user(lambda: open(at("secret"))), lambda: as_user(lambda: open(at("private/new"), "x")))),
):
    try:
        attempt()
        print("done")
    except OSError as e:
        print(errno.errorcode[e.errno])
`

// TestNeverTold: what the kernel answers by itself is no refusal, and the answer is the same
// as outside.
func TestNeverTold(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		home, dir := as.homeDir(t), as.workDir(t)
		plantFile(t, as, home, "file", "")
		plantFile(t, as, home, "dir/x", "")
		plantFile(t, as, home, "secret", "")
		plantFile(t, as, home, "private/x", "")
		for name, mode := range map[string]os.FileMode{"secret": 0o600, "private": 0o700, ".": 0o755} {
			if err := os.Chmod(filepath.Join(home, name), mode); err != nil {
				t.Fatal(err)
			}
		}
		for name, target := range map[string]string{"link": "file", "loop": "loop"} {
			if err := os.Symlink(target, filepath.Join(home, name)); err != nil {
				t.Fatal(err)
			}
		}
		argv := []string{"/usr/bin/python3", "-c", otherwiseScript, home}
		control := job{as: as, dir: dir, argv: argv}.run(t)
		o := job{as: as, dir: dir, argv: append([]string{memjailPath(t), "run", "-v", "-p", "workspace", "--"},
			argv...)}.run(t)
		if o.stdout != control.stdout || strings.Contains(o.stdout, "done") || strings.Count(o.stdout, "\n") != 36 {
			t.Errorf("outside\n%v\ninside\n%v", control, o)
		}
		if strings.Contains(o.stderr, "refused:") {
			t.Errorf("told of what nobody refused: %v", o)
		}
	})
}
