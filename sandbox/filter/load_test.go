package filter

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/memjail/memjail/policy"
)

// attempter is testdata/attempt.c, compiled, and how to run it.
type attempter struct {
	path       string
	credential *syscall.Credential // nil is the test's own
}

func compileAttempts(t *testing.T) attempter {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("the attempts use 32-bit calls of x86")
	}
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("no C compiler")
	}
	dir, err := os.MkdirTemp("", "memjail-filter-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // for the attempts of another user
		t.Fatal(err)
	}
	path := filepath.Join(dir, "attempt")
	if out, err := exec.Command(gcc, "-O1", "-Wall", "-Werror", "-static", "-no-pie", "-o", path,
		"testdata/attempt.c").CombinedOutput(); err != nil {
		t.Fatalf("compiling the attempts: %v\n%s", err, out)
	}
	return attempter{path: path}
}

// write puts a program where the attempts find it.
func (a attempter) write(t *testing.T, name string, p Program) string {
	t.Helper()
	var text []byte
	for _, in := range p.SockFilters() {
		text = binary.LittleEndian.AppendUint16(text, in.Code)
		text = append(text, in.Jt, in.Jf)
		text = binary.LittleEndian.AppendUint32(text, in.K)
	}
	path := filepath.Join(filepath.Dir(a.path), name)
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// run returns what the attempts printed, by their names, and the calls that were
// notified.
func (a attempter) run(t *testing.T, args ...string) (results map[string]string, notified []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), a.path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.credential}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("attempt %v: %v\n%s", args, err, out)
	}
	results = map[string]string{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 3 && fields[0] == "notified":
			nr, err := strconv.Atoi(fields[2])
			if err != nil {
				t.Fatal(err)
			}
			a := &abiAMD64
			if fields[1] == abiI386.name {
				a = &abiI386
			}
			notified = append(notified, a.name+" "+a.calls[nr])
		case len(fields) == 2:
			results[fields[0]] = fields[1]
		default:
			results["address"] = strings.TrimSpace(line)
		}
	}
	return results, notified
}

// refusals are what every attempt comes to under the strictest program.
// EALREADY is an attempt that was told "done" and had no effect.
var refusals = map[string]string{
	"ptrace-traceme": "EPERM", "ptrace-attach": "EPERM", "process_vm_readv": "EPERM",
	"process_vm_writev": "EPERM", "kcmp": "EPERM",
	"userfaultfd": "EPERM", "unshare-user": "EPERM", "clone-user": "EPERM", "clone3": "ENOSYS",
	"io_uring_setup": "ENOSYS",
	"limit-core":     "EALREADY", "limit-other": "EPERM", "ioctl-tiocsti": "EPERM", "ioctl-tiocsti-garbage": "EPERM",
	"process_mrelease": "EPERM", "move_pages-other": "EPERM",
	"32-ptrace-traceme": "EPERM", "32-process_vm_writev": "EPERM", "32-process_vm_canary": "EALREADY",
	"32-unshare-user":   "EPERM",
	"32-io_uring_setup": "ENOSYS", "32-clone3": "ENOSYS", "32-open_tree_attr": "EPERM", "32-ioctl-tiocsti": "EPERM",
}

// untouched are attempts that no program refuses.
var untouched = []string{"ioctl-other", "move_pages-self", "openat-read", "openat-write", "32-getppid", "32-open"}

// TestLoaded puts programs on real processes and compares what happens with what
// happens without.
func TestLoaded(t *testing.T) {
	a := compileAttempts(t)
	as := map[string]*syscall.Credential{"self": nil}
	if os.Getuid() == 0 {
		as["nobody"] = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	for who, credential := range as {
		a.credential = credential
		t.Run(who, func(t *testing.T) {
			control, _ := a.run(t, "none")
			for name, refused := range refusals {
				if control[name] == refused || control[name] == "" {
					t.Errorf("%s without a filter is %q, which proves nothing", name, control[name])
				}
			}
			plain, _ := a.run(t, "plain", a.write(t, "plain", build(t, Options{})))
			compareAttempts(t, control, plain, refusals)

			o := Options{Listener: true, NotifyReads: true, NotifyWrites: true}
			listening, notified := a.run(t, "listen", a.write(t, "listener", build(t, o)))
			compareAttempts(t, control, listening, refusals)
			compareNotified(t, notified)

			loose := Options{Access: policy.AccessNoWrite, Ptrace: policy.PtraceChildren,
				Namespaces: policy.NamespacesUser, CoreDumps: policy.CoreDumpsAllow}
			fewer := map[string]string{}
			for name, refused := range refusals {
				switch name {
				case "process_vm_readv", "ptrace-traceme", "32-ptrace-traceme", "unshare-user",
					"32-unshare-user", "clone-user", "limit-core":
				default:
					fewer[name] = refused
				}
			}
			loosened, _ := a.run(t, "plain", a.write(t, "loose", build(t, loose)))
			compareAttempts(t, control, loosened, fewer)
		})
	}
}

func compareAttempts(t *testing.T, control, results, refused map[string]string) {
	t.Helper()
	for name, before := range control {
		want, ok := refused[name]
		if !ok {
			want = before
		}
		if results[name] != want {
			t.Errorf("%s is %s, should be %s", name, results[name], want)
		}
	}
	for _, name := range untouched {
		if results[name] == "" || results[name] != control[name] {
			t.Errorf("%s is %q, without a filter %q", name, results[name], control[name])
		}
	}
}

func compareNotified(t *testing.T, notified []string) {
	t.Helper()
	count := map[string]int{}
	for _, call := range notified {
		count[call]++
	}
	for call, want := range map[string]int{
		"x86_64 openat": 2, "x86_64 ptrace": 2, "x86_64 process_vm_readv": 1, "x86_64 process_vm_writev": 1,
		"x86_64 kcmp": 1, "x86_64 ioctl": 2,
		"x86_64 unshare": 1, "x86_64 prlimit64": 1, "x86_64 move_pages": 1, "x86_64 clone": 1,
		"x86_64 clone3": 0, "x86_64 io_uring_setup": 0,
		"x86_64 setrlimit": 0, "i386 open": 1, "i386 ptrace": 1, "i386 process_vm_writev": 1,
		"i386 open_tree_attr": 1, "i386 clone3": 0,
	} {
		if count[call] != want {
			t.Errorf("%s was notified %d times, should be %d: %v", call, count[call], want, notified)
		}
	}
}

// TestOwnLoaded puts the supervisor's filter on a process that then tries what a
// supervisor never does, and last, to start its own program again.
func TestOwnLoaded(t *testing.T) {
	a := compileAttempts(t)
	where, _ := a.run(t, "address")
	address, err := strconv.ParseUint(where["address"], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	control, _ := a.run(t, "own", "none")
	refused := map[string]string{
		"fork": "EPERM", "clone": "EPERM", "socket": "EPERM", "process_vm_writev": "EPERM", "32-getppid": "ENOSYS",
		"execve-missing": "EPERM", "execveat-flags": "EPERM", "execveat-elsewhere": "EPERM",
	}
	for name := range refused {
		if control[name] == refused[name] || control[name] == "" {
			t.Errorf("%s without a filter is %q, which proves nothing", name, control[name])
		}
	}
	for _, successor := range []bool{false, true} {
		results, _ := a.run(t, "own", a.write(t, "own", SupervisorProgram(9, uintptr(address), successor)))
		for _, name := range []string{"thread", "process_vm_readv"} {
			if control[name] != "OK" || results[name] != "OK" {
				t.Errorf("%s is %s, without a filter %s", name, results[name], control[name])
			}
		}
		for name, want := range refused {
			if results[name] != want {
				t.Errorf("%s is %s, should be %s", name, results[name], want)
			}
		}
		started := results["address"] == where["address"]
		if started != successor || (results["execveat"] == "EPERM") == successor {
			t.Errorf("successor %v: started %v, execveat %q", successor, started, results["execveat"])
		}
	}
	if control["address"] != where["address"] {
		t.Error("the program cannot start itself without a filter either")
	}
}
