package supervisor

import (
	"errors"

	"github.com/memjail/memjail/supervisor/decide"
	"golang.org/x/sys/unix"
)

// memfdName is the longest name of a memfd with its NUL byte, memfd_create(2).
const memfdName = 250

// memfd makes a memfd for the caller that cannot be executed. It is like one that the caller
// makes itself: the process that touches its pages is charged for them. It differs in its
// mode and its seals.
func (r *receiver) memfd(q *request, number int32) (injected bool) {
	flags := int(uint32(q.args[1]))
	if flags&(unix.MFD_EXEC|unix.MFD_HUGETLB) != 0 { // asked for in words, or not to be kept from it
		r.refuse(q, number)
		return false
	}
	var buf [memfdName]byte
	n, err := r.readString(q.tid, q.args[0], buf[:])
	switch {
	case err == unix.ENAMETOOLONG:
		err = unix.EINVAL // as the call itself says
	case unreadable(err), q.tid == 0:
		// The caller is not dumpable, or has more capabilities than this process (a
		// container's root without CAP_SYS_PTRACE). The name is for people only.
		n, err = 0, nil
	}
	if err != nil {
		r.answer(q, decide.Refuse{Errno: errnoOf(err)}, noFile)
		return false
	}
	fd, err := r.newMemfd(q, string(buf[:n]), flags|unix.MFD_NOEXEC_SEAL|unix.MFD_CLOEXEC)
	if err != nil {
		r.answer(q, decide.Refuse{Errno: errnoOf(err)}, noFile)
		return false
	}
	defer unix.Close(fd)
	if flags&unix.MFD_ALLOW_SEALING == 0 {
		// What cannot be executed can be sealed; one that nobody asked to be sealed
		// must not be, by whoever gets it.
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL); err != nil {
			r.answer(q, decide.Refuse{Errno: errnoOf(err)}, noFile)
			return false
		}
	}
	return r.answer(q, decide.Inject{}, fd)
}

// newMemfd makes one that belongs to the caller.
func (r *receiver) newMemfd(q *request, name string, flags int) (fd int, err error) {
	if !r.rights.canSwitchUser() {
		return unix.MemfdCreate(name, flags)
	}
	id, err := readIdentity(r.s.resolver.Procfs, q.tid)
	if err != nil {
		return -1, err
	}
	err = r.as(q, id, false, func() (err error) {
		fd, err = unix.MemfdCreate(name, flags)
		return err
	})
	return fd, err
}

func errnoOf(err error) unix.Errno {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return unix.EACCES
}
