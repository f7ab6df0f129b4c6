package filter

import (
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

// use is any use of any system call. With picks bit n argument n is one of those that are
// interesting for the call; with bit 6 the number is below 512.
func use(interf uint8, nr int32, picks uint8, args [6]uint64) Data {
	audits := []uint32{unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_AARCH64, unix.AUDIT_ARCH_ARM, 0}
	d := Data{NR: nr, Arch: audits[int(interf)%len(audits)], InstructionPointer: 0x401000, Args: args}
	if picks&64 != 0 {
		d.NR &= 511
	}
	for i, values := range valuesOf[CallName(d.Arch, d.NR)] {
		if picks>>i&1 != 0 && len(values) > 0 {
			d.Args[i] = values[d.Args[i]%uint64(len(values))]
		}
	}
	if d.Arch == unix.AUDIT_ARCH_I386 || d.Arch == unix.AUDIT_ARCH_ARM {
		for i := range d.Args {
			d.Args[i] = uint64(uint32(d.Args[i])) // as the kernel hands them over
		}
	}
	return d
}

var valuesOf = interesting()

// FuzzProgram holds that a program of any options, interpreted, answers any use of any
// call as the oracle says.
func FuzzProgram(f *testing.F) {
	f.Fuzz(func(t *testing.T, choice uint64, interf uint8, nr int32, picks uint8, a, b, c, d, e, g uint64) {
		o, asked := optionsOf(choice), use(interf, nr, picks, [6]uint64{a, b, c, d, e, g})
		p := build(t, o)
		if len(p) > 4096 {
			t.Fatalf("%d instructions, which no kernel takes: %+v", len(p), o)
		}
		if have, want := run(t, p, asked), oracle(o, asked); have != want {
			t.Fatalf("%s is %v, should be %v\n%+v\n%+v", CallName(asked.Arch, asked.NR), have, want, asked, o)
		}
	})
}

// optionsOf are options for a number: each bit is one of the switches.
func optionsOf(choice uint64) Options {
	o := Options{Arch: arches[choice&1], Access: policy.Access(choice>>1&3) % 3, Ptrace: policy.Ptrace(choice>>3&3) % 3,
		Namespaces: policy.Namespaces(choice >> 5 & 1), Terminals: policy.Terminals(choice >> 6 & 1),
		CoreDumps: policy.CoreDumps(choice >> 7 & 1)}
	choice >>= 8
	v := reflect.ValueOf(&o).Elem()
	for i := range v.NumField() {
		if v.Field(i).Kind() == reflect.Bool {
			v.Field(i).SetBool(choice&1 != 0)
			choice >>= 1
		}
	}
	for _, family := range []uint32{1, 2, 10, 16} {
		if o.RestrictFamilies && choice&1 != 0 {
			o.Families = append(o.Families, family)
		}
		choice >>= 1
	}
	for _, call := range []string{"mkdirat", "sendto", "socket", "chmod", "truncate"} {
		if choice&1 != 0 {
			o.Observe = append(o.Observe, call)
		}
		choice >>= 1
	}
	for _, call := range []string{"clone", "sethostname", "unshare"} {
		if choice&1 != 0 {
			o.NotifyDropped = append(o.NotifyDropped, call)
		}
		choice >>= 1
	}
	return o
}

// TestOptionsOf: every switch can be off and on, so that the fuzz test leaves none out.
func TestOptionsOf(t *testing.T) {
	some, none := reflect.ValueOf(optionsOf(^uint64(0)&^0b01010)), reflect.ValueOf(optionsOf(0))
	for i := range some.NumField() {
		if name := some.Type().Field(i).Name; some.Field(i).IsZero() || !none.Field(i).IsZero() && name != "Arch" {
			t.Errorf("%s is %v, and %v", name, some.Field(i), none.Field(i))
		}
	}
}

// neverOfSupervisors are the calls that a supervisor's own filter refuses with every argument.
var neverOfSupervisors = []string{
	"execve", "fork", "vfork", "socket", "socketpair", "process_vm_writev", "bpf", "mount", "umount2",
	"pivot_root", "move_mount", "open_tree", "open_tree_attr", "fsopen", "fsconfig", "fsmount", "fspick",
	"mount_setattr",
}

// ownOracle says what a supervisor's own filter answers.
func ownOracle(a *abi, d Data, exeFD int, path uint64, successor bool) Verdict {
	if d.Arch != a.audit || d.NR < 0 || d.NR > 469 {
		return enosys
	}
	low := func(i int) uint32 { return uint32(d.Args[i]) }
	refused := false
	switch name := CallName(d.Arch, d.NR); name {
	case "clone3", "io_uring_setup", "io_uring_enter", "io_uring_register":
		return enosys
	case "execveat":
		refused = !successor || low(0) != uint32(exeFD) || d.Args[1] != path || low(4) != 0x1000
	case "clone":
		refused = low(0)&unix.CLONE_THREAD == 0 && !(successor && low(0) == 0x1111)
	case "ptrace":
		refused = low(0) != unix.PTRACE_DETACH && low(0) != unix.PTRACE_GETSIGINFO
	default:
		refused = slices.Contains(neverOfSupervisors, name)
	}
	if refused {
		return eperm
	}
	return Allow
}

// FuzzSupervisorProgram holds that a supervisor's own filter answers any use of any call as
// the oracle says.
func FuzzSupervisorProgram(f *testing.F) {
	f.Fuzz(func(t *testing.T, exeFD uint16, successor bool, interf uint8, nr int32, picks uint8, a, b, c, e uint64) {
		asked := use(interf, nr, picks, [6]uint64{a, b, c, 0, e})
		if picks&128 != 0 { // as the program itself makes them
			asked.Args[0], asked.Args[1] = asked.Args[0]&^0xffffffff|uint64(exeFD), ownPath
			asked.Args[4] = asked.Args[4]&^0xffffffff | 0x1000
		}
		for _, native := range []*abi{&abiAMD64, &abiARM64} {
			p := own(native, int(exeFD), ownPath, successor)
			want := ownOracle(native, asked, int(exeFD), ownPath, successor)
			if have := run(t, p, asked); have != want {
				t.Fatalf("%s: %s is %v, should be %v: %+v", native.name, CallName(asked.Arch, asked.NR), have, want,
					asked)
			}
		}
	})
}

// TestOwnEveryCall asks a supervisor's own filter about every call, without arguments and with
// all bits set.
func TestOwnEveryCall(t *testing.T) {
	for _, native := range []*abi{&abiAMD64, &abiARM64} {
		for _, successor := range []bool{false, true} {
			p := own(native, 9, ownPath, successor)
			for nr := range int32(480) {
				for _, arg := range []uint64{0, math.MaxUint64} {
					d := Data{NR: nr, Arch: native.audit, Args: [6]uint64{arg, arg, arg, arg, arg, arg}}
					if have, want := run(t, p, d), ownOracle(native, d, 9, ownPath, successor); have != want {
						t.Errorf("%s, successor %t: %s is %v, should be %v", native.name, successor,
							CallName(d.Arch, d.NR), have, want)
					}
				}
			}
		}
	}
}
