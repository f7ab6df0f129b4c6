package resolve

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/memjail/memjail/supervisor/decide"
	"golang.org/x/sys/unix"
)

const (
	maxSymlinks   = 40 // MAXSYMLINKS of the kernel
	maxComponents = PathMax / 2
)

// Resolve resolves the path component by component in the caller's view: its root
// (also after chroot(2)), its working directory or descriptor, and /proc/self and
// /proc/thread-self as the caller sees them. It follows magic links (fd/N, cwd,
// root, exe) only of the caller's own process, and none in another procfs. The class is
// Unknown in all other cases.
//
// slow reports that the path was not resolved, because this would have had to wait for a
// disk or a server, off procfs, and the caller may not.
func (r *Resolver) Resolve(c Caller, p *Path) (o decide.Object, slow bool) {
	w := walker{resolver: r, caller: c, root: -1, at: -1}
	defer w.close()
	err := w.start(p.String())
	if err == nil {
		err = w.run()
	}
	if err != nil {
		return decide.Object{}, err == ErrMayWait
	}
	return w.identify(), false
}

// walker is the state of one walk: O_PATH descriptors of the caller's root and of
// the place reached, and what is still to be walked.
type walker struct {
	resolver *Resolver
	caller   Caller
	root     int
	at       int
	unsafe   []string // components still to walk, last first
	links    int
	steps    int
}

const pathOnly = unix.O_PATH | unix.O_CLOEXEC

func (w *walker) close() {
	for _, fd := range []int{w.root, w.at} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

func (w *walker) start(unsafePath string) error {
	if unsafePath == "" {
		return unix.ENOENT
	}
	procfs, tid := w.resolver.Procfs, w.caller.TID
	var err error
	if w.root, err = procfs.OpenThread(tid, "root", unix.O_PATH); err != nil {
		return err
	}
	from := "root"
	if unsafePath[0] != '/' || w.caller.InRoot {
		from = "cwd"
		if w.caller.Dir != unix.AT_FDCWD {
			from = "fd/" + strconv.Itoa(w.caller.Dir)
		}
	}
	w.at, err = procfs.OpenThread(tid, from, unix.O_PATH)
	if err == unix.ENOENT && from[0] == 'f' {
		err = unix.EBADF // the caller has no such descriptor
	}
	if err == nil && w.caller.InRoot {
		unix.Close(w.root)
		w.root, err = unix.FcntlInt(uintptr(w.at), unix.F_DUPFD_CLOEXEC, 0)
	}
	if err != nil {
		return err
	}
	w.push(unsafePath)
	return nil
}

// push puts the components of a path in front of what is still to be walked. A
// slash at the end is the component ".", which only a directory has.
func (w *walker) push(unsafePath string) {
	parts := strings.Split(unsafePath, "/")
	for i := len(parts) - 1; i >= 0; i-- {
		switch {
		case parts[i] != "":
			w.unsafe = append(w.unsafe, parts[i])
		case i == len(parts)-1:
			w.unsafe = append(w.unsafe, ".")
		}
	}
}

func (w *walker) run() error {
	for len(w.unsafe) > 0 {
		name := w.unsafe[len(w.unsafe)-1]
		w.unsafe = w.unsafe[:len(w.unsafe)-1]
		if w.steps++; w.steps > maxComponents {
			return unix.ELOOP
		}
		if err := w.step(name); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) step(name string) error {
	switch name {
	case ".":
		return w.move(".", unix.O_DIRECTORY)
	case "..":
		if same, err := sameObject(w.at, w.root); err != nil || same {
			return err
		}
		return w.move("..", unix.O_DIRECTORY)
	}
	fd, err := w.open(name, unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	device, kind, err := look(fd)
	if err != nil {
		unix.Close(fd)
		return err
	}
	if kind != unix.S_IFLNK || (w.caller.keepLink && len(w.unsafe) == 0) {
		w.replace(fd)
		return nil
	}
	defer unix.Close(fd)
	return w.follow(name, fd, device)
}

// look returns the device and the type (S_IFMT) of an open object without asking a server
// (AT_STATX_DONT_SYNC).
func look(fd int) (device uint64, kind uint32, err error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st); err != nil {
		return 0, 0, err
	}
	return unix.Mkdev(st.Dev_major, st.Dev_minor), uint32(st.Mode) & unix.S_IFMT, nil
}

// follow goes through the symbolic link name, open as link, on device.
func (w *walker) follow(name string, link int, device uint64) error {
	if w.caller.NoSymlinks || (len(w.unsafe) == 0 && w.caller.NoFollow) {
		return unix.ELOOP
	}
	if w.links++; w.links > maxSymlinks {
		return unix.ELOOP
	}
	if device == w.resolver.Procfs.device {
		below, err := w.resolver.nameOf(w.at)
		if err != nil {
			return err
		}
		if below != "" {
			return w.followMagic(name, below)
		}
		switch name {
		case "self":
			w.push(strconv.Itoa(w.caller.TGID))
			return nil
		case "thread-self":
			w.push(fmt.Sprintf("%d/task/%d", w.caller.TGID, w.caller.TID))
			return nil
		}
	}
	if !w.caller.MayWait && device != w.resolver.Procfs.device && w.resolver.remote() && MayWait(link) {
		return ErrMayWait
	}
	if device != w.resolver.Procfs.device && isProcfs(link) {
		return unix.EACCES // of another instance, which shows this process its own
	}
	buf := make([]byte, PathMax)
	n, err := unix.Readlinkat(link, "", buf)
	if err != nil || n == 0 || n == len(buf) {
		return unix.ENOENT
	}
	unsafeTarget := string(buf[:n])
	if unsafeTarget[0] == '/' {
		root, err := unix.FcntlInt(uintptr(w.root), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return err
		}
		w.replace(root)
	}
	w.push(unsafeTarget)
	return nil
}

// followMagic follows a link of procfs that is not made of text. The kernel resolves it for
// the process that asks, so only the caller's own are followed.
func (w *walker) followMagic(name, below string) error {
	if w.caller.NoMagicLinks {
		return unix.ELOOP
	}
	owner, _, _ := strings.Cut(below, "/")
	if owner != strconv.Itoa(w.caller.TGID) && owner != strconv.Itoa(w.caller.TID) {
		return unix.EACCES
	}
	return w.move(name, 0)
}

// open opens a name below the place reached. Off procfs, where that can mean to wait
// for a server that never answers, only what the kernel has in memory is opened
// unless the caller may wait (RESOLVE_CACHED of openat2(2), 5.12).
func (w *walker) open(name string, flags int) (int, error) {
	device, _, err := look(w.at)
	if err != nil {
		return -1, err
	}
	if w.caller.MayWait || device == w.resolver.Procfs.device {
		return unix.Openat(w.at, name, pathOnly|flags, 0)
	}
	fd, err := unix.Openat2(w.at, name, &unix.OpenHow{Flags: uint64(pathOnly | flags), Resolve: resolveCached})
	switch err {
	case unix.EAGAIN:
		return -1, ErrMayWait
	case unix.EINVAL, unix.ENOSYS: // an older kernel
		return unix.Openat(w.at, name, pathOnly|flags, 0)
	}
	return fd, err
}

func (w *walker) move(name string, flags int) error {
	fd, err := w.open(name, flags)
	if err != nil {
		return err
	}
	w.replace(fd)
	return nil
}

func (w *walker) replace(fd int) {
	unix.Close(w.at)
	w.at = fd
}

// identify classifies the object at which the walk ended.
func (w *walker) identify() decide.Object {
	device, _, err := look(w.at)
	if err != nil {
		return decide.Object{}
	}
	if device != w.resolver.Procfs.device {
		return decide.Object{Class: decide.Ordinary}
	}
	below, err := w.resolver.nameOf(w.at)
	if err != nil || below == "" {
		return decide.Object{}
	}
	return Classify(w.caller, below)
}

// nameOf returns the name below the procfs root of the object behind an O_PATH descriptor on
// this procfs; "" is the root itself. The kernel's own spelling of the
// descriptor's path is only a proposal: it counts if opening it below the held
// root gives the same object.
func (r *Resolver) nameOf(fd int) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	if st.Dev != r.Procfs.device {
		return "", unix.EXDEV
	}
	if st.Ino == r.Procfs.inode {
		return "", nil
	}
	proposal, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return "", err
	}
	// The kernel replaces its entries of /proc/PID/net, while some hold the old one.
	proposal = strings.TrimSuffix(proposal, " (deleted)")
	// Below a second mount of the same instance the path begins with that
	// mount's own, which may contain anything: take the shortest proposal first.
	for rest := proposal; ; {
		_, after, found := strings.Cut(rest, "/")
		if !found {
			return "", unix.ENOENT
		}
		rest = after
		if r.Procfs.sameBelow(rest, &st) {
			return rest, nil
		}
	}
}

func (p *Procfs) sameBelow(name string, want *unix.Stat_t) bool {
	fd, err := openPlain(int(p.root.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Dev == want.Dev && st.Ino == want.Ino
}

// sameObject compares two O_PATH descriptors with the mounts they were reached by.
func sameObject(a, b int) (bool, error) {
	var sa, sb unix.Statx_t
	for _, look := range []struct {
		fd int
		st *unix.Statx_t
	}{{a, &sa}, {b, &sb}} {
		if err := unix.Statx(look.fd, "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_MNT_ID, look.st); err != nil {
			return false, err
		}
	}
	return sa.Ino == sb.Ino && sa.Dev_major == sb.Dev_major && sa.Dev_minor == sb.Dev_minor &&
		sa.Mnt_id == sb.Mnt_id, nil
}
