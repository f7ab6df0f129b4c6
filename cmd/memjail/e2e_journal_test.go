package main_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// fakeJournal is a socket where the systemd journal has its own, for programs that it
// starts in a mount namespace.
type fakeJournal struct {
	as     account
	dir    string
	socket *net.UnixConn

	mu      sync.Mutex
	entries []map[string]string
}

// newFakeJournal listens. reads: it takes what it is sent, until the test ends.
func newFakeJournal(t *testing.T, as account, reads bool) *fakeJournal {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a mount namespace takes root")
	}
	as.needs(t, "unshare", "setpriv")
	if out, err := exec.Command("unshare", "--mount", "mount", "-t", "tmpfs", "none",
		"/run").CombinedOutput(); err != nil {
		t.Skipf("this container lets nobody mount: %s", out)
	}
	j := &fakeJournal{as: as, dir: as.workDir(t)}
	j.listen(t, reads)
	return j
}

func (j *fakeJournal) listen(t *testing.T, reads bool) {
	t.Helper()
	path := filepath.Join(j.dir, "socket")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	j.socket = socket
	if reads {
		go j.read(socket)
	}
}

func (j *fakeJournal) read(socket *net.UnixConn) {
	for room := make([]byte, 1<<20); ; {
		n, err := socket.Read(room)
		if err != nil {
			return
		}
		entry := journalFields(room[:n])
		j.mu.Lock()
		j.entries = append(j.entries, entry)
		j.mu.Unlock()
	}
}

// journalFields reads an entry in the journal's protocol.
func journalFields(entry []byte) map[string]string {
	fields := map[string]string{}
	for len(entry) > 0 {
		line, rest, _ := bytes.Cut(entry, []byte{'\n'})
		name, value, found := bytes.Cut(line, []byte{'='})
		if !found && len(rest) > 8 {
			end := 8 + min(binary.LittleEndian.Uint64(rest), uint64(len(rest)-9))
			value, rest = rest[8:end], rest[end+1:]
		}
		fields[string(name)], entry = string(value), rest
	}
	return fields
}

// of returns the entries of an event.
func (j *fakeJournal) of(event string) []map[string]string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var found []map[string]string
	for _, entry := range j.entries {
		if entry["MEMJAIL_EVENT"] == event {
			found = append(found, entry)
		}
	}
	return found
}

// one waits for the one entry of an event.
func (j *fakeJournal) one(t *testing.T, event string) map[string]string {
	t.Helper()
	eventually(t, 5*time.Second, "the journal hears of "+event, func() bool { return len(j.of(event)) > 0 })
	if found := j.of(event); len(found) > 1 {
		t.Errorf("%s is told more than once: %v", event, found)
	}
	return j.of(event)[0]
}

// has checks fields of an entry.
func has(t *testing.T, entry, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if entry[name] != value {
			t.Errorf("%s is %q, want %q", name, entry[name], value)
		}
	}
}

// job runs a shell's script where the journal is this one.
func (j *fakeJournal) job(t *testing.T, script string) job {
	script = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && mount --bind " + j.dir +
		" /run/systemd/journal && exec " +
		j.setpriv() + "sh -c '" + script + "'"
	argv := []string{"unshare", "--mount", "--propagation", "private", "sh", "-c", script}
	return job{as: account{"root", -1}, dir: j.as.workDir(t), argv: argv, timeout: 20 * time.Second}
}

func (j *fakeJournal) setpriv() string {
	if j.as.uid < 0 {
		return ""
	}
	return fmt.Sprintf("setpriv --reuid=%d --regid=%d --clear-groups ", j.as.uid, j.as.uid)
}

// readsMemory is opened by whoever may.
const readsMemory = `dd if=/proc/self/mem of=/dev/null count=0 2>/dev/null && echo open || echo refused`

// streams says that standard error is a stream to the journal.
const streams = "export JOURNAL_STREAM=$(stat -L -c %d:%i /dev/fd/2); "

// TestJournal: what is refused reaches the journal where it is asked for, or where
// standard error goes there anyway.
func TestJournal(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		for _, test := range []struct {
			name, script string
			told         bool
		}{
			{"control", streams + `sh -c "` + readsMemory + `"`, false},
			{"run-asked", `memjail run --log journal -- sh -c "` + readsMemory + `"`, true},
			{"exec-asked", `exec memjail exec --log journal -- sh -c "` + readsMemory + `"`, true},
			{"run-stream", streams + `memjail run -- sh -c "` + readsMemory + `"`, true},
			{"exec-stream", streams + `exec memjail exec -- sh -c "` + readsMemory + `"`, true},
			{"other-stream", `export JOURNAL_STREAM=1:2; memjail run -- sh -c "` + readsMemory + `"`, false},
			{"no-stream", `exec memjail exec -- sh -c "` + readsMemory + `"`, false},
			{"run-off", streams + `memjail run --report off -- sh -c "` + readsMemory + `"`, false},
			{"exec-off", streams + `exec memjail exec --allow report.denials=off -- sh -c "` + readsMemory +
				`"`, false},
			{"file", streams + `memjail run --log log -- sh -c "` + readsMemory + `"`, false},
		} {
			t.Run(test.name, func(t *testing.T) {
				j := newFakeJournal(t, as, true)
				o := j.job(t, test.script).run(t)
				if want := map[bool]string{true: "open\n",
					false: "refused\n"}[test.name == "control"]; o.code != 0 || o.stdout != want || o.stderr != "" {
					t.Fatalf("want %q: %v", want, o)
				}
				if !test.told {
					time.Sleep(20 * time.Millisecond)
					if said := append(j.of("start"), j.of("refused")...); len(said) > 0 {
						t.Errorf("the journal was told %v", said)
					}
					return
				}
				has(t, j.one(t, "start"), map[string]string{"MEMJAIL_COMMAND": "sh", "MEMJAIL_POLICY": "memory",
					"PRIORITY": "6", "SYSLOG_IDENTIFIER": "memjail"})
				has(t, j.one(t, "refused"),
					map[string]string{"MEMJAIL_COMM": "dd", "MEMJAIL_PATH": "/proc/self/mem", "MEMJAIL_ACCESS": "read",
						"MEMJAIL_RULE": "memory.access", "MEMJAIL_LAYER": "landlock", "PRIORITY": "4",
						"MEMJAIL_COUNT": "1"})
			})
		}
	})
}

// TestJournalMissing: who asks for the journal by name has it, or nothing is started.
func TestJournalMissing(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		j := newFakeJournal(t, as, true)
		j.socket.Close()
		for _, command := range []string{"run", "exec"} {
			o := j.job(t, "exec memjail "+command+" --log journal -- touch ran").run(t)
			if o.code != 125 || !strings.HasPrefix(o.stderr,
				"memjail: --log: connecting to the systemd journal") || strings.Count(o.stderr, "\n") != 1 {
				t.Errorf("%s: %v", command, o)
			}
			o = j.job(t, streams+"exec memjail "+command+" -- echo ran").run(t)
			if o.stdout != "ran\n" ||
				!strings.Contains(o.stderr, "warning: refusals will not be logged: connecting to the systemd journal") {
				t.Errorf("%s without being asked: %v", command, o)
			}
		}
	})
}

// TestJournalHangs: a journal that takes nothing keeps nobody from anything.
func TestJournalHangs(t *testing.T) {
	as := accounts()[0]
	for _, command := range []string{"run", "exec"} {
		j := newFakeJournal(t, as, false)
		filler, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: filepath.Join(j.dir, "socket"),
			Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer filler.Close()
		for filler.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); ; {
			if _, err := filler.Write([]byte("MESSAGE=x\n")); err != nil {
				break
			}
		}
		o := j.job(t, "exec memjail "+command+` --log journal -- sh -c "`+readsMemory+`"`).run(t)
		if o.code != 0 || o.stdout != "refused\n" {
			t.Errorf("%s: %v", command, o)
		}
	}
}

// TestJournalSupervisorKilled: the journal hears why a command died. One that was made
// again hears what is refused, too.
func TestJournalSupervisorKilled(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		j := newFakeJournal(t, as, true)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		cmd := j.job(t, `exec memjail exec --log journal -- sh -c "read go; `+readsMemory+
			`; exec sleep 20"`).command(t, ctx)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		j.one(t, "start")
		j.socket.Close()
		if err := os.Remove(filepath.Join(j.dir, "socket")); err != nil {
			t.Fatal(err)
		}
		j.listen(t, true)
		fmt.Fprintln(in, "go")
		j.one(t, "refused")
		pid := cmd.Process.Pid
		if err := syscall.Kill(supervisorIn(t, pid), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
			t.Errorf("ended with %v, want SIGKILL", cmd.ProcessState)
		}
		has(t, j.one(t, "supervisor-end"), map[string]string{"MEMJAIL_PID": strconv.Itoa(pid),
			"MEMJAIL_RULE": "on-supervisor-exit", "PRIORITY": "3"})
	})
}

// TestJournalMount: the journal hears why a command was ended.
func TestJournalMount(t *testing.T) {
	as := accounts()[0]
	for _, command := range []string{"run", "exec"} {
		for onMount, code := range map[string]int{"warn": 0, "end": 128 + int(syscall.SIGKILL)} {
			j := newFakeJournal(t, as, true)
			o := j.job(t, "mkdir d; memjail "+command+" -q --log journal --allow on-mount="+onMount+
				" -- sleep 0.6 & sleep 0.2; mount -t proc proc d; wait $!").run(t)
			if o.code != code {
				t.Errorf("%s, %s: want status %d: %v", command, onMount, code, o)
			}
			entry := j.one(t, "mount")
			has(t, entry, map[string]string{"MEMJAIL_RULE": "on-mount", "PRIORITY": "4"})
			if !strings.Contains(entry["MESSAGE"], "proc was mounted at \"/tmp/") {
				t.Error(entry["MESSAGE"])
			}
		}
	}
}

// supervisorIn finds the supervisor in the mount namespace of a process.
func supervisorIn(t *testing.T, pid int) int {
	t.Helper()
	namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if err != nil {
		t.Fatal(err)
	}
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		other := filepath.Dir(line)
		text, err := os.ReadFile(line)
		if there, _ := os.Readlink(other + "/ns/mnt"); err != nil || there != namespace ||
			!strings.HasPrefix(string(text), "memjail: supervisor") {
			continue
		}
		found, err := strconv.Atoi(filepath.Base(other))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	t.Fatalf("process %d has no supervisor", pid)
	return 0
}
