package supervisor

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// procfsClosed makes a Landlock ruleset with the signal scope, under which files can
// be read everywhere but below /proc: what of that is read was injected.
func procfsClosed(t *testing.T) *os.File {
	t.Helper()
	const readFile, scopeSignal, pathBeneath = 1 << 2, 1 << 1, 1
	attr := struct{ fs, net, scoped uint64 }{readFile, 0, scopeSignal}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)),
		unsafe.Sizeof(attr), 0)
	if errno != 0 {
		t.Skip("Landlock has a border for signals from ABI 6 on: ", errno)
	}
	ruleset := os.NewFile(fd, "ruleset")
	t.Cleanup(func() { ruleset.Close() })
	top, err := os.ReadDir("/")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range top {
		dir, err := unix.Open("/"+entry.Name(), unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil || entry.Name() == "proc" || entry.Type().IsRegular() {
			continue
		}
		rule := struct {
			access uint64
			fd     int32
		}{readFile, int32(dir)}
		unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, fd, pathBeneath, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
		unix.Close(dir)
	}
	return ruleset
}

// servedMember is an opener in such a domain, and a process beside it.
func servedMember(t *testing.T, processes policy.ProcfsProcesses) (g *target, helper int, other string) {
	t.Helper()
	ruleset := procfsClosed(t)
	members, err := kernel.NewMembers()
	if err != nil {
		t.Fatal(err)
	}
	o := testOptions()
	o.Members, o.Policy.Procfs.Processes = members, processes
	g = startTargetIn(t, "opener", func(first int) []kernel.Step {
		return append([]kernel.Step{kernel.StepRestrictSelf(int(ruleset.Fd()))},
			kernel.StepsMembers(members, first+1)...)
	})
	s := newSupervisor(t, o)
	s.Serve(g.listener)
	_, helper = members.Handle()
	t.Cleanup(func() {
		s.Retire()
		unix.Wait4(helper, nil, 0, nil) // it ends with the supervisor
	})
	other = g.do(t, "spawn")
	pid, err := strconv.Atoi(other)
	if err != nil {
		t.Fatal(other)
	}
	t.Cleanup(func() { unix.Kill(pid, unix.SIGKILL) })
	return g, helper, other
}

const denied = "permission denied"

func TestMember(t *testing.T) {
	g, _, other := servedMember(t, policy.ProcessesSandbox)
	for _, test := range []struct{ path, want string }{
		{"/proc/" + other + "/maps", "r--p"},
		{"/proc/" + other + "/task/" + other + "/maps", "r--p"},
		{"/proc/" + other + "/environ", roleVariable},
		{"/proc/self/maps", "r--p"},
		{"/proc/" + other + "/mem", denied},
		{"/proc/" + other + "/pagemap", denied},
		{fmt.Sprintf("/proc/%d/maps", os.Getpid()), denied},
		{"/proc/1/environ", denied},
	} {
		if got := g.do(t, "read %s", test.path); !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", test.path, got, test.want)
		}
	}
}

// TestMemberNotAsked: under the policy that grants a process its own files only.
func TestMemberNotAsked(t *testing.T) {
	g, _, other := servedMember(t, policy.ProcessesOwn)
	for path, want := range map[string]string{"/proc/self/maps": "r--p", "/proc/" + other + "/maps": denied,
		"/proc/" + other + "/stat": other} {
		if got := g.do(t, "read %s", path); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// TestMemberHelperHidden: the helper is in the domain and shows memjail's own
// environment; its files are nobody's. Without it nobody is in the sandbox.
func TestMemberHelperHidden(t *testing.T) {
	g, helper, other := servedMember(t, policy.ProcessesSandbox)
	for _, file := range []string{"environ", "maps", "fdinfo/0"} {
		if got := g.do(t, "read /proc/%d/%s", helper, file); !strings.Contains(got, denied) {
			t.Errorf("the helper's %s: %q", file, got)
		}
	}
	if got := g.do(t, "read /proc/%s/maps", other); !strings.Contains(got, "r--p") {
		t.Errorf("maps: %q", got)
	}
	unix.Kill(helper, unix.SIGKILL)
	if got := g.do(t, "read /proc/%s/maps", other); !strings.Contains(got, denied) {
		t.Errorf("maps, the helper having ended: %q", got)
	}
}
