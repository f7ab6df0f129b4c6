package attempts

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

func TestPack(t *testing.T) {
	got := pack(uint8(1), []byte{2}, uint16(3), uint32(4), int32(-1), uint64(5), uintptr(6))
	if len(got) != 1+1+2+4+4+8+8 || got[0] != 1 || got[1] != 2 || word32(got, 4) != 4 ||
		word32(got, 8) != ^uint32(0) || word64(got, 12) != 5 || word64(got, 20) != 6 {
		t.Errorf("%x", got)
	}
}

func TestCallOfBothInterfaces(t *testing.T) {
	getpid := number{unix.SYS_GETPID, 20}
	for _, abi := range both {
		pid, err := call(abi, getpid)
		if abi == probe.I386 && err == unix.ENOSYS {
			t.Skip("no 32-bit interface in this kernel or on this CPU")
		}
		if err != nil || int(pid) != os.Getpid() {
			t.Errorf("%s: %d, %v", abi, pid, err)
		}
	}
}

func TestTinyProgram(t *testing.T) {
	o := runMemfd(func(fd int) attack.Step {
		return execveatCall.step(probe.Native, uintptr(fd), lowString(""), emptyList(), emptyList(), unix.AT_EMPTY_PATH)
	}, 0)
	if !o.Done {
		t.Errorf("%+v", o)
	}
}

// TestReadCore reads a core file made by hand, with one loaded piece.
func TestReadCore(t *testing.T) {
	const at = 0x40001000
	file := func(kind uint32, start uint64) []byte {
		header := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 57)...)
		copy(header[32:], pack(uint64(64)))
		copy(header[56:], pack(uint16(1)))
		return append(append(header, pack(kind, uint32(4), uint64(120), start, uint64(0), uint64(4096),
			uint64(4096), uint64(1))...), bytes.Repeat([]byte("0123456789abcdef"), 256)...)
	}
	for _, test := range []struct {
		name string
		data []byte
		want string
	}{
		{"core", file(1, at), "0123456789abcdef"},
		{"prog.core.12", file(1, at-8), "89abcdef01234567"},
		{"core", file(1, at+8), ""},
		{"core", file(4, at), ""},
		{"other", file(1, at), ""},
		{"core", []byte("no ELF file, but longer than the header of one, which is 64 bytes long"), ""},
		{"core", nil, ""},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, test.name)
		if err := os.WriteFile(path, test.data, 0o600); err != nil {
			t.Fatal(err)
		}
		if o := readCore(dir, at); string(o.Data) != test.want || o.Done != (test.want != "") {
			t.Errorf("%s of %d bytes: %+v, want %q", test.name, len(test.data), o, test.want)
		}
		if _, err := os.Stat(path); (err == nil) != (test.name == "other") {
			t.Errorf("%s: afterwards %v", test.name, err)
		}
	}
}

func calls() []probe.Attempt { return probe.Catalogue(callFamilies).All() }

// TestPermits: which attempts inside a setting opens, and that none opens the
// memory of a process outside.
func TestPermits(t *testing.T) {
	open := policy.Policy{Memory: policy.Memory{Access: policy.AccessAllow, Ptrace: policy.PtraceAllow,
		CoreDumps: policy.CoreDumpsAllow, AnonymousExec: policy.AnonymousExecAllow},
		IPC: policy.IPC{Signals: policy.ScopeAll, Namespaces: policy.NamespacesUser, Terminals: policy.TerminalsAllow}}
	for _, a := range calls() {
		if a.Permits == nil {
			continue
		}
		if why := a.Permits(policy.Policy{}); why != "" {
			t.Errorf("%s is permitted by the strictest policy: %s", a.Name(), why)
		}
		if why := a.Permits(open); why == "" {
			t.Errorf("%s is permitted by nothing", a.Name())
		}
		if a.Target == probe.Outside && a.Effect != probe.Disturb {
			t.Errorf("%s can be permitted", a.Name())
		}
	}
}

// TestEveryI386HasItsTwin: an attempt of the 32-bit interface is the same as one of
// the native interface, but for the calls that only the former has.
func TestEveryI386HasItsTwin(t *testing.T) {
	names := map[string]bool{}
	for _, a := range All() {
		names[a.Name()] = true
	}
	alone := []string{"socketcall", "fcntl64"}
	for _, a := range calls() {
		if native, ok := strings.CutSuffix(a.Name(), "/i386"); ok && !names[native] &&
			!slices.Contains(alone, a.Spelling) {
			t.Errorf("%s has no native twin", a.Name())
		}
	}
}
