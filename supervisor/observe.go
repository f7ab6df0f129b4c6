package supervisor

import (
	"bytes"
	"encoding/binary"
	"maps"
	"os"
	"path"
	"slices"
	"sync"

	"github.com/memjail/memjail/supervisor/decide"
	"github.com/memjail/memjail/supervisor/resolve"
	"golang.org/x/sys/unix"
)

// Observation is one use of a file or an address by a program, as far as a policy can
// restrict it. It is what was asked for: the kernel may have refused it.
type Observation struct {
	Comm   string // comes from inside the sandbox and can hold anything
	Access Access
	// Path is canonical: absolute and without symbolic links. It is empty for network
	// addresses, and begins with "@" for an abstract UNIX socket.
	Path string
	// Missing reports that Path did not exist before the call.
	Missing bool

	Family   uint16 // of connect, bind and socket: AF_INET and others
	Protocol int    // IPPROTO_TCP or IPPROTO_UDP, where it is known
	Port     uint16
}

// What [Observation.Access] has besides the accesses that are explained.
const (
	AccessMake   Access = "make"   // a name is made in a directory
	AccessRemove Access = "remove" // a name is removed from a directory
	AccessChange Access = "change" // owner, mode, times
	AccessSocket Access = "socket" // a socket of some family is made
	AccessHidden Access = "hidden" // what the call names cannot be read: the program is not dumpable
	AccessLook   Access = "look"   // metadata or the target of a link are read, and nothing is opened
	AccessMiss   Access = "miss"   // a file that does not exist is to be read or executed
)

// pathArgument describes one path among the arguments of a call.
type pathArgument struct {
	path     int // the argument
	dir      int // the argument with the descriptor that it starts from; -1: there is none
	access   Access
	keepLink bool // a symbolic link at the end is not followed
	replaces bool // a name that exists is replaced
	flags    int  // the argument with flags, AT_EMPTY_PATH and AT_SYMLINK_FOLLOW; 0: there is none
	// directory: the name is of a directory, so that it may end in a slash.
	directory bool
}

// pathCalls are the calls that name files, besides opens and execve(2). They are never
// refused here: what the kernel is going to refuse of them is explained, and what they use
// is observed.
var pathCalls = sync.OnceValue(func() map[string][]pathArgument {
	return map[string][]pathArgument{
		"mkdir":     {{path: 0, dir: -1, access: AccessMake, keepLink: true, directory: true}},
		"mkdirat":   {{path: 1, dir: 0, access: AccessMake, keepLink: true, directory: true}},
		"mknod":     {{path: 0, dir: -1, access: AccessMake, keepLink: true}},
		"mknodat":   {{path: 1, dir: 0, access: AccessMake, keepLink: true}},
		"symlink":   {{path: 1, dir: -1, access: AccessMake, keepLink: true}},
		"symlinkat": {{path: 2, dir: 1, access: AccessMake, keepLink: true}},
		"link": {{path: 0, dir: -1, access: AccessRead, keepLink: true},
			{path: 1, dir: -1, access: AccessMake, keepLink: true}},
		"linkat": {{path: 1, dir: 0, access: AccessRead, keepLink: true, flags: 4},
			{path: 3, dir: 2, access: AccessMake, keepLink: true}},
		"rename": {{path: 0, dir: -1, access: AccessRemove, keepLink: true},
			{path: 1, dir: -1, access: AccessMake, keepLink: true, replaces: true, directory: true}},
		"renameat": {{path: 1, dir: 0, access: AccessRemove, keepLink: true},
			{path: 3, dir: 2, access: AccessMake, keepLink: true, replaces: true, directory: true}},
		"renameat2": {{path: 1, dir: 0, access: AccessRemove, keepLink: true},
			{path: 3, dir: 2, access: AccessMake, keepLink: true, replaces: true, directory: true}},
		"rmdir":            {{path: 0, dir: -1, access: AccessRemove, keepLink: true}},
		"unlink":           {{path: 0, dir: -1, access: AccessRemove, keepLink: true}},
		"unlinkat":         {{path: 1, dir: 0, access: AccessRemove, keepLink: true}},
		"truncate":         {{path: 0, dir: -1, access: AccessWrite}},
		"truncate64":       {{path: 0, dir: -1, access: AccessWrite}},
		"chmod":            {{path: 0, dir: -1, access: AccessChange}},
		"fchmodat":         {{path: 1, dir: 0, access: AccessChange}},
		"fchmodat2":        {{path: 1, dir: 0, access: AccessChange}},
		"chown":            {{path: 0, dir: -1, access: AccessChange}},
		"chown32":          {{path: 0, dir: -1, access: AccessChange}},
		"lchown":           {{path: 0, dir: -1, access: AccessChange, keepLink: true}},
		"lchown32":         {{path: 0, dir: -1, access: AccessChange, keepLink: true}},
		"fchownat":         {{path: 1, dir: 0, access: AccessChange}},
		"utime":            {{path: 0, dir: -1, access: AccessChange}},
		"utimes":           {{path: 0, dir: -1, access: AccessChange}},
		"futimesat":        {{path: 1, dir: 0, access: AccessChange}},
		"utimensat":        {{path: 1, dir: 0, access: AccessChange}},
		"utimensat_time64": {{path: 1, dir: 0, access: AccessChange}},
	}
})

// lookCalls are the calls that look at what a path leads to. No rule is about them; in a
// private view they tell what exists.
var lookCalls = sync.OnceValue(func() map[string][]pathArgument {
	return map[string][]pathArgument{
		"stat":       {{path: 0, dir: -1, access: AccessLook}},
		"stat64":     {{path: 0, dir: -1, access: AccessLook}},
		"lstat":      {{path: 0, dir: -1, access: AccessLook, keepLink: true}},
		"lstat64":    {{path: 0, dir: -1, access: AccessLook, keepLink: true}},
		"newfstatat": {{path: 1, dir: 0, access: AccessLook}},
		"fstatat64":  {{path: 1, dir: 0, access: AccessLook}},
		"statx":      {{path: 1, dir: 0, access: AccessLook}},
		"access":     {{path: 0, dir: -1, access: AccessLook}},
		"faccessat":  {{path: 1, dir: 0, access: AccessLook}},
		"faccessat2": {{path: 1, dir: 0, access: AccessLook}},
		"readlink":   {{path: 0, dir: -1, access: AccessLook, keepLink: true}},
		"readlinkat": {{path: 1, dir: 0, access: AccessLook, keepLink: true}},
	}
})

// PathCalls returns the names of the calls that the filter has to ask about so that
// refusals by path rules are reported, besides opens and execve(2).
func PathCalls() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(pathCalls())), func(name string) bool {
		return pathCalls()[name][0].access == AccessChange // paths.metadata decides about these
	})
}

// ObservedCalls returns those of [PathCalls] and the others that [Options.Observe] needs.
// Opens, execve(2), execveat(2), connect(2) and bind(2) are observed as well. With looks
// there are also the calls that look at what a path leads to.
func ObservedCalls(looks bool) []string {
	names := append(slices.Sorted(maps.Keys(pathCalls())), "sendto", "socket")
	if looks {
		names = append(names, slices.Sorted(maps.Keys(lookCalls()))...)
	}
	return names
}

// observes reports whether somebody wants to know what is asked for.
func (r *receiver) observes() bool {
	o := &r.s.options
	return o.Observe != nil && !r.s.chrooted.Load() && (o.Quiet == nil || !o.Quiet())
}

// leftCall answers a call that is asked about only for reports or for the observer, and
// reports whether it was one. The kernel decides about it.
func (r *receiver) leftCall(q *request, number int32) bool {
	if q.kind != kindRefused && q.kind != kindMetadata {
		return false
	}
	name := r.s.options.Calls.Name(q.arch, number)
	paths, ok := pathCalls()[name]
	if !ok {
		paths, ok = lookCalls()[name]
	}
	if _, denied := r.s.options.Calls.Denied(name, &q.args); denied {
		return false
	}
	observed := r.s.options.Observe != nil
	if !observed && (q.kind == kindMetadata || !ok) || !ok && name != "sendto" && name != "socket" {
		return false
	}
	switch {
	case r.observes() && name == "socket":
		r.observed(q, Observation{Access: AccessSocket, Family: uint16(q.args[0])})
	case r.observes() && !ok:
		r.observeAddress(q, q.args[4], q.args[5])
	case r.observes():
		for _, p := range paths {
			r.argument(q, p, func(caller resolve.Caller) bool {
				makes := p.access == AccessMake
				r.observePath(q, caller, p.access, makes, makes && !p.replaces)
				return true
			})
		}
	case r.explains():
		r.explainNames(q, name, paths)
	}
	r.answer(q, decide.Continue{DecidedBy: decide.ByKernel}, noFile)
	return true
}

// argument reads a path among the arguments of a call, and does something about it.
func (r *receiver) argument(q *request, p pathArgument, do func(resolve.Caller) bool) bool {
	caller := r.asker(q, unix.AT_FDCWD)
	caller.NoFollow, caller.NamesDirectory = p.keepLink, p.directory
	if p.dir >= 0 {
		caller.Dir = int(int32(q.args[p.dir]))
	}
	if p.flags != 0 {
		caller.EmptyPath = q.args[p.flags]&unix.AT_EMPTY_PATH != 0
		caller.NoFollow = caller.NoFollow && q.args[p.flags]&unix.AT_SYMLINK_FOLLOW == 0
	}
	if q.args[p.path] == 0 || !r.copyPath(q.tid, q.args[p.path]) {
		return false
	}
	return do(caller)
}

// observePath finds the object in the caller's view and passes it on. What the caller may
// not reach without a sandbox either is left out, and of what does not exist all but files
// that are to be read or executed. exclusive: the call fails if the name exists, and then
// needs no right, as each step of mkdir -p.
func (r *receiver) observePath(q *request, caller resolve.Caller, access Access, creates, exclusive bool) {
	mode := uint32(0)
	switch access {
	case AccessRead, AccessWrite, AccessExecute:
		mode = r.mode(access)
	}
	caller.MayWait = true // what is observed has to be whole
	misses := !creates && (access == AccessRead || access == AccessExecute)
	target, err := r.canonical(q, &caller, creates || misses, mode)
	if err != nil || exclusive && !target.Missing {
		return
	}
	switch {
	case misses && target.Missing:
		access = AccessMiss
	case access == AccessRead && target.Directory:
		access = AccessList
	case access == AccessWrite && target.Missing:
		access = AccessMake
	}
	switch {
	case (access == AccessMake || access == AccessRemove) && r.writable(path.Dir(target.Path)) != nil:
		return
	case access == AccessChange && r.writable(target.Path) != nil && !owns(target.Path):
		return
	}
	r.observed(q, Observation{Access: access, Path: target.Path, Missing: target.Missing})
}

// owns reports whether a file belongs to the user whom the supervisor runs as.
func owns(name string) bool {
	var st unix.Stat_t
	return unix.Lstat(name, &st) == nil && int(st.Uid) == os.Geteuid()
}

// observeOpen observes an open(2), whose path has been copied.
func (r *receiver) observeOpen(q *request) {
	if !r.observes() {
		return
	}
	flags := q.flags()
	if q.kind == kindOpenat2 {
		want, ok := r.wanted(q)
		if !ok {
			return
		}
		flags = want.Flags
	}
	if flags&unix.O_PATH != 0 {
		return
	}
	access := AccessRead
	if flags&(unix.O_ACCMODE|unix.O_TRUNC) != 0 {
		access = AccessWrite
	}
	unnamed := flags&unix.O_TMPFILE == unix.O_TMPFILE
	creates := flags&unix.O_CREAT != 0 || unnamed
	exclusive := flags&unix.O_CREAT != 0 && flags&unix.O_EXCL != 0 && !unnamed
	caller := resolve.Caller{TID: q.tid, Dir: q.dir(), NoFollow: exclusive || flags&unix.O_NOFOLLOW != 0}
	if creates && access == AccessRead {
		access = AccessWrite
	}
	r.observePath(q, caller, access, creates, exclusive)
	if access == AccessWrite && flags&unix.O_ACCMODE == unix.O_RDWR {
		r.observePath(q, caller, AccessRead, false, false)
	}
}

// observeAddress observes the address of a connect(2), bind(2) or sendto(2).
func (r *receiver) observeAddress(q *request, address, length uint64) {
	if !r.observes() {
		return
	}
	var unsafeAddress [110]byte // struct sockaddr_un
	size := min(length, uint64(len(unsafeAddress)))
	n, err := r.read(q.tid, unsafeAddress[:size], address)
	if err != nil || n < 2 {
		return
	}
	o := Observation{Access: AccessConnect, Family: binary.NativeEndian.Uint16(unsafeAddress[:])}
	if q.kind == kindBind {
		o.Access = AccessBind
	}
	switch o.Family {
	case unix.AF_INET, unix.AF_INET6:
		if n < 4 {
			return
		}
		o.Port = binary.BigEndian.Uint16(unsafeAddress[2:])
		o.Protocol = socketProtocol(q.tid, int(int32(q.args[0])))
	case unix.AF_UNIX:
		if o.Path = socketName(unsafeAddress[2:n]); o.Path != "" && o.Path[0] != '@' {
			r.observeSocketFile(q, o)
			return
		}
	}
	r.observed(q, o)
}

// observeSocketFile observes the use of a socket that has a name in the file system.
func (r *receiver) observeSocketFile(q *request, o Observation) {
	r.path.SetLength(copy(r.path.Buffer(), o.Path))
	r.path.Buffer()[r.path.Length()] = 0
	caller := resolve.Caller{TID: q.tid, Dir: unix.AT_FDCWD, MayWait: true}
	target, err := r.s.resolver.Canonical(caller, &r.path, o.Access == AccessBind, 0)
	if err != nil {
		return
	}
	o.Path, o.Missing = target.Path, target.Missing
	r.observed(q, o)
}

// socketName is what a sockaddr_un names, unix(7).
func socketName(unsafePath []byte) string {
	if len(unsafePath) == 0 {
		return ""
	}
	if unsafePath[0] == 0 {
		return "@" + string(unsafePath[1:])
	}
	name, _, _ := bytes.Cut(unsafePath, []byte{0})
	return string(name)
}

// observed completes an observation and passes it on while the caller still waits.
func (r *receiver) observed(q *request, o Observation) {
	o.Comm = comm(r.s.resolver.Procfs, q.tid)
	if r.s.listener.Valid(q.id) {
		r.s.options.Observe(o)
	}
}
