package filter

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
)

func denies(t *testing.T, arch string, native bool, calls ...string) Program {
	t.Helper()
	p, err := DenyProgram(arch, calls, native)
	if err != nil {
		t.Fatalf("DenyProgram(%s, %v): %v", arch, calls, err)
	}
	return p
}

// TestDenies asks for every call of every ABI, with the numbers of the tables, and
// for what is made through another call with numbers typed from the headers.
func TestDenies(t *testing.T) {
	everything := policy.CallNames()
	for _, calls := range [][]string{{"keyctl"}, policy.ExpandCall("@mount"), policy.ExpandCall("@network-io"),
		everything} {
		for _, arch := range arches {
			p := denies(t, arch, false, calls...)
			if err := loadable(p); err != nil {
				t.Fatalf("%v\n%v", err, p)
			}
			m, _ := machineOf(arch)
			for _, a := range []*abi{m.native, m.compat} {
				for nr := range int32(470) {
					name, want := CallName(a.audit, nr), Allow
					if slices.Contains(calls, name) {
						want = eperm
					}
					if v := run(t, p, Data{NR: nr, Arch: a.audit}); v != want {
						t.Errorf("%s: %s is %v, should be %v", a.name, name, v, want)
					}
				}
			}
		}
	}
	p := denies(t, "amd64", false, "connect", "shmat", "send")
	for _, test := range []struct {
		what string
		arch uint32
		nr   int32
		arg  uint64
		want Verdict
	}{
		{"connect", x64, 42, 0, eperm},
		{"connect", ia32, 362, 0, eperm},
		{"connect through socketcall", ia32, 102, 3, eperm},
		{"send through socketcall", ia32, 102, 9, eperm},
		{"bind through socketcall", ia32, 102, 2, Allow},
		{"shmat through ipc", ia32, 117, 21, eperm},
		{"shmat through ipc, version 1", ia32, 117, 1<<16 | 21, eperm},
		{"shmget through ipc", ia32, 117, 23, Allow},
		{"getpid", ia32, 20, 0, Allow},
		{"a foreign ABI", a64, 0, 0, enosys},
	} {
		if v := run(t, p, Data{NR: test.nr, Arch: test.arch, Args: [6]uint64{test.arg}}); v != test.want {
			t.Errorf("%s: %v, should be %v", test.what, v, test.want)
		}
	}
}

// TestDeniesUses: a use that reads goes on, and one that sets is refused, in every ABI.
func TestDeniesUses(t *testing.T) {
	for _, u := range policy.CallUses() {
		if uses[u.Name] == nil {
			t.Errorf("%s is not known", u.Name)
		}
	}
	for _, test := range []struct {
		name      string
		arch      uint32
		nr        int32
		read, set [6]uint64
	}{
		{"prlimit64:set", x64, 302, [6]uint64{0, 7, 0, pointer}, [6]uint64{0, 7, pointer}},
		{"prlimit64:set", x64, 302, [6]uint64{0, 7}, [6]uint64{0, 7, 1 << 32}},
		{"prlimit64:set", ia32, 340, [6]uint64{0, 7, 0, 0x1000}, [6]uint64{0, 7, 0x1000}},
		{"prlimit64:set", a64, 261, [6]uint64{0, 7, 0, pointer}, [6]uint64{0, 7, pointer}},
		{"move_pages:move", x64, 279, [6]uint64{0, 1, pointer}, [6]uint64{0, 1, pointer, pointer}},
		{"setfsuid:set", x64, 122, [6]uint64{garbage | 0xffffffff}, [6]uint64{0}},
		{"setfsgid32:set", ia32, 216, [6]uint64{0xffffffff}, [6]uint64{1000}},
		{"setfsuid:set", arm, 138, [6]uint64{0xffffffff}, [6]uint64{0}},
		{"modify_ldt:write", x64, 154, [6]uint64{0}, [6]uint64{garbage | 0x11}},
		{"quotactl:set", x64, 179, [6]uint64{0x80000700}, [6]uint64{garbage | 0x80000801}},
		{"quotactl_fd:set", a64, 443, [6]uint64{3, 0x00580300}, [6]uint64{3, 0x00580400}},
	} {
		arch := "amd64"
		if test.arch == a64 || test.arch == arm {
			arch = "arm64"
		}
		p := denies(t, arch, false, test.name)
		if err := loadable(p); err != nil {
			t.Fatalf("%s: %v\n%v", test.name, err, p)
		}
		for _, use := range []struct {
			args [6]uint64
			want Verdict
		}{{test.read, Allow}, {test.set, eperm}} {
			if v := run(t, p, Data{NR: test.nr, Arch: test.arch, Args: use.args}); v != use.want {
				t.Errorf("%s%#x, arch %#x: %v, should be %v", test.name, use.args, test.arch, v, use.want)
			}
		}
		call, _, _ := strings.Cut(test.name, ":")
		p = denies(t, arch, false, call, test.name)
		if v := run(t, p, Data{NR: test.nr, Arch: test.arch, Args: test.read}); v != eperm {
			t.Errorf("%s refused whole: %v", call, v)
		}
	}
}

func TestDeniesNative(t *testing.T) {
	for _, calls := range [][]string{nil, {"keyctl"}} {
		p := denies(t, "amd64", true, calls...)
		if err := loadable(p); err != nil {
			t.Fatalf("%v\n%v", err, p)
		}
		for nr := range int32(470) {
			if v := run(t, p, Data{NR: nr, Arch: ia32}); v != enosys {
				t.Errorf("i386 call %d is %v", nr, v)
			}
		}
		if v := run(t, p, Data{NR: 39, Arch: x64}); v != Allow {
			t.Errorf("getpid is %v", v)
		}
	}
}

// TestDeniesDecidedByNumber: the kernel can go on remembering what it lets in.
func TestDeniesDecidedByNumber(t *testing.T) {
	p := denies(t, "amd64", false, policy.ExpandCall("@mount")...)
	for _, name := range []string{"read", "openat", "socket", "futex"} {
		nr, _ := Number(x64, name)
		if v, ok := decidedByNumber(p, Data{NR: nr, Arch: x64}); !ok || v != Allow {
			t.Errorf("%s is %v, decided by number: %v", name, v, ok)
		}
	}
}

func TestDeniesErrors(t *testing.T) {
	var unknown *CallError
	if _, err := DenyProgram("amd64", []string{"read", "no_such_call"}, false); !errors.As(err, &unknown) ||
		unknown.Call != "no_such_call" {
		t.Errorf("an unknown call: %v", err)
	}
	if _, err := DenyProgram("riscv64", []string{"read"}, false); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("riscv64: %v", err)
	}
	if p, err := DenyProgram("", nil, false); p != nil || err != nil {
		t.Errorf("nothing to refuse: %v, %v", p, err)
	}
	// Only arm has it; a policy is written once for all architectures.
	if _, err := DenyProgram("amd64", []string{"arm_fadvise64_64"}, false); err != nil {
		t.Error(err)
	}
}

// TestDenyThen: in one program with another, what is denied is notified, whatever the other
// says of it, and about everything else the other decides. What is denied is known outside
// the filter, too, by the same arguments.
func TestDenyThen(t *testing.T) {
	calls := []string{"openat", "keyctl", "prlimit64:set", "move_pages:move", "socket", "shmget",
		"setfsuid:set", "chmod"}
	for _, arch := range arches {
		main := build(t, Options{Arch: arch, Listener: true, NotifyReads: true, NotifyWrites: true})
		deny := denies(t, arch, false, calls...)
		both := deny.Then(main, Notify)
		denied := 0
		for _, d := range questions() {
			want := run(t, main, d)
			switch run(t, deny, d) {
			case eperm:
				want = Notify
				if denied++; !Denies(CallName(d.Arch, d.NR), d.Args, calls) {
					t.Fatalf("%s %#x is denied, and not known to be", CallName(d.Arch, d.NR), d.Args)
				}
			case Allow:
				if Denies(CallName(d.Arch, d.NR), d.Args, calls) {
					t.Fatalf("%s %#x is not denied, and said to be", CallName(d.Arch, d.NR), d.Args)
				}
			case enosys:
				want = enosys
			}
			if have := run(t, both, d); have != want {
				t.Fatalf("%s %s %#x: %v, want %v", arch, CallName(d.Arch, d.NR), d.Args, have, want)
			}
		}
		if denied == 0 {
			t.Errorf("%s: nothing was denied", arch)
		}
	}
}
