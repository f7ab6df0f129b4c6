package filter

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

var arches = []string{"amd64", "arm64"}

func build(t testing.TB, o Options) Program {
	t.Helper()
	p, err := Build(o)
	if err != nil {
		t.Fatalf("Build(%+v): %v", o, err)
	}
	return p
}

func run(t testing.TB, p Program, d Data) Verdict {
	t.Helper()
	v, err := p.Run(d)
	if err != nil {
		t.Fatalf("%+v: %v\n%v", d, err, p)
	}
	return v
}

// questions are the uses of system calls that every program is asked about: all
// calls of all ABIs with no and with all bits set, numbers that no call has, and
// the interesting arguments.
func questions() []Data {
	full := [6]uint64{math.MaxUint64, math.MaxUint64, math.MaxUint64, math.MaxUint64, math.MaxUint64, math.MaxUint64}
	var all []Data
	add := func(a *abi, nr int32, args [6]uint64) {
		if a == &abiI386 || a == &abiARM {
			for i := range args {
				args[i] = uint64(uint32(args[i])) // as the kernel hands them over
			}
		}
		all = append(all, Data{NR: nr, Arch: a.audit, InstructionPointer: 0x401000, Args: args})
	}
	for _, a := range []*abi{&abiAMD64, &abiI386, &abiARM64, &abiARM} {
		for nr := range int32(480) {
			add(a, nr, [6]uint64{})
			add(a, nr, full)
		}
		for _, nr := range []int32{-1, math.MinInt32, math.MaxInt32, 512, 547, 1000, 0x40000000, 0x40000001,
			0x40000065, 0x400001ff,
			0xf0000, 0xf0001, 0xf0002, 0xf0003, 0xf0004, 0xf0005, 0xf0006, 0xf0007, 0x900000} {
			add(a, nr, [6]uint64{})
			add(a, nr, full)
		}
		for name, values := range interesting() {
			if nr, ok := Number(a.audit, name); ok {
				for _, args := range combinations(values) {
					add(a, nr, args)
				}
			}
		}
	}
	for _, arch := range []uint32{0, unix.AUDIT_ARCH_PPC64LE, unix.AUDIT_ARCH_RISCV64, math.MaxUint32} {
		all = append(all, Data{NR: 0, Arch: arch}, Data{NR: 257, Arch: arch})
	}
	return all
}

func TestVerdicts(t *testing.T) {
	asked := questions()
	for _, arch := range arches {
		t.Run(arch, func(t *testing.T) {
			t.Parallel()
			for i, o := range variants(t, arch) {
				if testing.Short() && i%7 != 0 {
					continue
				}
				p := build(t, o)
				for _, d := range asked {
					if have, want := run(t, p, d), oracle(o, d); have != want {
						t.Fatalf("%s(%d) arch %#x args %#x\nis %v, should be %v\n%+v\n%v",
							CallName(d.Arch, d.NR), d.NR, d.Arch, d.Args, have, want, o, p)
					}
				}
			}
		})
	}
}

const (
	x64  = unix.AUDIT_ARCH_X86_64
	ia32 = unix.AUDIT_ARCH_I386
	a64  = unix.AUDIT_ARCH_AARCH64
	arm  = unix.AUDIT_ARCH_ARM
)

// spotChecks are verdicts with numbers typed from the kernel's tables, so that
// nothing of ours stands between the number and the verdict.
var spotChecks = []struct {
	what   string
	arch   uint32
	nr     int32
	args   [6]uint64
	listen Verdict
	plain  Verdict
}{
	{"read", x64, 0, [6]uint64{}, Allow, Allow},
	{"open", x64, 2, [6]uint64{pointer}, Notify, Allow},
	{"openat", x64, 257, [6]uint64{3, pointer, 2}, Notify, Allow},
	{"openat O_DIRECTORY", x64, 257, [6]uint64{3, pointer, 0o200000}, Allow, Allow},
	{"openat O_DIRECT of arm", x64, 257, [6]uint64{3, pointer, 0o40000}, Notify, Allow},
	{"ptrace", x64, 101, [6]uint64{}, Notify, eperm},
	{"ptrace x32", x64, 0x40000000 + 521, [6]uint64{}, enosys, enosys},
	{"process_vm_writev", x64, 311, [6]uint64{}, Notify, eperm},
	{"io_uring_setup", x64, 425, [6]uint64{}, enosys, enosys},
	{"clone3", x64, 435, [6]uint64{}, enosys, enosys},
	{"clone NEWUSER", x64, 56, [6]uint64{0x10000011}, Notify, eperm},
	{"unshare NEWUSER", x64, 272, [6]uint64{0x10000000}, Notify, eperm},
	{"unshare NEWNS", x64, 272, [6]uint64{0x20000}, Allow, Allow},
	{"ioctl TIOCSTI", x64, 16, [6]uint64{0, 0xffffffff_00005412}, Notify, eperm},
	{"ioctl TIOCMBIS", x64, 16, [6]uint64{0, 0xffffffff_00005416}, Notify, eperm},
	{"ioctl TIOCMBIC", x64, 16, [6]uint64{0, 0x5417}, Allow, Allow},
	{"ioctl BTRFS_IOC_SUBVOL_CREATE", x64, 16, [6]uint64{3, 0x5000940e}, Notify, eperm},
	{"ioctl BTRFS_IOC_START_SYNC", x64, 16, [6]uint64{3, 0x80089418}, Allow, Allow},
	{"ioctl FICLONE", x64, 16, [6]uint64{3, 0x40049409}, Allow, Allow},
	{"fcntl F_SETSIG SEGV", x64, 72, [6]uint64{0, 10, 11}, Notify, eperm},
	{"fcntl F_SETSIG of libc's", x64, 72, [6]uint64{0, 10, 33}, Notify, eperm},
	{"fcntl F_SETSIG SIGRTMIN", x64, 72, [6]uint64{0, 10, 34}, Allow, Allow},
	{"fcntl F_SETSIG SIGIO", x64, 72, [6]uint64{0, 10, 29}, Allow, Allow},
	{"fcntl F_SETFL", x64, 72, [6]uint64{0, 4, 0x2800}, Allow, Allow},
	{"vmsplice", x64, 278, [6]uint64{3, pointer, 1}, Notify, enosys},
	{"vhangup", x64, 153, [6]uint64{}, Notify, eperm},
	{"socket AF_XDP", x64, 41, [6]uint64{0xffffffff_0000002c, 3}, Notify, ErrnoVerdict(unix.EAFNOSUPPORT)},
	{"open_tree_attr", x64, 467, [6]uint64{}, Notify, eperm},
	{"file_setattr", x64, 469, [6]uint64{}, Allow, Allow},
	{"after file_setattr", x64, 470, [6]uint64{}, enosys, enosys},
	{"setrlimit CORE", x64, 160, [6]uint64{4, pointer}, done, done},
	{"uretprobe", x64, 335, [6]uint64{}, Allow, Allow},
	{"chmod", x64, 90, [6]uint64{}, Allow, Allow},
	{"socket AF_UNIX", x64, 41, [6]uint64{1, 1}, Allow, Allow},

	{"open", ia32, 5, [6]uint64{0x1000}, Notify, Allow},
	{"openat", ia32, 295, [6]uint64{3, 0x1000}, Notify, Allow},
	{"ptrace", ia32, 26, [6]uint64{}, Notify, eperm},
	{"process_vm_readv", ia32, 347, [6]uint64{}, Notify, eperm},
	{"process_vm_writev", ia32, 348, [6]uint64{}, Notify, eperm},
	{"umount", ia32, 22, [6]uint64{}, Notify, eperm},
	{"setrlimit CORE", ia32, 75, [6]uint64{4, 0x1000}, done, done},
	{"prlimit64 of init", ia32, 340, [6]uint64{1, 7, 0x1000}, Notify, eperm},
	{"open_tree_attr", ia32, 467, [6]uint64{}, Notify, eperm},
	{"socketcall", ia32, 102, [6]uint64{1}, Allow, Allow},
	{"ioctl TIOCMSET", ia32, 54, [6]uint64{0, 0x5418}, Notify, eperm},
	{"ioctl BTRFS_IOC_SET_RECEIVED_SUBVOL of 32 bits", ia32, 54, [6]uint64{0, 0xc0c09425}, Notify, eperm},
	{"fcntl F_SETSIG KILL", ia32, 55, [6]uint64{0, 10, 9}, Notify, eperm},
	{"fcntl64 F_SETSIG SEGV", ia32, 221, [6]uint64{0, 10, 11}, Notify, eperm},
	{"vmsplice", ia32, 316, [6]uint64{3, 0x1000, 1}, Notify, enosys},
	{"vhangup", ia32, 111, [6]uint64{}, Notify, eperm},
	{"socket AF_XDP", ia32, 359, [6]uint64{44, 3}, Notify, ErrnoVerdict(unix.EAFNOSUPPORT)},
	{"after file_setattr", ia32, 470, [6]uint64{}, enosys, enosys},

	{"openat", a64, 56, [6]uint64{3, pointer, 1}, Notify, Allow},
	{"openat O_DIRECTORY", a64, 56, [6]uint64{3, pointer, 0o40000}, Allow, Allow},
	{"openat O_DIRECT", a64, 56, [6]uint64{3, pointer, 0o200000}, Notify, Allow},
	{"ptrace", a64, 117, [6]uint64{}, Notify, eperm},
	{"process_vm_writev", a64, 271, [6]uint64{}, Notify, eperm},
	{"mount", a64, 40, [6]uint64{}, Notify, eperm},
	{"clone NEWUSER", a64, 220, [6]uint64{0x10000011}, Notify, eperm},
	{"setrlimit CORE", a64, 164, [6]uint64{4}, done, done},
	{"bpf", a64, 280, [6]uint64{}, Notify, eperm},
	{"open_tree_attr", a64, 467, [6]uint64{}, Notify, eperm},

	{"open", arm, 5, [6]uint64{0x1000, 2}, Notify, Allow},
	{"openat O_DIRECTORY", arm, 322, [6]uint64{3, 0x1000, 0o40000}, Allow, Allow},
	{"ptrace", arm, 26, [6]uint64{}, Notify, eperm},
	{"process_vm_writev", arm, 377, [6]uint64{}, Notify, eperm},
	{"clone NEWUSER", arm, 120, [6]uint64{0x10000011}, Notify, eperm},
	{"set_tls", arm, 0xf0005, [6]uint64{}, Allow, Allow},
	{"of the old ABI", arm, 0x90001a, [6]uint64{}, enosys, enosys},
}

// chosenChecks are verdicts of programs that refuse what the policy chose, with
// numbers typed from the kernel's tables and headers.
var chosenChecks = []struct {
	what    string
	arch    uint32
	nr      int32
	args    [6]uint64
	listen  Verdict
	plain   Verdict
	options Options
}{
	{"chmod", x64, 90, [6]uint64{}, Notify, eperm, Options{RefuseMetadata: true}},
	{"fchmodat2", x64, 452, [6]uint64{}, Notify, eperm, Options{RefuseMetadata: true}},
	{"setxattrat", x64, 463, [6]uint64{}, Notify, eperm, Options{RefuseMetadata: true}},
	{"file_setattr", x64, 469, [6]uint64{}, Notify, eperm, Options{RefuseMetadata: true}},
	{"chown32", ia32, 212, [6]uint64{}, Notify, eperm, Options{RefuseMetadata: true}},
	{"utimensat_time64", ia32, 412, [6]uint64{}, Notify, eperm, Options{RefuseMetadata: true}},
	{"fchmodat", a64, 53, [6]uint64{}, Notify, eperm, Options{RefuseMetadata: true}},
	{"FS_IOC_SETFLAGS", x64, 16, [6]uint64{3, 0xdeadbeef_40086602}, Notify, eperm, Options{RefuseMetadata: true}},
	{"FS_IOC32_SETFLAGS", ia32, 54, [6]uint64{3, 0x40046602}, Notify, eperm, Options{RefuseMetadata: true}},
	{"FS_IOC_GETFLAGS", x64, 16, [6]uint64{3, 0x80086601}, Allow, Allow, Options{RefuseMetadata: true}},
	{"TIOCSTI beside it", x64, 16, [6]uint64{3, 0x5412}, Notify, eperm, Options{RefuseMetadata: true}},
	{"socket of AF_UNIX", x64, 41, [6]uint64{0xdeadbeef_00000001, 1}, Notify, ErrnoVerdict(unix.EAFNOSUPPORT),
		Options{RefuseUnix: true}},
	{"socket of AF_INET", x64, 41, [6]uint64{2, 1}, Allow, Allow, Options{RefuseUnix: true}},
	{"pair of streams", x64, 53, [6]uint64{1, 0x80801}, Allow, Allow, Options{RefuseUnix: true}},
	{"pair of packets", x64, 53, [6]uint64{1, 5}, Allow, Allow, Options{RefuseUnix: true}},
	{"pair of datagrams", x64, 53, [6]uint64{1, 0xdeadbeef_00080002}, Notify,
		ErrnoVerdict(unix.ESOCKTNOSUPPORT), Options{RefuseUnix: true}},
	{"raw pair", x64, 53, [6]uint64{1, 3}, Notify, ErrnoVerdict(unix.ESOCKTNOSUPPORT), Options{RefuseUnix: true}},
	{"socketcall SYS_SOCKETPAIR", ia32, 102, [6]uint64{8}, enosys, enosys, Options{RefuseUnix: true}},
	{"socketcall SYS_SENDTO", ia32, 102, [6]uint64{11}, Allow, Allow, Options{RefuseUnix: true}},
	{"MPTCP", x64, 41, [6]uint64{2, 1, 0xdeadbeef_00000106}, ErrnoVerdict(unix.EPROTONOSUPPORT),
		ErrnoVerdict(unix.EPROTONOSUPPORT), Options{CloseTCPBypasses: true}},
	{"SMC over IPv6", ia32, 359, [6]uint64{10, 1, 256}, ErrnoVerdict(unix.EPROTONOSUPPORT),
		ErrnoVerdict(unix.EPROTONOSUPPORT), Options{CloseTCPBypasses: true}},
	{"AF_SMC", x64, 41, [6]uint64{43, 1}, ErrnoVerdict(unix.EAFNOSUPPORT), ErrnoVerdict(unix.EAFNOSUPPORT),
		Options{CloseTCPBypasses: true}},
	{"RxRPC", x64, 41, [6]uint64{garbage | 33, 2, 2}, ErrnoVerdict(unix.EAFNOSUPPORT),
		ErrnoVerdict(unix.EAFNOSUPPORT), Options{CloseUDPBypasses: true}},
	{"RxRPC without rules", x64, 41, [6]uint64{33, 2, 2}, Allow, Allow, Options{CloseTCPBypasses: true}},
	{"UDP", x64, 41, [6]uint64{2, 2}, Allow, Allow, Options{CloseUDPBypasses: true}},
	{"socketcall SYS_SOCKET, for UDP", ia32, 102, [6]uint64{1}, enosys, enosys, Options{CloseUDPBypasses: true}},
	{"a packet socket of that number", x64, 41, [6]uint64{17, 3, 262}, Allow, Allow, Options{CloseTCPBypasses: true}},
	{"UNIX socket", x64, 41, [6]uint64{1, 1}, Allow, Allow, Options{CloseTCPBypasses: true}},
	{"fast open", x64, 44, [6]uint64{3, pointer, 1, 0xdeadbeef_20004000, pointer},
		ErrnoVerdict(unix.EOPNOTSUPP), ErrnoVerdict(unix.EOPNOTSUPP), Options{CloseTCPBypasses: true}},
	{"MSG_NOSIGNAL", x64, 44, [6]uint64{3, pointer, 1, 0x4000, pointer}, Allow, Allow, Options{CloseTCPBypasses: true}},
	{"fast open by sendmsg", x64, 46, [6]uint64{3, pointer, 0x20000000}, ErrnoVerdict(unix.EOPNOTSUPP),
		ErrnoVerdict(unix.EOPNOTSUPP), Options{CloseTCPBypasses: true}},
	{"fast open by sendmmsg", x64, 307, [6]uint64{3, pointer, 1, 0x20000000}, ErrnoVerdict(unix.EOPNOTSUPP),
		ErrnoVerdict(unix.EOPNOTSUPP), Options{CloseTCPBypasses: true}},
	{"TCP_ULP", x64, 54, [6]uint64{3, 6, 31}, ErrnoVerdict(unix.ENOENT), ErrnoVerdict(unix.ENOENT),
		Options{CloseTCPBypasses: true}},
	{"TCP_FASTOPEN_CONNECT", x64, 54, [6]uint64{3, 6, 30}, Allow, Allow, Options{CloseTCPBypasses: true}},
	{"socketcall SYS_SOCKET", ia32, 102, [6]uint64{1}, enosys, enosys, Options{CloseTCPBypasses: true}},
	{"socketcall SYS_CONNECT", ia32, 102, [6]uint64{3}, Allow, Allow, Options{CloseTCPBypasses: true}},
	{"socket AF_INET, closed", x64, 41, [6]uint64{2, 1}, Notify, ErrnoVerdict(unix.EAFNOSUPPORT),
		Options{RestrictFamilies: true}},
	{"socket AF_INET, listed", x64, 41, [6]uint64{2, 1}, Allow, Allow,
		Options{RestrictFamilies: true, Families: []uint32{2}}},
	{"socket of another family", a64, 198, [6]uint64{2 << 32, 1}, Notify, ErrnoVerdict(unix.EAFNOSUPPORT),
		Options{RestrictFamilies: true, Families: []uint32{2}}},
	{"datagram pair", x64, 53, [6]uint64{1, 2}, Notify, ErrnoVerdict(unix.ESOCKTNOSUPPORT),
		Options{RestrictFamilies: true}},
	{"datagram pair, listed", x64, 53, [6]uint64{1, 2}, Allow, Allow,
		Options{RestrictFamilies: true, Families: []uint32{1}}},
	{"stream pair", x64, 53, [6]uint64{1, 1}, Allow, Allow, Options{RestrictFamilies: true}},
	{"socket of 32 bits", ia32, 359, [6]uint64{2, 1}, Notify, ErrnoVerdict(unix.EAFNOSUPPORT),
		Options{RestrictFamilies: true}},
	{"socketcall SYS_SOCKET", ia32, 102, [6]uint64{1}, enosys, enosys, Options{RestrictFamilies: true}},
	{"listen", x64, 50, [6]uint64{3, 5}, Notify, eacces, Options{EmulateListen: true}},
	{"listen of 32 bits", ia32, 363, [6]uint64{3, 5}, Notify, eacces, Options{EmulateListen: true}},
	{"socketcall SYS_LISTEN", ia32, 102, [6]uint64{4}, enosys, enosys, Options{EmulateListen: true}},
	{"F_SETSIG SIGRTMIN", x64, 72, [6]uint64{0, 10, 34}, Notify, eperm, Options{RefuseOwnerSignals: true}},
	{"F_SETFL O_ASYNC", arm, 55, [6]uint64{0, 4, 0x2800}, Notify, eperm, Options{RefuseOwnerSignals: true}},
	{"F_SETFL O_NONBLOCK", a64, 25, [6]uint64{0, 4, 0x800}, Allow, Allow, Options{RefuseOwnerSignals: true}},
	{"TIOCMBIS", a64, 29, [6]uint64{0, 0x5416}, Allow, Allow, Options{Terminals: policy.TerminalsAllow}},
	{"TIOCSTI", a64, 29, [6]uint64{0, 0x5412}, Notify, eperm, Options{Terminals: policy.TerminalsAllow}},
	{"socketcall SYS_SOCKET", ia32, 102, [6]uint64{1}, enosys, enosys, Options{RefuseSocketcall: true}},
	{"vmsplice", a64, 75, [6]uint64{}, Allow, Allow, Options{Access: policy.AccessNoWrite}},
	{"send", arm, 289, [6]uint64{3, 0x1000, 1, 0x20000000}, ErrnoVerdict(unix.EOPNOTSUPP),
		ErrnoVerdict(unix.EOPNOTSUPP), Options{CloseTCPBypasses: true}},
}

func TestChosen(t *testing.T) {
	for _, test := range chosenChecks {
		o := test.options
		o.Arch = "amd64"
		if test.arch == a64 || test.arch == arm {
			o.Arch = "arm64"
		}
		d := Data{NR: test.nr, Arch: test.arch, Args: test.args}
		if v := run(t, build(t, o), d); v != test.plain {
			t.Errorf("%s, arch %#x: %v, should be %v", test.what, test.arch, v, test.plain)
		}
		o.Listener = true
		if v := run(t, build(t, o), d); v != test.listen {
			t.Errorf("%s, arch %#x, with a listener: %v, should be %v", test.what, test.arch, v, test.listen)
		}
	}
}

// TestMetadataIsTheGroup: what paths.metadata refuses by call is the group of
// calls that a policy can name.
func TestMetadataIsTheGroup(t *testing.T) {
	var refused []string
	for i := range rules {
		if r := &rules[i]; r.placement == forAttributes {
			refused = append(refused, r.calls...)
		}
	}
	slices.Sort(refused)
	if group := policy.ExpandCall("@metadata"); !slices.Equal(refused, group) {
		t.Errorf("refused %v\nthe group %v", refused, group)
	}
}

func TestFindDenial(t *testing.T) {
	for _, test := range []struct {
		call  string
		args  [6]uint64
		errno unix.Errno
		key   string
		found bool

		network *policy.Network
	}{
		{"ptrace", [6]uint64{}, unix.EPERM, "memory.ptrace", true, nil},
		{"ioctl", [6]uint64{0, garbage | 0x5412}, unix.EPERM, "", true, nil},
		{"ioctl", [6]uint64{0, setFlags}, unix.EPERM, "paths.metadata", true, nil},
		{"ioctl", [6]uint64{0, 0x5401}, 0, "", false, nil},
		{"socket", [6]uint64{1, 1}, unix.EAFNOSUPPORT, "network.unix", true, nil},
		{"socket", [6]uint64{2, 1, 262}, unix.EPROTONOSUPPORT, "network.connect-tcp", true, nil},
		{"prlimit64", [6]uint64{0, 4, pointer, pointer}, unix.EPERM, "memory.core-dumps", true, nil},
		{"prlimit64", [6]uint64{1, 4, pointer, 0}, unix.EPERM, "", true, nil},
		{"fcntl", [6]uint64{0, 10, 11}, unix.EPERM, "", true, nil},
		{"fcntl", [6]uint64{0, 3}, 0, "", false, nil},
		{"ioctl", [6]uint64{0, garbage | 0x5416}, unix.EPERM, "ipc.terminals", true, nil},
		{"read", [6]uint64{}, 0, "", false, nil},
		{"socket", [6]uint64{2, 1}, 0, "", false, nil},
		{"socket", [6]uint64{2, 1}, unix.EAFNOSUPPORT, "network.families", true,
			&policy.Network{Families: policy.OnlyThese[string]()}},
		{"socket", [6]uint64{garbage | 1, 1}, unix.EAFNOSUPPORT, "network.families", true,
			&policy.Network{Families: policy.OnlyThese("inet")}},
		{"socket", [6]uint64{1, 1}, unix.EAFNOSUPPORT, "network.unix", true,
			&policy.Network{Families: policy.OnlyThese[string](), Unix: policy.OnlyThese[string]()}},
		{"socket", [6]uint64{44, 3}, unix.EAFNOSUPPORT, "", true,
			&policy.Network{Families: policy.OnlyThese[string]()}},
		{"listen", [6]uint64{3, 5}, unix.EACCES, "network.bind-tcp", true, nil},
	} {
		d, found := FindDenial(test.call, test.args, test.network)
		if found != test.found || d.Errno != test.errno || d.Key != test.key {
			t.Errorf("%s%#x: %+v, %v", test.call, test.args, d, found)
		}
	}
}

func TestSpotChecks(t *testing.T) {
	for _, test := range spotChecks {
		arch := "amd64"
		if test.arch == a64 || test.arch == arm {
			arch = "arm64"
		}
		d := Data{NR: test.nr, Arch: test.arch, Args: test.args}
		if v := run(t, build(t, Options{Arch: arch, Listener: true, NotifyReads: true, NotifyWrites: true}),
			d); v != test.listen {
			t.Errorf("%s, arch %#x, with a listener: %v, should be %v", test.what, test.arch, v, test.listen)
		}
		if v := run(t, build(t, Options{Arch: arch}), d); v != test.plain {
			t.Errorf("%s, arch %#x, without: %v, should be %v", test.what, test.arch, v, test.plain)
		}
	}
}

// TestLoadable holds what the kernel asks of a program (seccomp_check_filter and
// bpf_check_classic), and that no instruction of ours is out of reach.
func TestLoadable(t *testing.T) {
	programs := []Program{own(&abiAMD64, 9, 0x401000, false), own(&abiAMD64, 9, 0x401000, true),
		own(&abiARM64, 9, 0x401000, true)}
	for _, arch := range arches {
		longest := 0
		for _, o := range variants(t, arch) {
			p := build(t, o)
			programs = append(programs, p)
			longest = max(longest, len(p))
		}
		t.Logf("%s: the longest program has %d instructions", arch, longest)
	}
	for _, p := range programs {
		if err := loadable(p); err != nil {
			t.Fatalf("%v\n%v", err, p)
		}
	}
}

// TestObserveRefused: a call is not let in for the sake of being observed.
func TestObserveRefused(t *testing.T) {
	for _, name := range []string{"ptrace", "process_vm_writev", "prctl"} {
		if _, err := Build(Options{Listener: true, Observe: []string{name}}); err == nil {
			t.Errorf("%s is observed", name)
		}
	}
	if _, err := Build(Options{Listener: true, Observe: []string{"mkdir"}}); err != nil {
		t.Error(err)
	}
}

func loadable(p Program) error {
	if len(p) == 0 || len(p) >= 4096 {
		return fmt.Errorf("%d instructions", len(p))
	}
	if p[len(p)-1].Code != opReturn {
		return errors.New("the last instruction is no return")
	}
	for pc, s := range p.states() {
		in := p[pc]
		if !s.reached {
			return fmt.Errorf("nothing leads to instruction %d", pc)
		}
		switch in.Code {
		case opReturn, opAnd:
		case opLoad:
			if in.K%4 != 0 || in.K >= dataSize {
				return fmt.Errorf("instruction %d loads offset %d", pc, in.K)
			}
		case opJump:
			if pc+1+int(in.K) >= len(p) {
				return fmt.Errorf("instruction %d jumps out", pc)
			}
		default:
			if _, ok := in.holds(0); !ok {
				return fmt.Errorf("instruction %d has code %#x", pc, in.Code)
			}
			if pc+1+int(max(in.JumpTrue, in.JumpFalse)) >= len(p) {
				return fmt.Errorf("instruction %d jumps out", pc)
			}
		}
	}
	return nil
}

// TestDecidedByNumber holds that the kernel can remember the verdict for
// ordinary calls: it does so when no argument is loaded on the way to "allow".
func TestDecidedByNumber(t *testing.T) {
	names := []string{"read", "write", "close", "fstat", "lseek", "mmap", "mprotect", "munmap", "brk", "futex",
		"rt_sigaction", "rt_sigprocmask",
		"execve", "exit_group", "wait4", "pread64", "getdents64", "readlinkat", "faccessat2", "statx", "bind",
		"sendto", "recvfrom", "epoll_ctl", "getrandom"}
	for _, o := range []Options{{Arch: "amd64"}, {Arch: "amd64", Listener: true, NotifyReads: true, NotifyWrites: true},
		{Arch: "arm64", Listener: true, NotifyReads: true, NotifyWrites: true, RefuseCoreSignals: true,
			RefuseTruncate: true, NotifyChroot: true}} {
		p := build(t, o)
		m, _ := machineOf(o.Arch)
		for _, name := range names {
			nr, ok := Number(m.native.audit, name)
			if !ok {
				t.Fatalf("%s has no %s", o.Arch, name)
			}
			if v, ok := decidedByNumber(p, Data{NR: nr, Arch: m.native.audit}); !ok || v != Allow {
				t.Errorf("%s: %s is %v, decided by number: %v", o.Arch, name, v, ok)
			}
		}
	}
}

// decidedByNumber runs p; ok says that no argument was loaded.
func decidedByNumber(p Program, d Data) (v Verdict, ok bool) {
	blind := slices.Clone(p)
	for pc, in := range blind {
		if in.Code == opLoad && in.K >= offsetIP {
			blind[pc].K = dataSize // fails when it is run
		}
	}
	v, err := blind.Run(d)
	return v, err == nil
}

// TestHotPath counts instructions for the calls that the kernel runs the filter
// for, and the most frequent of them most strictly.
func TestHotPath(t *testing.T) {
	for _, arch := range arches {
		m, _ := machineOf(arch)
		p := build(t, Options{Arch: arch, Listener: true, NotifyReads: true, NotifyWrites: true})
		for name, limit := range map[string]int{"openat": 7, "ioctl": 64, "fcntl": 40, "socket": 40,
			"clone": 31, "prctl": 31, "unshare": 36, "prlimit64": 40} {
			nr, _ := Number(m.native.audit, name)
			_, steps, err := p.run(&Data{NR: nr, Arch: m.native.audit})
			if err != nil || steps > limit {
				t.Errorf("%s: %s takes %d instructions of %d, %v", arch, name, steps, limit, err)
			}
			t.Logf("%s: %s takes %d instructions", arch, name, steps)
		}
	}
}

// ownPath is where the empty path of the supervisor's filter is in the tests.
const ownPath = 0x1_0040_1000

var ownChecks = []struct {
	call      string
	args      [6]uint64
	plain     Verdict
	successor Verdict
}{
	{"read", [6]uint64{}, Allow, Allow},
	{"openat", [6]uint64{3, pointer, 2}, Allow, Allow},
	{"execve", [6]uint64{}, eperm, eperm},
	{"execveat", [6]uint64{9, ownPath, 0, 0, 0x1000}, eperm, Allow},
	{"execveat", [6]uint64{9, ownPath, pointer, pointer, garbage | 0x1000}, eperm, Allow},
	{"execveat", [6]uint64{8, ownPath, 0, 0, 0x1000}, eperm, eperm},
	{"execveat", [6]uint64{9, ownPath + 1, 0, 0, 0x1000}, eperm, eperm},
	{"execveat", [6]uint64{9, ownPath ^ 1<<33, 0, 0, 0x1000}, eperm, eperm},
	{"execveat", [6]uint64{9, ownPath, 0, 0, 0}, eperm, eperm},
	{"execveat", [6]uint64{9, ownPath, 0, 0, 0x1100}, eperm, eperm},
	{"clone", [6]uint64{0x50f00}, Allow, Allow}, // what the Go runtime makes a thread with
	{"clone", [6]uint64{17}, eperm, eperm},
	{"clone", [6]uint64{0x1111}, eperm, Allow},
	{"clone", [6]uint64{0x5111}, eperm, eperm}, // CLONE_VFORK too
	{"clone", [6]uint64{1<<48 | 17}, eperm, eperm},
	{"clone3", [6]uint64{}, enosys, enosys},
	{"io_uring_setup", [6]uint64{}, enosys, enosys},
	{"fork", [6]uint64{}, eperm, eperm},
	{"vfork", [6]uint64{}, eperm, eperm},
	{"socket", [6]uint64{}, eperm, eperm},
	{"socketpair", [6]uint64{}, eperm, eperm},
	{"ptrace", [6]uint64{}, eperm, eperm},
	{"ptrace", [6]uint64{unix.PTRACE_ATTACH}, eperm, eperm},
	{"ptrace", [6]uint64{unix.PTRACE_SEIZE}, eperm, eperm},
	{"ptrace", [6]uint64{unix.PTRACE_POKEDATA}, eperm, eperm},
	{"ptrace", [6]uint64{unix.PTRACE_DETACH}, Allow, Allow},
	{"ptrace", [6]uint64{unix.PTRACE_GETSIGINFO}, Allow, Allow},
	{"process_vm_readv", [6]uint64{}, Allow, Allow},
	{"process_vm_writev", [6]uint64{}, eperm, eperm},
	{"bpf", [6]uint64{}, eperm, eperm},
	{"mount", [6]uint64{}, eperm, eperm},
	{"open_tree_attr", [6]uint64{}, eperm, eperm},
	{"ioctl", [6]uint64{3, 0xc0502100}, Allow, Allow}, // SECCOMP_IOCTL_NOTIF_RECV
}

func TestOwn(t *testing.T) {
	for _, a := range []*abi{&abiAMD64, &abiARM64} {
		plain, successor := own(a, 9, ownPath, false), own(a, 9, ownPath, true)
		for _, test := range ownChecks {
			nr, ok := Number(a.audit, test.call)
			if !ok && (a == &abiAMD64 || test.call != "fork" && test.call != "vfork") {
				t.Fatalf("%s has no %s", a.name, test.call)
			} else if !ok {
				continue
			}
			d := Data{NR: nr, Arch: a.audit, Args: test.args}
			if v := run(t, plain, d); v != test.plain {
				t.Errorf("%s: %s%#x is %v, should be %v", a.name, test.call, test.args, v, test.plain)
			}
			if v := run(t, successor, d); v != test.successor {
				t.Errorf("%s, successor: %s%#x is %v, should be %v", a.name, test.call, test.args, v, test.successor)
			}
		}
		for _, d := range []Data{{NR: 470, Arch: a.audit}, {NR: -1, Arch: a.audit}, {NR: 0x40000000, Arch: a.audit},
			{NR: 3, Arch: unix.AUDIT_ARCH_I386}, {NR: 3, Arch: unix.AUDIT_ARCH_ARM}, {NR: 3}} {
			if v := run(t, successor, d); v != enosys {
				t.Errorf("%s: %+v is %v", a.name, d, v)
			}
		}
	}
	if p := SupervisorProgram(9, ownPath, false); (p == nil) != (runtime.GOARCH != "amd64" &&
		runtime.GOARCH != "arm64") {
		t.Errorf("SupervisorProgram on %s has %d instructions", runtime.GOARCH, len(p))
	}
}

func TestBuildRefusesUnknownArchitectures(t *testing.T) {
	if _, err := Build(Options{Arch: "riscv64"}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("riscv64: %v", err)
	}
}

func TestDecodeRefusesFragments(t *testing.T) {
	for _, n := range []int{0, 1, 7, 9} {
		if _, err := decode(make([]byte, n)); err == nil {
			t.Errorf("%d bytes were decoded", n)
		}
	}
}

func TestRunRefusesWhatTheKernelDoes(t *testing.T) {
	for name, p := range map[string]Program{
		"empty":          {},
		"no return":      {{Code: opLoad}},
		"odd load":       {{Code: opLoad, K: 2}, {Code: opReturn}},
		"load past end":  {{Code: opLoad, K: dataSize}, {Code: opReturn}},
		"jump past end":  {{Code: opJump, K: 1}, {Code: opReturn}},
		"jump wraps":     {{Code: opJump, K: math.MaxUint32}, {Code: opReturn}},
		"branch to void": {{Code: opEqual, JumpTrue: 9}, {Code: opReturn}},
		"store":          {{Code: unix.BPF_ST}, {Code: opReturn}},
	} {
		if v, err := p.Run(Data{}); err == nil {
			t.Errorf("%s: %v", name, v)
		}
	}
}

func TestVerdictNames(t *testing.T) {
	for v, want := range map[Verdict]string{
		Allow: "allow", Notify: "notify", eperm: "errno EPERM", enosys: "errno ENOSYS", done: "errno 0",
		unix.SECCOMP_RET_KILL_PROCESS: "kill-process", unix.SECCOMP_RET_KILL_THREAD: "kill-thread",
		unix.SECCOMP_RET_TRAP: "trap", unix.SECCOMP_RET_TRACE: "trace", unix.SECCOMP_RET_LOG: "log",
		0x12340000: "action 0x12340000",
	} {
		if v.String() != want {
			t.Errorf("%#x is %q, should be %q", uint32(v), v, want)
		}
	}
}

func TestDisassembly(t *testing.T) {
	text := build(t, Options{Arch: "amd64", Listener: true, NotifyReads: true}).String()
	for _, line := range []string{
		"   0  load arch\n",
		"   1  if == x86_64 goto 2 else ",
		"   3  if == 257 (openat) goto 4 else ",
		"   4  load arg2.low\n",
		"   5  if & 0x210083 goto ",
		"if == 348 (process_vm_writev) goto ",
		"if > 469 (file_setattr) goto ",
		"return errno ENOSYS\n",
		"return notify\n",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("no %q in\n%s", line, text)
		}
	}
	if strings.Contains(text, "code 0x") {
		t.Errorf("an instruction has no name in\n%s", text)
	}
}

// TestDenialsMatchTheProgram asks the program about every row that has no
// condition, and holds that the table tells the truth about it.
func TestDenialsMatchTheProgram(t *testing.T) {
	plain, listening := build(t, Options{Arch: "amd64"}), build(t, Options{Arch: "amd64", Listener: true})
	all := Denials()
	if len(all) < 50 {
		t.Fatalf("%d denials", len(all))
	}
	for _, d := range all {
		if d.Call == "" || d.Reason == "" {
			t.Errorf("%+v says too little", d)
		}
		known := false
		for _, a := range []*abi{&abiAMD64, &abiI386, &abiARM64, &abiARM} {
			nr, ok := Number(a.audit, d.Call)
			known = known || ok
			if !ok || d.Condition != "" || a == &abiARM64 || a == &abiARM {
				continue
			}
			if v := run(t, plain, Data{NR: nr, Arch: a.audit}); v != ErrnoVerdict(d.Errno) {
				t.Errorf("%s, %s: %v, the table says %v", a.name, d.Call, v, d.Errno)
			}
			if v := run(t, listening, Data{NR: nr, Arch: a.audit}); (v == Notify) != d.Notified {
				t.Errorf("%s, %s with a listener: %v, the table says notified: %v", a.name, d.Call, v, d.Notified)
			}
		}
		if !known {
			t.Errorf("no ABI has %s", d.Call)
		}
	}
}

func TestCallNames(t *testing.T) {
	for _, a := range []*abi{&abiAMD64, &abiI386, &abiARM64, &abiARM} {
		count := 0
		for nr := range int32(600) {
			name := CallName(a.audit, nr)
			if name == "" {
				continue
			}
			count++
			if back, ok := Number(a.audit, name); !ok || back != nr {
				t.Errorf("%s: %d is %s, which is %d, %v", a.name, nr, name, back, ok)
			}
		}
		if count < 310 || len(a.sorted) != count {
			t.Errorf("%s: %d names, %d sorted", a.name, count, len(a.sorted))
		}
		for _, nr := range []int32{-1, 470, 0x40000000, 0xf0000, 0xf0007} {
			if name := CallName(a.audit, nr); name != "" {
				t.Errorf("%s: %d is %s", a.name, nr, name)
			}
		}
		if nr, ok := Number(a.audit, "no_such_call"); ok {
			t.Errorf("%s: no_such_call is %d", a.name, nr)
		}
	}
	if CallName(unix.AUDIT_ARCH_ARM, 0xf0005) != "set_tls" || CallName(unix.AUDIT_ARCH_RISCV64, 63) != "" {
		t.Error("private or foreign calls have the wrong names")
	}
	if _, ok := Number(unix.AUDIT_ARCH_RISCV64, "read"); ok {
		t.Error("a foreign ABI has numbers")
	}
}

func BenchmarkBuild(b *testing.B) {
	for b.Loop() {
		if _, err := Build(Options{Listener: true, NotifyReads: true, NotifyWrites: true}); err != nil {
			b.Fatal(err)
		}
	}
}
