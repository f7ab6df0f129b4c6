package supervisor

import (
	"encoding/binary"
	"sync"

	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// change is one call that changes metadata: what it is about, and how to make it.
type change struct {
	descriptor bool // it is about the caller's descriptor dir itself
	dir        int
	isHeld     bool // held is the object, opened as this process
	held       int
	path       uint64 // the address, in the caller's memory
	empty      bool   // an empty path means dir (AT_EMPTY_PATH)
	nameOnly   bool   // dir may have been opened for its name only (O_PATH)
	keepLink   bool   // a symbolic link at the end is not followed
	nothing    bool   // there is nothing to do, whatever it is about
	futile     bool   // the caller could not make it outside either
	attribute  string // the name of the extended attribute that is set
	owner      *owner // whom it gives the object to; nil: it is not about that
	// apply makes the call about a name that leads to the object and nowhere else.
	apply func(name string) error
}

// metadataCall describes the arguments of a call.
type metadataCall struct {
	names objectNamed
	flags int    // the argument with flags; 0: there is none
	known uint64 // the flags that the call knows
	// opened: where the path is empty, the descriptor must have been opened for more
	// than its name.
	opened bool
	// first is the argument after those that name the object.
	read func(r *receiver, q *request, first int, c *change) error
}

// objectNamed is how a call says which object it is about.
type objectNamed uint8

const (
	byPath       objectNamed = iota // a path
	byLink                          // a path whose last component is not followed
	byDescriptor                    // a descriptor
	byDirectory                     // a descriptor of a directory, and a path
)

const atFlags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_EMPTY_PATH

// metadataCalls has all that paths.metadata is about but file_setattr(2), which is
// refused under every value but "allow".
var metadataCalls = sync.OnceValue(func() map[string]metadataCall {
	return map[string]metadataCall{
		"chmod":     {names: byPath, read: readMode},
		"fchmod":    {names: byDescriptor, read: readMode},
		"fchmodat":  {names: byDirectory, read: readMode},
		"fchmodat2": {names: byDirectory, flags: 3, known: atFlags, read: newerRead("fchmodat2", readMode)},
		"chown":     {names: byPath, read: readOwner},
		"lchown":    {names: byLink, read: readOwner},
		"fchown":    {names: byDescriptor, read: readOwner},
		"chown32":   {names: byPath, read: readOwner},
		"lchown32":  {names: byLink, read: readOwner},
		"fchown32":  {names: byDescriptor, read: readOwner},
		"fchownat":  {names: byDirectory, flags: 4, known: atFlags, read: readOwner},
		"utime":     {names: byPath, read: readTimes},
		"utimes":    {names: byPath, read: readTimes},
		"futimesat": {names: byDirectory, read: readTimes},
		"utimensat": {names: byDirectory, flags: 3, known: atFlags, read: readTimes},
		"setxattr":  {names: byPath, read: readAttribute},
		"lsetxattr": {names: byLink, read: readAttribute},
		"fsetxattr": {names: byDescriptor, read: readAttribute},
		"setxattrat": {names: byDirectory, flags: 2, known: atFlags, opened: true,
			read: newerRead("setxattrat", readAttributeAt)},

		"utimensat_time64": {names: byDirectory, flags: 3, known: atFlags, read: readTimes},
		"removexattr":      {names: byPath, read: readRemoved},
		"lremovexattr":     {names: byLink, read: readRemoved},
		"fremovexattr":     {names: byDescriptor, read: readRemoved},
		"removexattrat": {names: byDirectory, flags: 2, known: atFlags, opened: true,
			read: newerRead("removexattrat", readRemovedAt)},
	}
})

// newer are the numbers of calls that this kernel may not have, as in every ABI.
var newer = map[string]uintptr{"fchmodat2": 452, "setxattrat": 463, "removexattrat": 466}

// has reports whether the kernel has one of the newer calls: with a descriptor that is
// none it says EBADF, or EINVAL of the flags, if it does.
var has = struct {
	sync.Mutex
	known map[string]bool
}{known: map[string]bool{}}

func hasCall(name string) bool {
	has.Lock()
	defer has.Unlock()
	there, asked := has.known[name]
	if !asked {
		there = kernel.HasCall(newer[name])
		has.known[name] = there
	}
	return there
}

// newerRead answers as a kernel without the call does.
func newerRead(name string, read func(*receiver, *request, int, *change) error) func(*receiver, *request, int,
	*change) error {
	return func(r *receiver, q *request, first int, c *change) error {
		if !hasCall(name) {
			return unix.ENOSYS
		}
		return read(r, q, first, c)
	}
}

// readChange reads the arguments, and what they point to once. The error is the errno
// that the kernel would give.
func (r *receiver) readChange(q *request) (change, error) {
	call := metadataCalls()[q.name]
	c := change{dir: unix.AT_FDCWD, keepLink: call.names == byLink}
	first := 1
	switch call.names {
	case byPath, byLink:
		c.path = q.args[0]
	case byDescriptor:
		c.descriptor, c.dir = true, int(int32(q.args[0]))
	case byDirectory:
		c.dir, c.path, first = int(int32(q.args[0])), q.args[1], 2
	}
	flags := uint64(0)
	if call.flags != 0 {
		flags = uint64(uint32(q.args[call.flags]))
	}
	unknown := flags&^call.known != 0
	if unknown && !isTimes(q.name) {
		return change{}, unix.EINVAL
	}
	c.keepLink = c.keepLink || flags&unix.AT_SYMLINK_NOFOLLOW != 0
	c.empty = flags&unix.AT_EMPTY_PATH != 0
	c.nameOnly = c.empty && !call.opened
	if err := call.read(r, q, first, &c); err != nil {
		return change{}, err
	}
	switch {
	case c.nothing:
		return c, nil
	case unknown:
		return change{}, unix.EINVAL
	}
	// Times of a descriptor are set by utimensat(2) without a path.
	if call.names == byDirectory && c.path == 0 && isTimes(q.name) && c.dir != unix.AT_FDCWD {
		if flags != 0 {
			return change{}, unix.EINVAL
		}
		c.descriptor = true
	}
	return c, nil
}

func readMode(_ *receiver, q *request, first int, c *change) error {
	mode := uint32(uint16(q.args[first]))
	c.apply = func(name string) error { return unix.Fchmodat(unix.AT_FDCWD, name, mode&0o7777, 0) }
	return nil
}

func readOwner(_ *receiver, q *request, first int, c *change) error {
	id := func(arg uint64) int {
		// The oldest calls of 32-bit programs have 16 bits for it.
		if narrow(q.arch) && (q.name == "chown" || q.name == "fchown" || q.name == "lchown") {
			if arg = uint64(uint16(arg)); arg == 1<<16-1 {
				return -1
			}
		}
		return int(int32(uint32(arg)))
	}
	o := &owner{uid: id(q.args[first]), gid: id(q.args[first+1])}
	c.owner = o
	c.apply = func(name string) error { return unix.Fchownat(unix.AT_FDCWD, name, o.uid, o.gid, 0) }
	return nil
}

func isTimes(name string) bool {
	return name == "utimensat" || name == "utimensat_time64" || name == "futimesat"
}

// readTimes reads two times in the layout that the call and its ABI have.
func readTimes(r *receiver, q *request, first int, c *change) error {
	var times []unix.Timespec
	c.apply = func(name string) error { return unix.UtimesNanoAt(unix.AT_FDCWD, name, times, 0) }
	if q.args[first] == 0 {
		return nil // now
	}
	word := 8
	if narrow(q.arch) && q.name != "utimensat_time64" {
		word = 4
	}
	count := 4
	if q.name == "utime" {
		count = 2
	}
	var buf [32]byte
	if err := r.copyExactly(q.tid, buf[:count*word], q.args[first]); err != nil {
		return err
	}
	value := func(i int) int64 {
		if word == 4 {
			return int64(int32(binary.NativeEndian.Uint32(buf[4*i:])))
		}
		return int64(binary.NativeEndian.Uint64(buf[8*i:]))
	}
	if q.name == "utime" {
		times = []unix.Timespec{{Sec: value(0)}, {Sec: value(1)}}
		return nil
	}
	times = []unix.Timespec{{Sec: value(0), Nsec: value(1)}, {Sec: value(2), Nsec: value(3)}}
	for i := range times {
		switch {
		case q.name == "utimensat_time64" && narrow(q.arch):
			times[i].Nsec = int64(uint32(times[i].Nsec)) // the kernel looks at the lower half
		case q.name == "utimes", q.name == "futimesat":
			if times[i].Nsec < 0 || times[i].Nsec >= 1e6 {
				return unix.EINVAL
			}
			times[i].Nsec *= 1000
		}
	}
	c.nothing = times[0].Nsec == unix.UTIME_OMIT && times[1].Nsec == unix.UTIME_OMIT
	return nil
}

// The limits of linux/limits.h, and the flags of setxattr(2).
const (
	attributeNameMax  = 255
	attributeValueMax = 64 << 10
	attributeFlags    = unix.XATTR_CREATE | unix.XATTR_REPLACE
)

func readAttribute(r *receiver, q *request, first int, c *change) error {
	return r.attribute(q, c, q.args[first], q.args[first+1], q.args[first+2], uint32(q.args[first+3]))
}

// readAttributeAt reads struct xattr_args of setxattrat(2).
func readAttributeAt(r *receiver, q *request, _ int, c *change) error {
	const size = 16 // of its first version
	switch {
	case q.args[5] < size:
		return unix.EINVAL
	case q.args[5] > 4096:
		return unix.E2BIG
	}
	unsafeArgs := make([]byte, q.args[5])
	if err := r.copyExactly(q.tid, unsafeArgs, q.args[4]); err != nil {
		return err
	}
	for _, b := range unsafeArgs[size:] {
		if b != 0 {
			return unix.E2BIG
		}
	}
	return r.attribute(q, c, q.args[3], binary.NativeEndian.Uint64(unsafeArgs),
		uint64(binary.NativeEndian.Uint32(unsafeArgs[8:])), binary.NativeEndian.Uint32(unsafeArgs[12:]))
}

// attribute reads name and value once.
func (r *receiver) attribute(q *request, c *change, name, value, size uint64, flags uint32) error {
	if flags&^attributeFlags != 0 {
		return unix.EINVAL
	}
	var err error
	if c.attribute, err = r.attributeName(q, name); err != nil {
		return err
	}
	if size > attributeValueMax {
		return unix.E2BIG
	}
	unsafeValue := make([]byte, size)
	if err := r.copyExactly(q.tid, unsafeValue, value); err != nil {
		return err
	}
	attribute := c.attribute
	c.apply = func(name string) error { return unix.Setxattr(name, attribute, unsafeValue, int(flags)) }
	return nil
}

func (r *receiver) attributeName(q *request, address uint64) (string, error) {
	var buf [attributeNameMax + 1]byte
	n, err := r.readString(q.tid, address, buf[:])
	if err == unix.ENAMETOOLONG || (err == nil && n == 0) {
		err = unix.ERANGE
	}
	return string(buf[:n]), err
}

func readRemoved(r *receiver, q *request, first int, c *change) error {
	attribute, err := r.attributeName(q, q.args[first])
	c.apply = func(name string) error { return unix.Removexattr(name, attribute) }
	return err
}

func readRemovedAt(r *receiver, q *request, first int, c *change) error {
	return readRemoved(r, q, first+1, c)
}

// copyExactly fills buf from the caller's memory, once.
func (r *receiver) copyExactly(tid int, buf []byte, unsafeAddress uint64) error {
	n, err := r.read(tid, buf, unsafeAddress)
	if err == nil && n != len(buf) {
		err = unix.EFAULT
	}
	return err
}
