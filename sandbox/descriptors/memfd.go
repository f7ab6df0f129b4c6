package descriptors

import (
	"errors"
	"math/bits"

	"golang.org/x/sys/unix"
)

// runnableMemfd reports whether a descriptor of a regular file is a memfd that may be
// executed, although the policy refuses that: it was made outside and handed in. The
// error says that it cannot be told.
func (in *Inherited) runnableMemfd(fd int, st *unix.Stat_t, fs *unix.Statfs_t) (bool, error) {
	if !in.view.RefuseExecMemfds {
		return false, nil // where they are made inside, one more makes no difference
	}
	flags := unix.MFD_CLOEXEC | unix.MFD_NOEXEC_SEAL
	switch uint32(fs.Type) {
	case unix.TMPFS_MAGIC:
	case unix.HUGETLBFS_MAGIC: // one file system for each size of pages
		flags |= unix.MFD_HUGETLB |
			bits.TrailingZeros64(uint64(
				fs.Bsize))<<unix.MFD_HUGE_SHIFT //nolint:unconvert // its width differs between architectures
	default:
		return false, nil
	}
	// Memfds of one kind lie on a file system of the kernel's own, whatever their name.
	own, err := unix.MemfdCreate("memjail", flags)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) {
		return false, nil // before Linux 6.3, or no pages of this size
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(own)
	var ownStat unix.Stat_t
	if err := unix.Fstat(own, &ownStat); err != nil || ownStat.Dev != st.Dev {
		return false, err
	}
	// The seal holds the bits of the mode; without it they can be set at any time. A
	// descriptor that only names the file tells no seals, and can be opened again.
	// Files of large pages do not heed it.
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	return err != nil || seals&unix.F_SEAL_EXEC == 0 || st.Mode&0o111 != 0 ||
		uint32(fs.Type) == unix.HUGETLBFS_MAGIC, nil
}

// sealedLimit bounds what is copied, in bytes.
const sealedLimit = 64 << 20

// replaceSealed puts a copy that cannot be executed in the place of a memfd whose
// content nobody can change any more, such as the standard input that a service
// manager makes of a text. The copy has the same content, seals and offset. Errors:
// EPERM, the content can change.
func replaceSealed(fd int, st *unix.Stat_t) error {
	const fixed = unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	switch {
	case err != nil:
		return err
	case seals&fixed != fixed || st.Size > sealedLimit:
		return unix.EPERM
	}
	offset, err := unix.Seek(fd, 0, unix.SEEK_CUR)
	if err != nil {
		return err
	}
	own, err := unix.MemfdCreate("sealed", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	defer unix.Close(own)
	for from := int64(0); from < st.Size; {
		n, err := unix.Sendfile(own, fd, &from, int(st.Size-from))
		if err != nil || n == 0 {
			return errors.Join(err, unix.EIO)
		}
	}
	if _, err := unix.FcntlInt(uintptr(own), unix.F_ADD_SEALS, seals); err != nil {
		return err
	}
	if _, err := unix.Seek(own, offset, unix.SEEK_SET); err != nil {
		return err
	}
	return replaceDescriptor(own, fd)
}

// replaceDescriptor makes fd what own is, and leaves it closed or open on execve(2)
// as it was.
func replaceDescriptor(own, fd int) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil {
		return err
	}
	if flags&unix.FD_CLOEXEC != 0 {
		return unix.Dup3(own, fd, unix.O_CLOEXEC)
	}
	return unix.Dup3(own, fd, 0)
}
