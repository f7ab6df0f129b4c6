package filter

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// ownDenials are what a supervisor never does. io_uring is among them because a
// ring makes sockets that no filter sees.
var ownDenials = [...]string{
	"execve", "execveat", "fork", "vfork", "socket", "socketpair", "process_vm_writev", "bpf",
	"mount", "umount2", "pivot_root", "move_mount", "open_tree", "open_tree_attr", "fsopen", "fsconfig",
	"fsmount", "fspick", "mount_setattr",
}

// SupervisorProgram makes the filter that a supervisor loads for itself, for the architecture
// memjail was built for: no program is started, no socket made, no process made
// (threads are), nobody's memory written, nobody traced (but let go who has asked to be
// traced by calling PTRACE_TRACEME), nothing mounted: EPERM. clone3 and
// io_uring are ENOSYS, as is every call of another ABI or newer than Linux 6.18.
//
// With successor two calls are let in, which together start memjail's own
// program again for a hand-over: clone(2) with the flags CLONE_VM, CLONE_PIDFD
// and SIGCHLD and no other, and execveat(2) of the descriptor exeFD with
// AT_EMPTY_PATH and the path at the address emptyPath. That address must hold an
// empty string in memory that cannot be written, since a filter sees the address
// only; exeFD must stay open on memjail's own program.
//
// The program is nil, which the kernel does not load, for an architecture that
// [Build] has none for.
func SupervisorProgram(exeFD int, emptyPath uintptr, successor bool) Program {
	m, ok := machineOf(runtime.GOARCH)
	if !ok {
		return nil
	}
	return own(m.native, exeFD, emptyPath, successor)
}

func own(a *abi, exeFD int, emptyPath uintptr, successor bool) Program {
	h := &head{assembler: newAssembler()}
	allow, eperm, enosys := h.to(Allow), h.to(ErrnoVerdict(unix.EPERM)), h.to(ErrnoVerdict(unix.ENOSYS))
	h.load(offsetArch)
	h.equal(a.audit, next, enosys)
	h.load(offsetNR)
	h.above(newestCall, enosys, next)
	if successor {
		h.call(a, "execveat", func() {
			path := uint64(emptyPath)
			h.loadLow(0)
			h.equal(uint32(exeFD), next, eperm)
			h.loadLow(1)
			h.equal(uint32(path), next, eperm)
			h.loadHigh(1)
			h.equal(uint32(path>>32), next, eperm)
			h.loadLow(4)
			h.equal(atEmptyPath, allow, eperm)
		})
	}
	h.call(a, "clone", func() {
		h.loadLow(0)
		if successor {
			h.equal(cloneVM|clonePidfd|signalChild, allow, next)
		}
		h.anyBit(cloneThread, allow, eperm)
	})
	h.call(a, "ptrace", func() {
		h.loadLow(0)
		h.equal(unix.PTRACE_DETACH, allow, next)
		h.equal(unix.PTRACE_GETSIGINFO, allow, eperm)
	})
	for _, name := range ownDenials {
		h.verdict(a, name, ErrnoVerdict(unix.EPERM))
	}
	for _, name := range [...]string{"clone3", "io_uring_setup", "io_uring_enter", "io_uring_register"} {
		h.verdict(a, name, ErrnoVerdict(unix.ENOSYS))
	}
	h.jump(allow)
	for _, e := range h.ends {
		h.place(e.label)
		h.ret(e.verdict)
	}
	p, err := h.assemble()
	if err != nil {
		return nil // its size does not depend on the caller: the tests have seen it
	}
	return p
}
