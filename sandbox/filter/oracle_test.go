package filter

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

// This file says a second time, in another way than the table and the prologue
// do, what every call is answered with. The interpreter compares.

var (
	eperm  = ErrnoVerdict(unix.EPERM)
	enosys = ErrnoVerdict(unix.ENOSYS)
	eacces = ErrnoVerdict(unix.EACCES)
	done   = ErrnoVerdict(0)
)

// alwaysReported are the calls that are refused whatever their arguments are.
var alwaysReported = []string{
	"pidfd_getfd", "process_madvise", "process_mrelease", "kcmp", "userfaultfd", "perf_event_open", "bpf",
	"open_by_handle_at",
	"mount", "umount", "umount2", "pivot_root", "move_mount", "open_tree", "open_tree_attr", "fsopen",
	"fsconfig", "fsmount", "fspick", "mount_setattr",
	"setns", "init_module", "finit_module", "delete_module", "create_module", "kexec_load", "kexec_file_load",
	"swapon", "swapoff", "iopl", "ioperm",
}

var coreSignals = []syscall.Signal{
	unix.SIGQUIT, unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGXCPU,
	unix.SIGXFSZ, unix.SIGSYS,
}

// oracle is the verdict for d under o.
func oracle(o Options, d Data) Verdict {
	own := map[string][]uint32{
		"amd64": {unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386},
		"arm64": {unix.AUDIT_ARCH_AARCH64, unix.AUDIT_ARCH_ARM},
	}[o.Arch]
	switch {
	case !slices.Contains(own, d.Arch):
		return enosys
	case d.Arch == unix.AUDIT_ARCH_ARM && d.NR >= 0xf0001 && d.NR <= 0xf0006:
		return Allow
	case d.NR < 0 || d.NR > 469:
		return enosys
	}
	name := CallName(d.Arch, d.NR)
	if v, ok := oracleOpens(o, d, name); ok {
		return v
	}
	reported := eperm
	if o.Listener {
		reported = Notify
	}
	if v, ok := oracleOldKernels(o, d, name, reported); ok {
		return v
	}
	if v, ok := oracleChosen(o, d, name); ok {
		return v
	}
	if o.Listener && slices.Contains(o.Observe, name) && (name != "sendto" || uint32(d.Args[4]) != 0) {
		return Notify
	}
	return oracleRefused(o, d, name, reported)
}

func oracleOpens(o Options, d Data, name string) (Verdict, bool) {
	var flags uint32
	switch name {
	case "open":
		flags = uint32(d.Args[1])
	case "openat":
		flags = uint32(d.Args[2])
	case "creat":
		flags = unix.O_WRONLY
	case "openat2":
		if o.Listener && (o.NotifyReads || o.NotifyWrites || o.NotifyListings) {
			return Notify, true
		}
		return Allow, true
	default:
		return 0, false
	}
	directory := uint32(0o200000)
	if o.Arch == "arm64" {
		directory = 0o40000
	}
	if o.Listener && o.NotifyListings && flags&directory != 0 && flags&0o10000000 == 0 &&
		(!o.NotifyReads || (flags&3 == 0 || o.NotifyWrites) && (flags&0o200 == 0 || o.NotifyPaths || o.NotifyNew)) {
		return Notify, true
	}
	if o.NotifyPaths {
		directory = 0
	}
	asked := o.NotifyWrites
	if flags&3 == 0 {
		asked = o.NotifyReads
	}
	exclusive := flags&0o200 != 0 && !o.NotifyPaths && !o.NotifyNew
	if o.Listener && asked && !exclusive && flags&(directory|0o10000000) == 0 {
		return Notify, true
	}
	return Allow, true
}

func oracleOldKernels(o Options, d Data, name string, reported Verdict) (Verdict, bool) {
	signal := -1
	switch name {
	case "truncate", "truncate64":
		if o.RefuseTruncate {
			return eacces, true
		}
	case "execve", "execveat":
		if o.Listener && o.NotifyPaths {
			return Notify, true
		}
	case "connect", "bind":
		if o.Listener && o.NotifyPorts {
			return Notify, true
		}
	case "chroot":
		if o.Listener && o.NotifyChroot {
			return Notify, true
		}
	case "kill", "tkill", "tgkill", "rt_sigqueueinfo", "pidfd_send_signal", "rt_tgsigqueueinfo":
		signal = 1
		if name == "tgkill" || name == "rt_tgsigqueueinfo" {
			signal = 2
		}
		if o.Listener && o.NotifySignals && !o.RefuseCoreSignals && oracleSignal(name, d, signal) {
			return Notify, true
		}
		if !o.Listener && strings.HasSuffix(name, "kill") {
			signal = -1
		}
	}
	if o.RefuseCoreSignals && signal >= 0 && slices.Contains(coreSignals, syscall.Signal(uint32(d.Args[signal]))) {
		return reported, true
	}
	return 0, false
}

// oracleSignal reports whether a signal is reported.
func oracleSignal(name string, d Data, signal int) bool {
	switch name {
	case "kill":
		return int32(d.Args[0]) != 0 && int32(d.Args[0]) != -1
	case "tkill", "tgkill", "rt_tgsigqueueinfo":
		return uint32(d.Args[signal]) <= 19
	}
	return true
}

// directoryIoctls are direction, kind and number of those that make, remove and change
// subvolumes of btrfs and bcachefs, and that copy files in ocfs2.
var directoryIoctls = []uint32{0x40009401, 0x4000940e, 0x4000940f, 0x40009417, 0x40009418, 0x4000941a,
	0x4000943f, 0xc0009425,
	0x4000bc10, 0x4000bc11, 0x4000bc1d, 0x4000bc1e, 0x40006f04}

var terminalIoctls = []uint32{unix.TIOCMBIS, unix.TIOCMSET, unix.TIOCSETD, 0x542f, 0xc0285443,
	0x4b47, 0x4b49, 0x4b4b, 0x4b4d, 0x4bfb, 0x40084504, 0x40284504}

// metadataCalls are those whose name says what they change.
var metadataCalls = regexp.MustCompile(
	`^(f|l)?ch(own|mod)(at2?|32)?$|^(f|l)?(set|remove)xattr(at)?$|^f?utime(s|ns)?(at)?(_time64)?$|^file_setattr$`)

// told is the verdict for a refusal that goes to the supervisor, where there is one.
func (o Options) told(errno unix.Errno) (Verdict, bool) {
	if o.Listener {
		return Notify, true
	}
	return ErrnoVerdict(errno), true
}

func oracleChosen(o Options, d Data, name string) (Verdict, bool) {
	low := func(arg int) uint32 { return uint32(d.Args[arg]) }
	switch {
	case strings.HasPrefix(name, "fcntl") && low(1) == 10 &&
		(o.RefuseOwnerSignals || low(2) != 0 && low(2) != 29 && low(2) < 34),
		strings.HasPrefix(name, "fcntl") && o.RefuseOwnerSignals &&
			(low(1) == 4 && low(2)&0o20000 != 0 || low(1) == 1024 || low(1) == 1026),
		name == "ioctl" && o.RefuseOwnerSignals && low(1) == 0x5452,
		name == "ioctl" && slices.Contains(directoryIoctls, low(1)&0xc000ffff),
		name == "ioctl" && o.Terminals == policy.TerminalsDeny && slices.Contains(terminalIoctls, low(1)),
		name == "vhangup" && o.Terminals == policy.TerminalsDeny:
		return o.told(unix.EPERM)
	case (name == "setxattr" || name == "fsetxattr") && o.EmulateMemfds && low(3)%8 == 4 && low(3) >= 28:
		return o.told(unix.EOPNOTSUPP)
	case name == "setxattrat" && o.EmulateMemfds:
		return o.told(unix.ENOSYS)
	case metadataCalls.MatchString(name) && (o.RefuseMetadata || o.Listener && o.NotifyMetadata):
		return o.told(unix.EPERM)
	case name == "ioctl" && o.RefuseMetadata && slices.Contains([]uint32{0x40086602, 0x40046602, 0x401c5820, 0x40047211,
		0x6609, 0x40806685, 0x800c6613, 0xc0406618, 0xc0406619, 0x4004f50d, 0x40289702, 0x40289705}, low(1)),
		name == "ioctl" && o.RefuseMetadata && slices.Contains([]uint32{0x40007602, 0x40006604}, low(1)&0xc000ffff):
		return o.told(unix.EPERM)
	case name == "memfd_create" && o.EmulateMemfds && low(1)&4 != 0:
		return o.told(unix.ENOSYS)
	case name == "memfd_create" && o.EmulateMemfds && low(1)&8 == 0:
		return o.told(unix.EACCES)
	case name == "mmap" && (o.RefuseSharedFiles || o.RefuseWritableCode) && d.Arch == unix.AUDIT_ARCH_I386:
		return enosys, true
	case (name == "mmap" || name == "mmap2") && o.RefuseSharedFiles && (low(3)&0x2f == 1 || low(3)&0x2f == 3),
		(name == "shmget" || name == "shmat") && o.RefuseSharedFiles,
		name == "ipc" && o.RefuseSharedFiles && (low(0)&0xffff == 21 || low(0)&0xffff == 23),
		(name == "mmap" || name == "mmap2") && o.RefuseWritableCode && low(2)&4 != 0 &&
			(low(3)&0x2f == 1 || low(3)&0x2f == 3),
		name == "personality" && o.RefuseWritableCode && low(0)&0x80400000 == 0x400000,
		name == "shmat" && o.RefuseWritableCode && low(2)&0x8000 != 0,
		name == "ipc" && o.RefuseWritableCode && low(0)&0xffff == 21 && low(2)&0x8000 != 0:
		return eacces, true
	}
	return oracleSockets(o, d, name)
}

// oracleSockets decides about the calls of sockets.
func oracleSockets(o Options, d Data, name string) (Verdict, bool) {
	low := func(arg int) uint32 { return uint32(d.Args[arg]) }
	unixClosed := o.RestrictFamilies && !slices.Contains(o.Families, 1)
	inet := low(0) == 2 || low(0) == 10
	switch {
	case name == "socket" && (low(0) == 44 || low(0) == 21):
		return o.told(unix.EAFNOSUPPORT)
	case name == "socketcall" && (o.RefuseSocketcall || o.RestrictFamilies) && low(0) == 1,
		name == "socketcall" && o.EmulateListen && low(0) == 4,
		name == "socketcall" && unixClosed && low(0) == 8:
		return enosys, true
	case name == "listen" && o.EmulateListen:
		return o.told(unix.EACCES)
	case name == "socket" && o.RefuseUnix && low(0) == 1:
		return o.told(unix.EAFNOSUPPORT)
	case name == "socket" && o.RestrictFamilies && !slices.Contains(o.Families, low(0)):
		return o.told(unix.EAFNOSUPPORT)
	case name == "socketpair" && (o.RefuseUnix || unixClosed) && low(0) == 1 && (low(1)&15 == 2 || low(1)&15 == 3):
		return o.told(unix.ESOCKTNOSUPPORT)
	case name == "socketcall" && o.RefuseUnix && (low(0) == 1 || low(0) == 8):
		return enosys, true
	case name == "socket" && o.CloseUDPBypasses && low(0) == 33:
		return ErrnoVerdict(unix.EAFNOSUPPORT), true
	case name == "socketcall" && o.CloseUDPBypasses && low(0) == 1:
		return enosys, true
	case !o.CloseTCPBypasses:
		return 0, false
	case name == "socket" && inet && (low(2) == 256 || low(2) == 262):
		return ErrnoVerdict(unix.EPROTONOSUPPORT), true
	case name == "socket" && low(0) == 43:
		return ErrnoVerdict(unix.EAFNOSUPPORT), true
	case name == "setsockopt" && low(1) == 6 && low(2) == 31:
		return ErrnoVerdict(unix.ENOENT), true
	case (name == "sendto" || name == "send" || name == "sendmmsg") && low(3)&(1<<29) != 0, name == "sendmsg" &&
		low(2)&(1<<29) != 0:
		return ErrnoVerdict(unix.EOPNOTSUPP), true
	case name == "socketcall" && slices.Contains([]uint32{1, 9, 11, 14, 16, 20}, low(0)):
		return enosys, true
	}
	return 0, false
}

func oracleRefused(o Options, d Data, name string, reported Verdict) Verdict {
	if slices.Contains(alwaysReported, name) {
		return reported
	}
	low := func(arg int) uint32 { return uint32(d.Args[arg]) }
	newUser := low(0)&unix.CLONE_NEWUSER != 0 && o.Namespaces == policy.NamespacesDeny
	if o.Listener && slices.Contains(o.NotifyDropped, name) && oracleDropped(name, low(0)) {
		return Notify
	}
	var refused bool
	switch name {
	case "io_uring_setup", "clone3":
		if o.Listener && o.NotifyAbsent {
			return Notify
		}
		return enosys
	case "io_uring_enter", "io_uring_register":
		return enosys
	case "ptrace":
		attach := low(0) == unix.PTRACE_ATTACH || low(0) == unix.PTRACE_SEIZE
		refused = o.Ptrace == policy.PtraceDeny || o.Ptrace == policy.PtraceChildren && attach
	case "vmsplice":
		if o.Access == policy.AccessDeny && !o.Listener {
			return enosys
		}
		refused = o.Access == policy.AccessDeny
	case "setsockopt":
		if o.Access == policy.AccessDeny && !o.Listener && low(1) == 1 && low(2) == 60 {
			return ErrnoVerdict(unix.ENOPROTOOPT)
		}
		refused = o.Access == policy.AccessDeny && low(1) == 1 && low(2) == 60
	case "process_vm_readv":
		refused = o.Access == policy.AccessDeny
	case "process_vm_writev":
		refused = o.Access != policy.AccessAllow
	case "ioctl":
		refused = low(1) == 0xaa00 || low(1) == unix.TIOCSTI || low(1) == 0x541c
	case "prctl":
		refused = low(0) == unix.PR_SET_MM
	case "keyctl":
		refused = low(0) == unix.KEYCTL_SESSION_TO_PARENT
	case "move_pages", "migrate_pages":
		refused = d.Args[0] != 0
	case "unshare", "clone":
		refused = newUser
	case "setrlimit":
		if low(0) == unix.RLIMIT_CORE && o.CoreDumps == policy.CoreDumpsDeny {
			return done
		}
	case "prlimit64":
		return oraclePrlimit(o, d, reported)
	}
	if refused {
		return reported
	}
	return Allow
}

// oracleDropped reports whether a call is reported for want of a capability.
func oracleDropped(name string, flags uint32) bool {
	namespaces := uint32(0x6e020000) // NEWNET, NEWPID, NEWIPC, NEWUTS, NEWCGROUP, NEWNS
	switch name {
	case "unshare":
		namespaces |= 0x80 // NEWTIME
	case "clone":
	default:
		return true
	}
	return flags&unix.CLONE_NEWUSER == 0 && flags&namespaces != 0
}

func oraclePrlimit(o Options, d Data, reported Verdict) Verdict {
	pid, resource, newLimit, oldLimit := d.Args[0], uint32(d.Args[1]), d.Args[2], d.Args[3]
	switch {
	case newLimit == 0:
		return Allow
	case pid != 0:
		return reported
	case resource != unix.RLIMIT_CORE || o.CoreDumps == policy.CoreDumpsAllow:
		return Allow
	case oldLimit != 0:
		return eperm
	}
	return done
}

// variants are the options of an architecture: every combination of those that
// touch the same calls, with the ones for old kernels all off, all on and singly.
func variants(t *testing.T, arch string) []Options {
	t.Helper()
	if n := reflect.TypeFor[Options]().NumField(); n != 33 {
		t.Fatalf("Options has %d fields: decide how the tests vary the new one", n)
	}
	bools := []bool{false, true}
	var all []Options
	for _, listener := range bools {
		for _, reads := range bools {
			for _, writes := range bools {
				if !listener && reads != writes {
					continue // neither means anything then
				}
				for _, access := range []policy.Access{policy.AccessDeny, policy.AccessNoWrite, policy.AccessAllow} {
					for _, ptrace := range []policy.Ptrace{policy.PtraceDeny, policy.PtraceChildren,
						policy.PtraceAllow} {
						for loose := range 4 {
							o := Options{Arch: arch, Listener: listener, NotifyReads: reads,
								NotifyWrites: writes, Access: access, Ptrace: ptrace,
								Namespaces: policy.Namespaces(loose & 1), CoreDumps: policy.CoreDumps(loose >> 1)}
							all = append(all, o)
							if loose == 1 || loose == 2 {
								continue // the rest touches other calls
							}
							o.RefuseCoreSignals, o.RefuseTruncate, o.NotifyChroot = true, true, true
							o.RefuseMetadata, o.CloseTCPBypasses = true, true
							o.CloseUDPBypasses, o.RefuseUnix = true, true
							o.NotifyPaths, o.NotifyPorts = true, true
							o.RefuseOwnerSignals, o.RefuseSocketcall = true, true
							o.EmulateListen, o.RestrictFamilies, o.Families = true, true, []uint32{2, 16}
							o.Terminals = policy.Terminals(loose & 1)
							o.EmulateMemfds, o.RefuseSharedFiles, o.RefuseWritableCode = true, true, true
							all = append(all, o)
						}
					}
				}
			}
		}
		all = append(all,
			Options{Arch: arch, Listener: listener, RefuseCoreSignals: true},
			Options{Arch: arch, Listener: listener, RefuseTruncate: true},
			Options{Arch: arch, Listener: listener, NotifyReads: true, NotifyWrites: true, NotifyPaths: true,
				NotifyPorts: true, RefuseMetadata: true,
				Observe: []string{"mkdir", "mkdirat", "renameat2", "chmod", "truncate", "sendto", "socket",
					"unlinkat"}},
			Options{Arch: arch, Listener: listener, NotifyListings: true, NotifyMetadata: true},
			Options{Arch: arch, Listener: listener, NotifyReads: true, NotifyListings: true},
			Options{Arch: arch, Listener: listener, NotifyReads: true, NotifyWrites: true, NotifyListings: true,
				NotifyNew: true, EmulateMemfds: true, NotifyMetadata: true},
			Options{Arch: arch, Listener: listener, RefuseOwnerSignals: true},
			Options{Arch: arch, Listener: listener, RefuseSocketcall: true},
			Options{Arch: arch, Listener: listener, Terminals: policy.TerminalsAllow},
			Options{Arch: arch, Listener: listener, EmulateListen: true},
			Options{Arch: arch, Listener: listener, RestrictFamilies: true},
			Options{Arch: arch, Listener: listener, RestrictFamilies: true, Families: []uint32{1, 2, 10},
				CloseTCPBypasses: true},
			Options{Arch: arch, Listener: listener, NotifyChroot: true},
			Options{Arch: arch, Listener: listener, RefuseMetadata: true},
			Options{Arch: arch, Listener: listener, CloseTCPBypasses: true},
			Options{Arch: arch, Listener: listener, CloseUDPBypasses: true},
			Options{Arch: arch, Listener: listener, NotifyPaths: true},
			Options{Arch: arch, Listener: listener, NotifyReads: true, NotifyWrites: true, NotifyNew: true},
			Options{Arch: arch, Listener: listener, NotifyPorts: true, NotifySignals: true, NotifyAbsent: true,
				NotifyDropped: []string{"clone", "sethostname", "unshare"}},
			Options{Arch: arch, Listener: listener, Namespaces: 1, NotifyDropped: []string{"clone", "unshare"}},
			Options{Arch: arch, Listener: listener, EmulateMemfds: true},
			Options{Arch: arch, Listener: listener, RefuseSharedFiles: true, RefuseUnix: true},
			Options{Arch: arch, Listener: listener, RefuseWritableCode: true})
	}
	return all
}

const (
	garbage = 0xdeadbeef << 32 // in the half that the kernel ignores of an int
	pointer = 0x7ffd_1234_5000
)

// interesting are, by call, the values that its arguments take in the tests, in
// every combination.
func interesting() map[string][6][]uint64 {
	flags := []uint64{0, 1, 2, 3, 0o100, 0o1101, 0o1102, 0o40000, 0o200000, 0o10000000, 0o20200002, 0o20040002,
		garbage, garbage | 1, garbage | 0o10000000}
	signals := []uint64{garbage, garbage | 11, 0xffffffff, pointer}
	for s := range uint64(66) {
		signals = append(signals, s)
	}
	pids := []uint64{0, 1, 0xffffffff, garbage}
	where := []uint64{0, 0x1000, 1 << 32, pointer}
	clone := []uint64{0, 17, 0x80, 0x20000, 0x20000011, 0x40000080, 0x4000000, garbage | 0x8000000, 0x2000000,
		0x50000000, 0x10000000, 0x10000011, 0x3d0f00, 1 << 32, garbage | 0x10000000, 1<<60 | 17}
	return map[string][6][]uint64{
		"open":    {{pointer}, flags},
		"openat":  {{3, 0xffffff9c}, {pointer}, flags},
		"openat2": {{0xffffff9c}, {pointer}, {pointer}, {24}},
		"creat":   {{pointer}, {0, 0o644}},
		"ptrace": {{0, 1, 2, 3, 4, 7, 15, 16, 17, 0x4200, 0x4206, 0x4207, garbage, garbage | 16,
			garbage | 0x4206}, pids},
		"ioctl": {{0, 3}, {0, 0x5401, 0x5412, 0x541b, 0x541c, 0xaa00, 0xc018aa3f, garbage | 0x5412,
			garbage | 0x541c, garbage | 0xaa00, garbage | 0x5401, 0x54120000,
			0x40086602, 0x40046602, 0x401c5820, 0x40047211, 0x80086601, garbage | 0x40086602,
			0x40087602, 0x40047602, 0x80087601, 0x40086604, 0x40046604, 0x80086603, 0x6609, 0x660c, 0x40806685,
			0xc0046686, 0xc0286687,
			0x800c6613, 0xc0506617, 0xc0406618, 0xc0406619, 0xc080661a, 0x4004f50d, 0x8004f50e, 0x40289702,
			0x40289705, 0x9704, garbage | 0x40806685,
			0x50009401, 0x5000940e, 0x5000940f, 0x50009417, 0x50009418, 0x4008941a, 0x5000943f, 0xc0c89425,
			0xc0c09425, garbage | 0x5000940e,
			0x4020bc10, 0x4020bc11, 0x4030bc1d, 0x4030bc1e, 0x40186f04, 0x40049409, 0xc0189436, 0x80089418, 0x80089419,
			0x5416, 0x5417, 0x5418, 0x5423, 0x542f, 0xc0285443, 0x4b47, 0x4b48, 0x4b49, 0x4b4b, 0x4b4d, 0x4bfb,
			0x40084504, 0x40284504, 0x80084504,
			0x5452, 0x5421, garbage | 0x5416, garbage | 0x5452}},
		"socket": {{1, 2, 10, 16, 17, 21, 33, garbage | 33, 43, 44, 45, garbage | 44, 44 << 32,
			garbage | 1, garbage | 2, garbage | 43, 1 << 32}, {1, 2},
			{0, 6, 256, 262, garbage | 256, garbage | 262, 262 << 32}},
		"socketpair": {{1, 30, garbage | 1}, {1, 2, 3, 5, 0x80801, 0x80802, 0x80803, garbage | 2, garbage | 5}},
		"setsockopt": {{3}, {0, 1, 6, garbage | 1, garbage | 6, 1 << 32, 6 << 32},
			{1, 30, 31, 32, 59, 60, 61, garbage | 31, garbage | 60, 60 << 32}},
		"sendto": {{3}, {pointer}, {1}, {0, 0x4000, 1 << 29, 1<<29 | 0x4000, garbage | 1<<29,
			1 << 61}, {0, pointer}},
		"send":       {{3}, {pointer}, {1}, {0, 0x4000, 1 << 29, 1<<29 | 0x4000}},
		"sendmmsg":   {{3}, {pointer}, {1 << 29, 1}, {0, 0x4000, 1 << 29, garbage | 1<<29, 1 << 61}},
		"sendmsg":    {{3}, {pointer}, {0, 0x4000, 1 << 29, garbage | 1<<29, 1 << 61}},
		"socketcall": {{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21}},
		"mmap": {{0}, {4096}, {1, 3, 5, 4 << 32}, {0x1, 0x2, 0x3, 0x21, 0x22, 0x23, 0x101,
			garbage | 1, garbage | 2, 1 << 32}},
		"setxattr": {{pointer}, {pointer}, {pointer},
			{0, 4, 20, 24, 28, 32, 36, 44, 1028, garbage | 36, 28 << 32}, {0}},
		"fsetxattr": {{3}, {pointer}, {pointer}, {0, 4, 20, 24, 28, 32, 36, 44, 1028, garbage | 36,
			28 << 32}, {0}},
		"mmap2":             {{0}, {4096}, {1, 4}, {0x1, 0x2, 0x3, 0x21, 0x22, garbage | 1}},
		"shmat":             {{1}, {0}, {0, 0x8000, 0xa000, garbage | 0x8000, 0x8000 << 32}},
		"ipc":               {{0, 1, 21, 23, 0x10015, 0x10017, garbage | 21, 21 << 32}, {0}, {0, 0x8000}},
		"personality":       {{0, 8, 0x400000, 0xffffffff, 0x400008, garbage | 0x400000, 0x400000 << 32}},
		"memfd_create":      {{pointer}, {0, 1, 4, 12, 8, 9, 16, garbage, garbage | 8, 8 << 32}},
		"prctl":             {{0, 34, 35, 36, 38, garbage | 35, 35 << 32}, {0, 1}},
		"keyctl":            {{0, 17, 18, 19, garbage | 18, 18 << 32}},
		"unshare":           {clone},
		"clone":             {clone, where},
		"move_pages":        {pids, {1}},
		"migrate_pages":     {pids, {1}},
		"setrlimit":         {{0, 3, 4, 5, 7, garbage | 4, 4 << 32}, {pointer}},
		"prlimit64":         {pids, {0, 4, 7, garbage | 4, 4 << 32}, where, where},
		"kill":              {pids, signals},
		"tkill":             {pids, signals},
		"tgkill":            {pids, {7}, signals},
		"rt_sigqueueinfo":   {pids, signals},
		"rt_tgsigqueueinfo": {pids, {7}, signals},
		"pidfd_send_signal": {{7}, signals, {0, pointer}},
		"fcntl": {{3}, {1, 4, 8, 9, 10, 11, 1024, 1025, 1026, garbage | 10, 10 << 32, garbage | 4},
			append(signals, 0x2000, 0x2800, 0x800, garbage|0x2000)},
		"fcntl64": {{3}, {1, 4, 8, 9, 10, 11, 1024, 1025, 1026, garbage | 10, 10 << 32, garbage | 4},
			append(signals, 0x2000, 0x2800, 0x800, garbage|0x2000)},
		"vmsplice": {{3}, {pointer}, {1}, {0, 8}},
	}
}

// combinations is every choice of one value for each argument; one without
// values is 0.
func combinations(values [6][]uint64) [][6]uint64 {
	all := [][6]uint64{{}}
	for arg, choices := range values {
		if len(choices) == 0 {
			continue
		}
		var longer [][6]uint64
		for _, args := range all {
			for _, v := range choices {
				args[arg] = v
				longer = append(longer, args)
			}
		}
		all = longer
	}
	return all
}
