// Package resolve finds out which object a path names in the view of the calling process:
// from its root, working directory or dirfd, with its own /proc/self. It trusts none of it
// and decides nothing: the result only chooses a row of the grants table, whose file is then
// opened again below a procfs root that memjail holds.
package resolve

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/supervisor/decide"
	"golang.org/x/sys/unix"
)

// PathMax is the longest path, with its NUL byte, that the kernel takes.
const PathMax = 4096

// resolveCached is RESOLVE_CACHED of openat2(2), which x/sys does not have yet.
const resolveCached = 0x20

// headroom is the space before the path in a [Path]'s buffer: enough for
// "/proc/2147483647/fd/2147483647/".
const headroom = 40

// Path is a path copied once from a caller's memory. The zero value is ready to
// be filled through Buffer and SetLength.
type Path struct {
	buf    [headroom + PathMax]byte
	length int // without the NUL byte
}

// Buffer is where the copy of the path and its NUL byte go.
func (p *Path) Buffer() []byte { return p.buf[headroom:] }

// SetLength sets the length of the copy, without its NUL byte.
func (p *Path) SetLength(n int) { p.length = n }

// Length is how long the copy is, without its NUL byte.
func (p *Path) Length() int { return p.length }

// String returns the path. It is hostile input.
func (p *Path) String() string { return string(p.unsafeBytes()) }

// MayBeDevice reports whether the path is spelled as those of device nodes are.
func (p *Path) MayBeDevice() bool { return hasPrefix(p.unsafeBytes(), "/dev/") }

func (p *Path) unsafeBytes() []byte { return p.buf[headroom : headroom+p.length] }

// Caller is the thread whose view counts.
type Caller struct {
	TID  int
	TGID int // 0: not known yet
	// Dir is the directory a relative path starts from: AT_FDCWD or the number
	// of one of the caller's descriptors.
	Dir int
	// NoFollow: the call does not follow a symbolic link at the end (O_NOFOLLOW).
	NoFollow bool
	// NoSymlinks and NoMagicLinks: it follows none at all, or none of those of
	// procfs that are not made of text (RESOLVE_* of openat2(2)).
	NoSymlinks, NoMagicLinks bool
	// MayWait: resolving may wait for a disk or a server.
	MayWait bool
	// OtherRoot: its root may be another than this process's. For [Resolver.Canonical].
	OtherRoot bool
	// InRoot: the directory that the path starts from is its root (RESOLVE_IN_ROOT).
	InRoot bool
	// EmptyPath: an empty path means Dir itself (AT_EMPTY_PATH). For [Resolver.Canonical].
	EmptyPath bool
	// NamesDirectory: what the call makes is a directory, whose name may end in a slash.
	NamesDirectory bool

	keepLink bool // a symbolic link at the end is what is looked for
}

// Procfs is the one procfs instance whose files are granted: memjail's own.
type Procfs struct {
	root   *os.File
	device uint64
	inode  uint64
	mount  uint64 // the id of the mount that root is on
}

// OpenProcfs opens the procfs that is mounted at /proc, and proves that it numbers processes
// as the kernel does for this one ([kernel.ProveProcfs]). After an error the supervisor
// cannot grant anything.
func OpenProcfs() (*Procfs, error) {
	fd, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening /proc: %w", err)
	}
	p := &Procfs{root: os.NewFile(uintptr(fd), "/proc")}
	var st unix.Statx_t
	if err = kernel.ProveProcfs(fd); err == nil {
		err = statDescriptor(fd, &st)
	}
	if err != nil {
		p.root.Close()
		return nil, err
	}
	p.device, p.inode, p.mount = deviceOf(&st), st.Ino, st.Mnt_id
	return p, nil
}

// FD returns the descriptor of the root directory, an O_PATH one, which p keeps owning.
func (p *Procfs) FD() int { return int(p.root.Fd()) }

// Close closes the procfs root.
func (p *Procfs) Close() error { return p.root.Close() }

// Open opens a file below the procfs root by a name that memjail has composed. No symbolic
// link is followed, and the result is checked on the descriptor: it is a regular file of
// this procfs instance, and the one that the name means there, not another one of the same
// instance that is mounted over it. The
// descriptor is the caller's to close; it is -1 where there is an error.
func (p *Procfs) Open(name string, flags int) (int, error) {
	return p.openBelow(int(p.root.Fd()), name, flags, 0)
}

// readableByAll is the mode bit that lets all users read.
const readableByAll = 0o004

// OpenThread opens a file below the directory of the thread tid, which is named by its number
// only: before the caller uses the content it checks that the number still means the same
// thread. The descriptor is the caller's to close; the errno is returned bare.
func (p *Procfs) OpenThread(tid int, name string, flags int) (int, error) {
	var buf [48]byte
	path := append(append(strconv.AppendInt(buf[:0], int64(tid), 10), '/'), name...)
	return unix.Openat(p.FD(), string(path), flags|unix.O_CLOEXEC, 0)
}

// ReadLink reads a link below the directory of the thread tid, as [Procfs.OpenThread]
// opens a file.
func (p *Procfs) ReadLink(tid int, name string) (string, error) {
	var target [PathMax]byte
	n, err := unix.Readlinkat(p.FD(), strconv.Itoa(tid)+"/"+name, target[:])
	if err != nil {
		return "", err
	}
	return string(target[:n]), nil
}

// OpenPublic opens for reading a file whose mode lets all users read, so that it does not
// matter who opens it; EACCES for any other.
func (p *Procfs) OpenPublic(name string, flags int) (int, error) {
	return p.openBelow(int(p.root.Fd()), name, flags, readableByAll)
}

// openBelow opens a file that has all bits of mode in its own.
func (p *Procfs) openBelow(dir int, name string, flags int, mode uint16) (int, error) {
	fd, err := openPlain(dir, name, flags)
	if err != nil {
		return -1, fmt.Errorf("opening /proc/%s: %w", name, err)
	}
	var st unix.Statx_t
	if err = statDescriptor(fd, &st); err == nil && (deviceOf(&st) != p.device || st.Mode&unix.S_IFMT != unix.S_IFREG) {
		err = unix.EXDEV
	}
	if err == nil && st.Mode&mode != mode {
		err = unix.EACCES
	}
	if err == nil && st.Mnt_id != p.mount {
		err = p.mountedInPlace(st.Mnt_id)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("looking at /proc/%s: %w", name, err)
	}
	return fd, nil
}

// openPlain opens a name below a directory. No component may be a symbolic link,
// except a last one that is opened as itself (O_PATH and O_NOFOLLOW), and none may
// be "..". Where openat2(2) is refused (a service manager's filter may answer as an
// old kernel does) the components are opened one by one.
func openPlain(dir int, name string, flags int) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags) | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(dir, name, &how)
	if err != unix.ENOSYS {
		return fd, err
	}
	return openStepwise(dir, name, flags)
}

func openStepwise(dir int, name string, flags int) (int, error) {
	at := dir
	for {
		first, rest, more := strings.Cut(name, "/")
		fd, err := -1, error(unix.EXDEV)
		if first != "" && first != "." && first != ".." {
			step := flags
			if more {
				step = unix.O_PATH | unix.O_DIRECTORY
			}
			fd, err = unix.Openat(at, first, step|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		}
		if at != dir {
			unix.Close(at)
		}
		if err != nil || !more {
			return fd, err
		}
		at, name = fd, rest
	}
}

// Exists reports whether the name exists below the procfs root, and whether it is a
// directory.
func (p *Procfs) Exists(name string) (found, directory bool) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_BENEATH}
	fd, err := unix.Openat2(int(p.root.Fd()), name, &how)
	if err == unix.ENOSYS {
		fd, err = openStepwise(int(p.root.Fd()), name, unix.O_PATH)
	}
	if err != nil {
		return false, false
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	return true, statDescriptor(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// Resolver resolves paths for callers whose procfs is Procfs.
type Resolver struct {
	Procfs *Procfs
	// Remote reports whether there are file systems that have a server; nil: there are none.
	Remote func() bool
}

func (r *Resolver) remote() bool { return r.Remote != nil && r.Remote() }

// RuleOutProcfs returns Ordinary for a path that leads to an object which is certainly not
// on procfs, or to nothing, at the cost of few system calls (none, or one if it exists).
// Otherwise it returns Unknown, and [Resolver.Resolve] finds out. It assumes that the
// caller's root is this process's own.
//
// It may return Ordinary for a path to procfs that only the caller can follow (through its
// own descriptors or /proc/self); the kernel refuses that one then.
func (r *Resolver) RuleOutProcfs(c Caller, p *Path) decide.Class {
	path := p.unsafeBytes()
	if len(path) == 0 || leadsThroughSelf(path) {
		return decide.Unknown
	}
	if r.ordinary(p.fromHere(c)) {
		return decide.Ordinary
	}
	return decide.Unknown
}

// maxMissing is how many components at the end of a path are looked up before it is
// resolved.
const maxMissing = 8

// ordinary reports whether a path, spelled for this process, leads off procfs, or
// whether nothing has that name, or a name on the way there, in a directory off
// procfs. Programs ask for files that do not exist all the time, a compiler for each
// of its directories. here is cut for each look-up, and restored afterwards.
func (r *Resolver) ordinary(here []byte) bool {
	end := len(here) - 1
	defer func(first int) { slashes(here[end:first]) }(end)
	for range maxMissing + 1 {
		device, link, err := kernel.DeviceOfEntry(here[:end+1])
		if link {
			if device, err = kernel.DeviceOf(here[:end+1]); err != nil {
				return false // it leads nowhere here, but may lead somewhere for the caller
			}
		}
		if err != unix.ENOENT {
			return err == nil && device != r.Procfs.device
		}
		slash := bytes.LastIndexByte(here[:end], '/')
		if slash <= 0 {
			return slash == 0 // the root of all
		}
		if bytes.Contains(here[:end], []byte("self/")) { // of another mount of procfs: not the same for both
			return false
		}
		end = slash
		here[end] = 0
	}
	return false
}

// slashes restores a path that has been cut.
func slashes(path []byte) {
	for i, c := range path {
		if c == 0 {
			path[i] = '/'
		}
	}
}

// leadsThroughSelf reports whether by its text alone the path leads, or may lead, through
// procfs.
func leadsThroughSelf(path []byte) bool {
	return hasPrefix(path, "/proc") || hasPrefix(path, "/dev/fd") || hasPrefix(path, "/dev/std")
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}

// fromHere returns the path, NUL-terminated, as this process spells it.
func (p *Path) fromHere(c Caller) []byte {
	whole := p.buf[:headroom+p.length+1]
	whole[len(whole)-1] = 0
	if p.buf[headroom] == '/' {
		return whole[headroom:]
	}
	var prefix [headroom]byte
	text := strconv.AppendInt(append(prefix[:0], "/proc/"...), int64(c.TID), 10)
	if c.Dir == unix.AT_FDCWD {
		text = append(text, "/cwd/"...)
	} else {
		text = append(strconv.AppendInt(append(text, "/fd/"...), int64(c.Dir), 10), '/')
	}
	start := headroom - len(text)
	copy(whole[start:], text)
	return whole[start:]
}

// ParsePlain parses a path that spells a procfs file plainly, /proc/NAME or /proc/PID/NAME,
// without asking the file system: /proc/self is the caller. The caller's /proc must be this
// process's own. The class is Unknown for every other spelling. The object need not exist.
func (r *Resolver) ParsePlain(c Caller, p *Path) decide.Object {
	rest, ok := strings.CutPrefix(p.String(), "/proc/")
	if !ok {
		return decide.Object{}
	}
	first, tail, nested := strings.Cut(rest, "/")
	own := strconv.Itoa(c.TGID) + "/"
	switch {
	case !isLink(first):
		return Classify(c, rest)
	case c.NoSymlinks || (c.NoFollow && !nested):
		return decide.Object{}
	case first == "mounts" && !nested:
		return Classify(c, own+"mounts")
	case first == "net":
		return Classify(c, own+"net/"+tail)
	case first == "self":
		return Classify(c, own+tail)
	case first == "thread-self":
		return Classify(c, own+"task/"+strconv.Itoa(c.TID)+"/"+tail)
	}
	return decide.Object{}
}

// isLink reports whether the name is a symbolic link in the root of every procfs.
func isLink(name string) bool {
	return name == "self" || name == "thread-self" || name == "mounts" || name == "net"
}

// Classify splits a path below a procfs root into the process that it belongs to and its
// name there. The class of a path that is not in its plainest form is Unknown.
func Classify(c Caller, below string) decide.Object {
	for element := range strings.SplitSeq(below, "/") {
		if element == "" || element == "." || element == ".." {
			return decide.Object{}
		}
	}
	first, rest, nested := strings.Cut(below, "/")
	pid, isPID := number(first)
	if !isPID {
		return decide.Object{Class: decide.System, Name: below}
	}
	if !nested {
		return decide.Object{}
	}
	o := decide.Object{Class: decide.Process, Name: rest, PID: pid, Own: pid == c.TGID}
	if task, ok := strings.CutPrefix(rest, "task/"); ok {
		tid, name, _ := strings.Cut(task, "/")
		o.Task, ok = number(tid)
		if !ok || name == "" {
			return decide.Object{}
		}
		o.Name = name
	}
	return o
}

// Name returns the object's path below the procfs root.
func Name(o decide.Object) string {
	switch {
	case o.Class == decide.System:
		return o.Name
	case o.Task != 0:
		return strconv.Itoa(o.PID) + "/task/" + strconv.Itoa(o.Task) + "/" + o.Name
	default:
		return strconv.Itoa(o.PID) + "/" + o.Name
	}
}

func number(s string) (int, bool) {
	if s == "" || s[0] < '1' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 31)
	return int(n), err == nil
}

// ViaMagicLink reports whether a name below /proc/PID leads, or may lead, through one of the
// links there that lead elsewhere.
func ViaMagicLink(o decide.Object) bool {
	first, _, _ := strings.Cut(o.Name, "/")
	switch first {
	case "fd", "cwd", "root", "exe", "map_files", "ns":
		return o.Class == decide.Process
	}
	return false
}

// Slow reports whether resolving the path may wait for a disk or a server, because
// the kernel does not have all of it in memory (RESOLVE_CACHED of openat2(2),
// 5.12; an older kernel never says so).
func (r *Resolver) Slow(c Caller, p *Path) bool {
	if path := p.unsafeBytes(); len(path) == 0 || hasPrefix(path, "/proc") || hasPrefix(path, "/dev/") {
		return false
	}
	here := p.fromHere(c)
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: resolveCached}
	fd, err := unix.Openat2(unix.AT_FDCWD, string(here[:len(here)-1]), &how)
	if err == nil {
		unix.Close(fd)
	}
	return err == unix.EAGAIN
}
