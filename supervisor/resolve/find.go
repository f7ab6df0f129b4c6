package resolve

import (
	"bytes"
	"os"
	"strconv"

	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
	"golang.org/x/sys/unix"
)

// Find opens with O_PATH what a path names in the caller's view: from its root and
// working directory, with its own /proc/self. Where the caller does not follow links
// (Caller.NoFollow) a symbolic link at the end is what is found. The descriptor is the
// caller's to close. Decisions and changes are made on it: the name may have come to mean
// something else.
//
// sameRoot: no process inside has another root than this one, so that the kernel may resolve
// by itself what does not lead through procfs.
//
// Unless the caller may wait for a disk or a server (Caller.MayWait) what that could be
// necessary for is not found (ErrMayWait), nor what a later call could have to wait for
// (MayWait). Without the caller's process (Caller.TGID) what leads through procfs is not
// found (ELOOP). The error is the errno that the kernel would give the caller, EACCES
// where a path goes through another process's links in procfs, or through any link in
// another procfs.
func (r *Resolver) Find(c Caller, p *Path, sameRoot bool) (fd int, err error) {
	if p.length == 0 {
		return -1, unix.ENOENT
	}
	if !c.MayWait && r.StartMayWait(c, p) {
		return -1, ErrMayWait
	}
	if sameRoot {
		fd, err = r.findAtOnce(c, p)
		if fd, err = promptly(c, fd, err); err == nil && !isProcfs(fd) {
			return fd, nil
		}
		if err == nil {
			unix.Close(fd)
		}
		// Where something is missing in procfs it may only be so for this process.
		if err != nil && err != unix.ELOOP && err != unix.ENOSYS && (err == ErrMayWait || r.ordinary(p.fromHere(c))) {
			return -1, err
		}
	}
	fd, err = r.find(c, p)
	return promptly(c, fd, err)
}

// isProcfs reports whether a descriptor is open on a procfs, of which there can be several.
// It may have to wait for a server.
func isProcfs(fd int) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(fd, &fs) == nil && fs.Type == unix.PROC_SUPER_MAGIC
}

// promptly gives a descriptor back unless the caller may wait, or need not.
func promptly(c Caller, fd int, err error) (int, error) {
	if err != nil || c.MayWait || !MayWait(fd) {
		return fd, err
	}
	unix.Close(fd)
	return -1, ErrMayWait
}

// find walks.
func (r *Resolver) find(c Caller, p *Path) (fd int, err error) {
	if c.TGID == 0 {
		return -1, unix.ELOOP
	}
	c.keepLink, c.NoFollow = c.NoFollow, false
	w := walker{resolver: r, caller: c, root: -1, at: -1}
	defer w.close()
	if err = w.start(p.String()); err == nil {
		err = w.run()
	}
	if err != nil {
		return -1, err
	}
	fd, w.at = w.at, -1
	return fd, nil
}

// findAtOnce has the kernel resolve all of the path, which may come to another end on procfs
// than for the caller. ELOOP: it leads through links there, or through too many.
func (r *Resolver) findAtOnce(c Caller, p *Path) (int, error) {
	path := p.unsafeBytes()
	if leadsThroughSelf(path) {
		return -1, unix.ELOOP
	}
	at := unix.AT_FDCWD
	if path[0] != '/' {
		var err error
		if at, err = openStart(c); err != nil {
			return -1, err
		}
		defer unix.Close(at)
	}
	how := unix.OpenHow{Flags: pathOnly, Resolve: unix.RESOLVE_NO_MAGICLINKS}
	if c.NoFollow {
		how.Flags |= unix.O_NOFOLLOW
	}
	if !c.MayWait {
		how.Resolve |= resolveCached
	}
	fd, err := unix.Openat2(at, string(path), &how)
	if err == unix.EINVAL && !c.MayWait { // before Linux 5.12
		err = unix.EAGAIN
	}
	if err == unix.EAGAIN && !c.MayWait {
		return -1, ErrMayWait
	}
	return fd, err
}

// openStart opens the directory that a relative path starts from.
func openStart(c Caller) (int, error) {
	if c.Dir != unix.AT_FDCWD {
		return OpenDescriptor(c.TID, c.Dir)
	}
	return unix.Open("/proc/"+strconv.Itoa(c.TID)+"/cwd", pathOnly, 0)
}

// FindDescriptor opens with O_PATH what the descriptor Caller.Dir is open on; Find says
// what becomes of it where the caller may not wait. EBADF: there is no such descriptor.
func FindDescriptor(c Caller) (int, error) {
	if !c.MayWait && startMayWait(c) {
		return -1, ErrMayWait
	}
	fd, err := OpenDescriptor(c.TID, c.Dir)
	return promptly(c, fd, err)
}

// OpenDescriptor opens with O_PATH what a descriptor of a thread is open on. EBADF:
// there is no such descriptor.
func OpenDescriptor(tid, fd int) (int, error) {
	own, err := unix.Open("/proc/"+strconv.Itoa(tid)+"/fd/"+strconv.Itoa(fd), pathOnly, 0)
	if err == unix.ENOENT || fd < 0 {
		err = unix.EBADF
	}
	return own, err
}

// OnlyNames reports whether a descriptor of a thread was opened with O_PATH, so that the
// kernel refuses to change anything through it. Where that is not known it returns true.
func OnlyNames(tid, fd int) bool {
	var buf [256]byte
	info, err := unix.Open("/proc/"+strconv.Itoa(tid)+"/fdinfo/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return true
	}
	defer unix.Close(info)
	n, err := unix.Read(info, buf[:])
	if err != nil {
		return true
	}
	_, text, _ := bytes.Cut(buf[:n], []byte("flags:\t"))
	line, _, _ := bytes.Cut(text, []byte("\n"))
	flags, err := strconv.ParseUint(string(line), 8, 32)
	return err != nil || flags&unix.O_PATH != 0
}

// Place is the path of what a descriptor is open on, as the kernel spells it for this
// process. It counts only if the name leads to the same object now: what was deleted,
// or lies in another mount namespace, has none (ENOENT), nor has what is in no
// directory. EACCES and others: the name could not be looked up.
func Place(fd int, id kernel.FileID) (string, error) {
	var buf [PathMax]byte
	n, err := unix.Readlink(descriptorName(fd), buf[:])
	if err != nil {
		return "", err
	}
	if n == len(buf) || buf[0] != '/' {
		return "", unix.ENOENT
	}
	name := string(buf[:n])
	there, err := unix.Open(name, pathOnly|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(there)
	if found, _, err := kernel.Identify(there); err != nil || found != id {
		return "", unix.ENOENT
	}
	return name, nil
}

// DescriptorName returns a path by which this thread reaches the object of its own
// descriptor, a symbolic link included, for calls that take no descriptor.
func DescriptorName(fd int) string { return descriptorName(fd) }

// Mounted reports whether the object of a descriptor lies on a mount of this thread's mount
// namespace: a memfd lies on an internal one. It is false where that is not known.
func Mounted(fd int) bool {
	var st unix.Statx_t
	if statDescriptor(fd, &st) != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return false
	}
	table, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return false
	}
	_, found := mountinfo.Find(string(table), st.Mnt_id)
	return found
}
