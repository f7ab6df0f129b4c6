package supervisor

import (
	"fmt"

	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/supervisor/procmem"
	"golang.org/x/sys/unix"
)

// read copies from the memory of a caller, as [kernel.ReadProcessMemory]. Where a filter
// above this process refuses that call (Docker's default before 23.0 does, without
// CAP_SYS_PTRACE) it is read through /proc/TID/mem: the kernel asks the same of both.
func (r *receiver) read(tid int, buf []byte, unsafeAddress uint64) (int, error) {
	n, err := kernel.ReadProcessMemory(tid, buf, unsafeAddress)
	if unreadable(err) || err == unix.ENOSYS {
		n, err = r.readFile(tid, buf, unsafeAddress)
	}
	r.noteRead(tid, err)
	if unreadable(err) && r.observes() {
		r.s.options.Observe(Observation{Comm: comm(r.s.resolver.Procfs, tid), Access: AccessHidden})
	}
	return n, err
}

// unreadable reports whether an error of [receiver.read], or of a look at a descriptor of the
// caller, means that nobody with this process's rights may look into the caller: it is not
// dumpable (prctl(2) PR_SET_DUMPABLE), or has capabilities that this process lacks.
func unreadable(err error) bool {
	return err == unix.EPERM || err == unix.EACCES
}

// readString is [procmem.ReadCString] by read.
func (r *receiver) readString(tid int, unsafeAddress uint64, buf []byte) (int, error) {
	return procmem.ReadCStringBy(r.read, tid, unsafeAddress, buf)
}

func (r *receiver) readFile(tid int, buf []byte, unsafeAddress uint64) (int, error) {
	id, err := readIdentity(r.s.resolver.Procfs, tid)
	if err != nil {
		return 0, err
	}
	file := noFile
	err = r.as(&r.request, id, true, func() (err error) {
		file, err = r.s.resolver.Procfs.OpenThread(tid, "mem", unix.O_RDONLY)
		return err
	})
	if err != nil {
		return 0, err
	}
	defer unix.Close(file)
	for {
		n, err := unix.Pread(file, buf, int64(unsafeAddress))
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EIO:
			return 0, unix.EFAULT
		case err == nil && n == 0 && len(buf) > 0: // its address space is no more
			return 0, unix.ESRCH
		}
		return max(n, 0), err
	}
}

// noteRead reports once if not even the first caller can be read. Later ones may have closed
// their memory themselves, prctl(2) PR_SET_DUMPABLE.
func (r *receiver) noteRead(tid int, err error) {
	s := r.s
	if tid == 0 || s.readable.Load() || s.options.StarterShares &&
		(r.request.kind.executes() || s.options.Quiet != nil && s.options.Quiet()) {
		return
	}
	if s.readable.CompareAndSwap(false, true) && unreadable(err) && s.options.Unreadable != nil {
		s.options.Unreadable(fmt.Errorf(
			"no file of /proc can be granted: memjail cannot read which file is opened: %w", err))
	}
}
