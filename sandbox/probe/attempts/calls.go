package attempts

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

// callFamilies are the attempts that are system calls other than opens.
var callFamilies = []func() []probe.Attempt{
	ptraceAttempts, processVMAttempts, pidfdAttempts, madviseAttempts, userfaultfdAttempts, perfAttempts, bpfAttempts,
	inspectAttempts, setMMAttempts, ringAttempts, coreAttempts, limitAttempts, terminalAttempts, signalAttempts,
	namespaceAttempts, mountAttempts, handleAttempts, sharedAttempts, execAttempts, newProgramAttempts, codeAttempts,
	portAttempts, restoreAttempts, inheritedMeans, keyAttempts, windowAttempts, zerocopyAttempts, lineAttempts,
}

// others are the targets that are another process than the attacker's.
var others = []probe.Target{probe.Child, probe.Sibling, probe.Parent, probe.Outside}

// number is a system call's number in the native and in the 32-bit interface
// (arch/x86/entry/syscalls/syscall_32.tbl).
type number struct{ native, i386 uintptr }

// both are the interfaces that most attempts are made by.
var both = []probe.ABI{probe.Native, probe.I386}

// in returns the number in an interface, and the mode of a step that uses it.
func (n number) in(abi probe.ABI) (uintptr, attack.Mode) {
	if abi == probe.I386 {
		return n.i386, attack.By32
	}
	return n.native, 0
}

// step is a call of a spawned process.
func (n number) step(abi probe.ABI, args ...uintptr) attack.Step {
	nr, mode := n.in(abi)
	s := attack.Step{Number: nr, Mode: mode}
	copy(s.Args[:], args)
	return s
}

// call makes a call by an interface. For I386 what arguments point to must have
// come from low.
func call(abi probe.ABI, n number, args ...uintptr) (uintptr, error) {
	make, nr := attack.Call, n.native
	if abi == probe.I386 {
		make, nr = attack.Call32, n.i386
	}
	r, errno := make(nr, args...)
	if errno != 0 {
		return 0, errno
	}
	return r, nil
}

// low copies b to where both interfaces reach it. Without memory there it is b
// itself, and a call of the 32-bit interface fails.
func low(b []byte) []byte {
	if copied, err := attack.Low(b); err == nil {
		return copied
	}
	return b
}

// lowString is a C string that both interfaces reach.
func lowString(s string) uintptr { return attack.Address(low(attack.String(s))) }

// pack lays numbers out as in a C structure without holes, in this machine's order.
func pack(values ...any) []byte {
	var b []byte
	for _, v := range values {
		switch v := v.(type) {
		case uint8:
			b = append(b, v)
		case uint16:
			b = binary.NativeEndian.AppendUint16(b, v)
		case uint32:
			b = binary.NativeEndian.AppendUint32(b, v)
		case int32:
			b = binary.NativeEndian.AppendUint32(b, uint32(v))
		case uint64:
			b = binary.NativeEndian.AppendUint64(b, v)
		case uintptr:
			b = binary.NativeEndian.AppendUint64(b, uint64(v))
		case []byte:
			b = append(b, v...)
		default:
			panic(fmt.Sprintf("pack: %T", v)) // a mistake in the catalogue, which every test would meet
		}
	}
	return b
}

// word64 and word32 read a number out of a structure.
func word64(b []byte, at int) uint64 { return binary.NativeEndian.Uint64(b[at:]) }
func word32(b []byte, at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }

// iovec is a struct iovec of an interface.
func iovec(abi probe.ABI, address uint64, size int) uintptr {
	if abi == probe.I386 {
		return attack.Address(low(pack(uint32(address), uint32(size))))
	}
	return attack.Address(low(pack(address, uint64(size))))
}

// openPidfd is a descriptor of a process.
func openPidfd(abi probe.ABI, pid int) (uintptr, error) {
	return call(abi, number{unix.SYS_PIDFD_OPEN, 434}, uintptr(pid), 0)
}

// permits is the Permits of attempts that one setting of a policy opens.
func permits(setting string, opens func(p policy.Policy) bool) func(policy.Policy) string {
	return func(p policy.Policy) string {
		if opens(p) {
			return "the policy says " + setting
		}
		return ""
	}
}

var (
	permitsAccess = permits(`memory.access = "allow"`,
		func(p policy.Policy) bool { return p.Memory.Access == policy.AccessAllow })
	permitsPtrace = permits(`memory.ptrace = "allow"`,
		func(p policy.Policy) bool { return p.Memory.Ptrace == policy.PtraceAllow })
	permitsCores = permits(`memory.core-dumps = "allow"`,
		func(p policy.Policy) bool { return p.Memory.CoreDumps == policy.CoreDumpsAllow })
	permitsNamespaces = permits(`ipc.namespaces = "user"`,
		func(p policy.Policy) bool { return p.IPC.Namespaces == policy.NamespacesUser })
	permitsSignals = permits(`ipc.signals = "all"`,
		func(p policy.Policy) bool { return p.IPC.Signals == policy.ScopeAll })
)

// only keeps what permits says for targets inside: no setting of a policy opens a
// process outside to it.
func only(inside func(policy.Policy) string, t probe.Target) func(policy.Policy) string {
	if t == probe.Outside {
		return nil
	}
	return inside
}

// The checks of attempts whose victim is a spawned process, a copy of this one with
// a copy of its canaries. What such a victim says about its own memory it writes to
// a pipe.

// ownCanary holds what was read against this process's own canary.
func ownCanary(s *probe.Env, _ probe.Victim, o probe.Outcome) bool {
	return bytes.Equal(o.Data, s.Canary())
}

// forged reports whether the victim's own word is what attempts write.
func forged(_ *probe.Env, _ probe.Victim, o probe.Outcome) bool {
	return bytes.Equal(o.Data, probe.Marker)
}

// believed is for what the attempt itself has held against the victim's word.
func believed(_ *probe.Env, _ probe.Victim, o probe.Outcome) bool { return o.Done }

// pipe is a pipe whose ends spawned processes have, too.
type pipe struct{ r, w int }

func newPipe() (pipe, error) {
	var ends [2]int
	err := unix.Pipe2(ends[:], unix.O_CLOEXEC)
	return pipe{ends[0], ends[1]}, err
}

// newPipes makes several; done closes them.
func newPipes(n int) (all []pipe, done func(), err error) {
	done = func() {
		for _, p := range all {
			p.close()
		}
	}
	for range n {
		p, err := newPipe()
		if err != nil {
			done()
			return nil, nil, err
		}
		all = append(all, p)
	}
	return all, done, nil
}

// take reads a canary's length from the pipe.
func (p pipe) take() ([]byte, error) {
	buf := make([]byte, probe.CanarySize)
	ready := []unix.PollFd{{Fd: int32(p.r), Events: unix.POLLIN}}
	for {
		switch n, err := unix.Poll(ready, 1500); {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, err
		case n == 0:
			return nil, unix.ETIMEDOUT
		default:
			n, err := unix.Read(p.r, buf)
			return buf[:max(n, 0)], err
		}
	}
}

// give lets somebody who reads the pipe go on.
func (p pipe) give() { unix.Write(p.w, []byte{'!'}) }

func (p pipe) close() { unix.Close(p.r); unix.Close(p.w) }

// tell is the step in which a process writes a piece of its own memory to a pipe.
func (p pipe) tell(address uint64) attack.Step {
	return attack.Step{Number: unix.SYS_WRITE, Args: [6]uintptr{uintptr(p.w), uintptr(address), probe.CanarySize}}
}

// await is the step in which a process waits until somebody gives.
func (p pipe) await() attack.Step {
	return attack.Step{Number: unix.SYS_READ, Args: [6]uintptr{uintptr(p.r), attack.Address(make([]byte, 8)), 1}}
}

// orEnd makes the process end where the step fails.
func orEnd(s attack.Step) attack.Step { s.Mode |= attack.OrEnd; return s }

// after gives a step the result of an earlier one, counted from 1, as its first
// argument.
func after(earlier uintptr, s attack.Step) attack.Step { s.From = earlier; return s }

// exited waits until a process has ended.
func exited(pid int, patience time.Duration) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return errors.Is(err, unix.ESRCH)
	}
	defer unix.Close(fd)
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}},
			int(time.Until(deadline).Milliseconds())+1)
		if n > 0 && err == nil {
			return true
		}
	}
	return false
}

// addressOf is where a piece of memory lies.
func addressOf(b []byte) uint64 { return uint64(attack.Address(b)) }

// sharedPageOfCalls is a page that spawned processes and this one share.
func sharedPageOfCalls() ([]byte, error) {
	return unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
}

// fileWith makes a file in the attempt's directory.
func fileWith(s *probe.Env, name string, content []byte, mode os.FileMode) (string, error) {
	path := filepath.Join(s.Dir, name)
	return path, os.WriteFile(path, content, mode)
}
