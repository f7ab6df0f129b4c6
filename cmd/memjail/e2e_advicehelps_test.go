package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// helped are refusals of every kind that advice can lift: base are the flags that cause
// them. HOME is the home directory, OUT a process outside.
var helped = []struct {
	name, base, script string
	root               bool // an ordinary user is refused outside, too
}{
	{"read", "-p workspace", "cat $HOME/f", false},
	{"list", "-p workspace", "ls $HOME/d", false},
	{"write", "-p workspace", "echo x >> $HOME/f", false},
	{"create", "-p workspace", "touch $HOME/d/new", false},
	{"mkdir", "-p workspace", "mkdir $HOME/d/sub", false},
	{"rmdir", "-p workspace", "rmdir $HOME/d/e", false},
	{"unlink", "-p workspace", "rm -f $HOME/d/f", false},
	{"rename", "-p workspace", "mv $HOME/d/f $HOME/d/g", false},
	{"symlink", "-p workspace", "ln -s x $HOME/d/l", false},
	{"hard link", "-p workspace --ro $HOME/d", "ln $HOME/d/f second", false},
	{"fifo", "-p workspace", "mkfifo $HOME/d/p", false},
	{"truncate", "-p workspace", "truncate -s 0 $HOME/d/f", false},
	{"execute", "-p workspace", "$HOME/d/tool", false},
	{"chmod", "-p workspace", "chmod 600 $HOME/d/f", false},
	{"no metadata", "-p workspace --allow metadata=deny", "chmod 600 own", false},
	{"connect", "--connect-tcp 9", "exec 3<>/dev/tcp/127.0.0.1/10", false},
	{"bind", "--bind-tcp 9", `/usr/bin/python3 -c 'import socket; socket.socket().bind(("127.0.0.1", 17392))'`, false},
	{"family", "--network netlink", `/usr/bin/python3 -c 'import socket; socket.socket()'`, false},
	{"UNIX socket", "-p workspace", `/usr/bin/python3 -c 'import socket; socket.socket(socket.AF_UNIX)'`, false},
	{"ptrace", "",
		"/usr/bin/python3 -c 'import ctypes, sys; sys.exit(ctypes.CDLL(None).ptrace(0, 0, 0, 0) < 0)'", false},
	{"namespace", "", "unshare -U true", false},
	{"signal", "", "kill -0 $OUT", false},
	{"signal to a group", "", "kill -0 -- -$OUT", false},
	{"capability", "", "unshare -u true", true},
	{"denied call", "--allow syscalls.deny=personality",
		"/usr/bin/python3 -c 'import ctypes, sys; sys.exit(ctypes.CDLL(None).syscall(135, 0xffffffff) < 0)'", false},
	{"system", "--allow procfs.system=none", "cat /proc/loadavg", false},
	{"memory", "", "head -c 0 /proc/self/mem", false},
	{"name of a process", "--allow procfs.write=", "echo x > /proc/self/comm", false},
	{"another process", "", "cat /proc/$$/environ && true", false},
	{"device", "", "exec 3</dev/loop-control", true},
	{"program directory", "", "exec 3>>/usr/lib/os-release", true},
}

// TestAdviceHelps pastes what is said to allow a refusal into a shell: the same refusal is
// gone then.
func TestAdviceHelps(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		for _, test := range helped {
			if test.root && !as.isRoot() {
				continue
			}
			t.Run(test.name, func(t *testing.T) {
				home, dir := as.homeDir(t), as.workDir(t)
				plantFile(t, as, home, "f", "")
				plantFile(t, as, home, "d/f", "")
				plantFile(t, as, home, "d/e/.keep", "")
				os.Remove(filepath.Join(home, "d", "e", ".keep"))
				plantFile(t, as, home, "d/tool", "#!/bin/sh\n")
				os.Chmod(filepath.Join(home, "d", "tool"), 0o755)
				plantFile(t, as, dir, "own", "")
				env := []string{"HOME=" + home, "OUT=" + sleeper(t, as)}
				run := func(flags string) outcome {
					pasted := memjailPath(t) + " run -v " + flags + ` -- bash -c "$1"`
					return job{as: as, dir: dir, env: env, argv: []string{"bash", "-c", pasted, "bash",
						test.script}}.run(t)
				}
				before := run(test.base)
				flags := advisedFlags(before)
				if before.code == 0 || flags == "" || !strings.Contains(before.stderr, "refused:") {
					t.Fatalf("no advice: %v", before)
				}
				if flag, old, ok := strings.Cut(flags, " in place of "); ok {
					flags = flag
					test.base = strings.Replace(test.base, old, "", 1)
				}
				after := run(test.base + " " + flags)
				failed := after.code != 0 && test.name != "connect" // nobody listens there
				if failed || strings.Contains(after.stderr, "refused:") {
					t.Errorf("with %s: %v\nbefore: %v", flags, after, before)
				}
			})
		}
	})
}

// dangerous are refusals whose lifting would open what lint warns about. Each names what is
// said first.
var dangerous = []struct{ name, script, said string }{
	{"a key", "cat $HOME/.ssh/id", "keys"},
	{"a token", "cat $HOME/.npmrc", "tokens"},
	{"cloud credentials", "ls $HOME/.aws; cat $HOME/.aws/credentials", "credentials"},
	{"a history", "cat $HOME/.bash_history", "histories"},
	{"a start-up file", "echo evil >> $HOME/.bashrc", "run when they start"},
	{"a hook of git", "echo evil >> $HOME/.gitconfig", "git runs programs"},
	{"login", "touch $HOME/.config/autostart/x", "login"},
	{"a directory of PATH", "touch $HOME/bin/ls", "PATH"},
	{"a name in the home directory", "touch $HOME/.state", "could be read"},
	{"a socket of a daemon", `/usr/bin/python3 -c 'import socket; socket.socket(socket.AF_UNIX)'`, "daemons outside"},
}

// TestAdviceDangerous: what would open keys, tokens, start-up files or daemons is said before
// the flag that would; the combined line has no such flag, and a private home instead.
func TestAdviceDangerous(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		home := as.homeDir(t)
		for _, name := range []string{".ssh/id", ".npmrc", ".aws/credentials", ".bash_history", ".bashrc", ".gitconfig",
			".config/autostart/.keep", "bin/.keep"} {
			plantFile(t, as, home, name, "")
		}
		for _, test := range dangerous {
			dir := as.workDir(t)
			o := job{as: as, dir: dir, env: []string{"HOME=" + home}, argv: []string{memjailPath(t), "run", "-v", "-p",
				"workspace", "--", "bash", "-c", test.script + "; false"}}.run(t)
			said := false
			for line := range strings.Lines(o.stderr) {
				warning, advice, advised := strings.Cut(line, "to allow it: ")
				if !advised || strings.HasPrefix(advice, "--ls") {
					continue
				}
				said = true
				if !strings.Contains(warning, "careful (") || !strings.Contains(warning, test.said) {
					t.Errorf("%s: no warning of %q in %q", test.name, test.said, line)
				}
			}
			all := ""
			for line := range strings.Lines(o.stderr) {
				if _, flags, ok := strings.Cut(line, "to allow all of this: "); ok {
					all = flags
				}
			}
			inHome := strings.Contains(test.script, "$HOME")
			if !said || inHome && (strings.Contains(all, home) || !strings.Contains(all, "--private-home")) {
				t.Errorf("%s: the combined line is %q: %v", test.name, all, o)
			}
		}
		// Java's write to coredump_filter needs nothing, and no memory is opened for it.
		o := job{as: as, dir: as.workDir(t), argv: []string{memjailPath(t), "run", "-v", "--", "bash", "-c",
			"echo 1 > /proc/self/coredump_filter; echo 1 > /proc/sys/kernel/hostname"}}.run(t)
		if strings.Contains(o.stderr, "to allow it: --memory") || strings.Contains(o.stderr, "of this: --memory") {
			t.Errorf("memory would be opened for what is none: %v", o)
		}
	})
}

// TestHarmlessIsNotCounted: the C library's search for a name server cache is told in one line,
// whatever closes the socket and however many programs search, and opens no advice.
func TestHarmlessIsNotCounted(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		for _, flags := range []string{"--network inet", "--network none", "-p workspace",
			"-p workspace --network inet",
			"-p strict --rox /usr --rox /bin --rox /lib --rox /lib64 --ro /etc"} {
			argv := append([]string{memjailPath(t), "run", "-v"}, strings.Fields(flags)...)
			o := job{as: as, dir: as.workDir(t), argv: append(argv, "--", "/bin/bash", "-c",
				"/usr/bin/getent passwd root; /usr/bin/getent group root; exit 0")}.run(t)
			if o.code != 0 || strings.Contains(o.stderr, "refused:") || strings.Contains(o.stderr, "to allow") ||
				strings.Count(o.stderr, "also refused, mostly harmless") != 1 {
				t.Errorf("%s: %v", flags, o)
			}
		}
	})
}
