package filter

import (
	"slices"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

// Denial is one row of what the filters refuse, for reports, documents and tests.
type Denial struct {
	Call      string     // the system call's name
	Condition string     // which uses of it, in words; "" for every use
	Errno     unix.Errno // what the caller gets; 0 is "done", though nothing was
	// Notified: with a listener the call goes to the supervisor, which answers with Errno,
	// or decides what the condition leaves to it. Without a listener, and where Notified
	// is false, the filter itself answers.
	Notified bool
	Reason   string // what a user reads: what the call would open
	Key      string // the policy key that allows it, "" if none does
}

// rule is one row of the table that everything is made of: the body that
// libseccomp compiles, the prologue and [Denials].
type rule struct {
	calls     []string
	when      []condition // all must hold; none is every use
	condition string      // when in words
	errno     unix.Errno
	notified  bool
	reason    string
	key       string
	placement placement
}

// placement is the part of the program that has a rule, and the option that selects it.
type placement uint8

const (
	inBody        placement = iota // compiled by libseccomp
	inPrologue                     // what libseccomp 2.5.4 cannot express in every ABI
	forReading                     // in the prologue, by Options.Access
	forTerminals                   // in the prologue, by Options.Terminals
	forOwners                      // in the prologue, by Options.RefuseOwnerSignals
	onOldKernels                   // in the prologue, by an option
	forMetadata                    // in the prologue, by Options.RefuseMetadata
	forAttributes                  // likewise, or with a listener by Options.NotifyMetadata
	forTCP                         // in the prologue, by Options.CloseTCPBypasses
	forUDP                         // in the prologue, by Options.CloseUDPBypasses
	forUnix                        // in the prologue, by Options.RefuseUnix
	forFamilies                    // in the prologue, by Options.RestrictFamilies
	forPairs                       // in the prologue, by the last or Options.RefuseUnix
	forListen                      // in the prologue, by Options.EmulateListen
	// in the prologue, by CloseTCPBypasses, CloseUDPBypasses, RefuseUnix, RestrictFamilies or RefuseSocketcall
	forSockets
	forMemfds // in the prologue, by Options.EmulateMemfds
	forShared // in the prologue, by Options.RefuseSharedFiles
	forCode   // in the prologue, by Options.RefuseWritableCode
)

// asked reports whether the options select the rules of a placement for the prologue.
func (o *Options) asked(p placement) bool {
	switch p {
	case inPrologue:
		return true
	case forReading:
		return o.Access == policy.AccessDeny
	case forTerminals:
		return o.Terminals == policy.TerminalsDeny
	case forOwners:
		return o.RefuseOwnerSignals
	case forMetadata:
		return o.RefuseMetadata
	case forAttributes:
		return o.RefuseMetadata || o.Listener && o.NotifyMetadata
	case forTCP:
		return o.CloseTCPBypasses
	case forUDP:
		return o.CloseUDPBypasses
	case forUnix:
		return o.RefuseUnix
	case forMemfds:
		return o.EmulateMemfds
	case forShared:
		return o.RefuseSharedFiles
	case forCode:
		return o.RefuseWritableCode
	case forFamilies:
		return o.RestrictFamilies
	case forPairs:
		return o.RefuseUnix || o.RestrictFamilies && !slices.Contains(o.Families, familyUnix)
	case forListen:
		return o.EmulateListen
	case forSockets:
		return o.RestrictFamilies || o.CloseTCPBypasses || o.CloseUDPBypasses || o.RefuseUnix || o.RefuseSocketcall
	}
	return false
}

// condition is a test of one argument. A masked one looks at the low 32 bits.
type condition struct {
	arg   uint
	op    conditionOp
	mask  uint32
	value uint32
}

type conditionOp uint8

const (
	isMasked   conditionOp = iota // low 32 bits & mask == value
	isZero                        // all 64 bits
	isNotZero                     // any of the 64 bits
	isAny                         // low 32 bits & mask != 0; in the prologue only
	isOther                       // low 32 bits != value; in the prologue only
	isUnlisted                    // low 32 bits are none of Options.Families; in the prologue only, last
	isBelow                       // low 32 bits < value; in the prologue only
)

// number compares an argument that the kernel takes as an int. A comparison of
// all 64 bits could be bypassed by setting a bit of the upper half, which the kernel
// ignores.
func number(arg uint, value uint32) condition {
	return condition{arg: arg, op: isMasked, mask: ^uint32(0), value: value}
}

// flag tests a bit that the kernel looks for in the low half.
func flag(arg uint, bit uint32) condition {
	return condition{arg: arg, op: isMasked, mask: bit, value: bit}
}

// masked compares some bits of the low half.
func masked(arg uint, mask, value uint32) condition {
	return condition{arg: arg, op: isMasked, mask: mask, value: value}
}

// other and below compare the low half like number.
func other(arg uint, value uint32) condition {
	return condition{arg: arg, op: isOther, mask: ^uint32(0), value: value}
}
func below(arg uint, value uint32) condition {
	return condition{arg: arg, op: isBelow, mask: ^uint32(0), value: value}
}

// unlisted tests for an address family that the policy does not list.
func unlisted(arg uint) condition { return condition{arg: arg, op: isUnlisted, mask: ^uint32(0)} }

func zero(arg uint) condition    { return condition{arg: arg, op: isZero} }
func notZero(arg uint) condition { return condition{arg: arg, op: isNotZero} }

// Values that hold in all four ABIs. They are written out because those of
// golang.org/x/sys/unix belong to the architecture that memjail is built for,
// which need not be the one that a program is made for.
const (
	userfaultfdNew  = 0xaa00 // USERFAULTFD_IOC_NEW, linux/userfaultfd.h
	tiocsti         = 0x5412 // asm-generic/ioctls.h, the same on x86
	tioclinux       = 0x541c
	tiocmbis        = 0x5416
	tiocmset        = 0x5418
	tiocsetd        = 0x5423
	tiocsrs485      = 0x542f
	tiocsiso7816    = 0xc0285443
	kdskbent        = 0x4b47 // linux/kd.h
	kdskbsent       = 0x4b49
	kdskbdiacr      = 0x4b4b
	kdsetkeycode    = 0x4b4d
	kdskbdiacruc    = 0x4bfb
	eviocskeycode   = 0x40084504 // EVIOCSKEYCODE, linux/input.h
	eviocskeycodeV2 = 0x40284504

	// Of these the direction, the type and the number; the size of the argument differs
	// in 32-bit programs.
	ioctlName             = 0xc000ffff
	btrfsSnapshot         = 0x40009401 // BTRFS_IOC_SNAP_CREATE, linux/btrfs.h
	btrfsCreate           = 0x4000940e // BTRFS_IOC_SUBVOL_CREATE
	btrfsDestroy          = 0x4000940f // BTRFS_IOC_SNAP_DESTROY
	btrfsSnapshotV2       = 0x40009417
	btrfsCreateV2         = 0x40009418
	btrfsSetFlags         = 0x4000941a // BTRFS_IOC_SUBVOL_SETFLAGS
	btrfsDestroyV2        = 0x4000943f
	btrfsSetReceived      = 0xc0009425 // BTRFS_IOC_SET_RECEIVED_SUBVOL
	bcachefsCreate        = 0x4000bc10 // BCH_IOCTL_SUBVOLUME_CREATE, fs/bcachefs
	bcachefsDestroy       = 0x4000bc11
	bcachefsCreateV2      = 0x4000bc1d
	bcachefsDestroyV2     = 0x4000bc1e
	ocfs2Reflink          = 0x40006f04 // OCFS2_IOC_REFLINK, fs/ocfs2
	keyctlSessionToParent = 18         // KEYCTL_SESSION_TO_PARENT, linux/keyctl.h
	prSetMM               = 35         // PR_SET_MM, linux/prctl.h
	rlimitCore            = 4          // RLIMIT_CORE, asm-generic/resource.h
	ptraceAttach          = 16         // linux/ptrace.h
	ptraceSeize           = 0x4206
	fcntlSetFlags         = 4  // F_SETFL, asm-generic/fcntl.h
	fcntlSetSignal        = 10 // F_SETSIG
	fcntlSetLease         = 1024
	fcntlNotify           = 1026
	async                 = 0x2000 // O_ASYNC
	fioasync              = 0x5452 // FIOASYNC, asm-generic/ioctls.h
	signalIO              = 29     // SIGIO, on x86 and arm
	signalRealTime        = 34     // the first real-time signal that libc leaves to programs
	cloneVM               = 0x100
	clonePidfd            = 0x1000
	cloneThread           = 0x10000
	cloneNewUser          = 0x10000000
	atEmptyPath           = 0x1000
	signalChild           = 17 // SIGCHLD on x86 and arm
)

// The same, for what a policy refuses beside memory.
const (
	setFlags      = 0x40086602 // FS_IOC_SETFLAGS, linux/fs.h, of a 64-bit program
	setFlags32    = 0x40046602 // ... and of a 32-bit one
	setAttributes = 0x401c5820 // FS_IOC_FSSETXATTR, the same in both
	setFAT        = 0x40047211 // FAT_IOCTL_SET_ATTRIBUTES, linux/msdos_fs.h
	// Of setVersion and setVersionExt the name, as above.
	setVersion    = 0x40007602 // FS_IOC_SETVERSION, FS_IOC32_SETVERSION
	setVersionExt = 0x40006604 // EXT4_IOC_SETVERSION, fs/ext4
	migrate       = 0x6609     // EXT4_IOC_MIGRATE
	enableVerity  = 0x40806685 // FS_IOC_ENABLE_VERITY, linux/fsverity.h
	setEncryption = 0x800c6613 // FS_IOC_SET_ENCRYPTION_POLICY, linux/fscrypt.h
	removeKey     = 0xc0406618 // FS_IOC_REMOVE_ENCRYPTION_KEY
	removeKeyAll  = 0xc0406619 // FS_IOC_REMOVE_ENCRYPTION_KEY_ALL_USERS
	pinFile       = 0x4004f50d // F2FS_IOC_SET_PIN_FILE, linux/f2fs.h
	cephLayout    = 0x40289702 // CEPH_IOC_SET_LAYOUT, fs/ceph
	cephPolicy    = 0x40289705 // CEPH_IOC_SET_LAYOUT_POLICY

	memfdNoExec   = 0x8 // MFD_NOEXEC_SEAL, linux/memfd.h
	memfdHuge     = 0x4 // MFD_HUGETLB
	aclHead       = 4   // bytes, linux/posix_acl_xattr.h
	aclEntry      = 8
	aclLeast      = aclHead + 3*aclEntry
	protExec      = 0x4      // PROT_EXEC
	mapKind       = 0x2f     // MAP_TYPE and MAP_ANONYMOUS, asm-generic/mman.h
	mapShared     = 0x1      // MAP_SHARED of a file
	mapValidate   = 0x3      // MAP_SHARED_VALIDATE of a file
	impliesExec   = 0x400000 // READ_IMPLIES_EXEC, linux/personality.h
	personalities = 0x80400000
	shmExec       = 0x8000 // SHM_EXEC, linux/shm.h
	ipcCall       = 0xffff // of ipc(2)'s first argument; the rest is a version
	ipcShmat      = 21
	ipcShmget     = 23

	familyUnix  = 1 // AF_UNIX, linux/socket.h
	familyINET  = 2
	familyINET6 = 10
	familyRDS   = 21
	familyRxRPC = 33
	familySMC   = 43
	familyXDP   = 44
	datagram    = 0x2 // SOCK_DGRAM, and with its lowest bit SOCK_RAW, which AF_UNIX takes for the same
	datagrams   = 0xe // the bits of a socket's type that tell those two from all others
	protocolSMC = 256 // IPPROTO_SMC, linux/in.h
	protocolMP  = 262 // IPPROTO_MPTCP
	levelTCP    = 6   // IPPROTO_TCP
	levelSocket = 1   // SOL_SOCKET
	// optionZerocopy is SO_ZEROCOPY, asm-generic/socket.h.
	optionZerocopy = 60
	optionULP      = 31 // TCP_ULP, linux/tcp.h
	fastOpen       = 0x20000000

	callSocket     = 1 // SYS_SOCKET and so on, the calls within socketcall(2), linux/net.h
	callSocketpair = 8
	callListen     = 4
	callSend       = 9
	callSendto     = 11
	callSetsockopt = 14
	callSendmsg    = 16
	callSendmmsg   = 20
)

const (
	keyAccess     = "memory.access"
	keyPtrace     = "memory.ptrace"
	keyCoreDumps  = "memory.core-dumps"
	keyNamespaces = "ipc.namespaces"
	keyTerminals  = "ipc.terminals"
	keyMetadata   = "paths.metadata"
	keyTCP        = "network.connect-tcp"
	keyUDP        = "network.connect-udp"
	keyUnix       = "network.unix"
	keyFamilies   = "network.families"
	keyBind       = "network.bind-tcp"
)

// rules is the table: each of these calls, left open, leads to the memory of some
// process, or takes away what keeps it closed.
var rules = [...]rule{
	{calls: []string{"ptrace"}, errno: unix.EPERM, notified: true, key: keyPtrace,
		reason: "ptrace lets a process read and change another's memory and registers"},
	{calls: []string{"process_vm_readv"}, errno: unix.EPERM, notified: true, key: keyAccess,
		reason: "it reads the memory of a process"},
	{calls: []string{"process_vm_writev"}, errno: unix.EPERM, notified: true, key: keyAccess,
		reason: "it writes the memory of a process"},
	{calls: []string{"vmsplice"}, errno: unix.ENOSYS, notified: true, key: keyAccess,
		reason: "whoever holds the pipe reads the memory of the process as it is later; write(2) copies it"},
	// Without the option every protocol ignores the flag MSG_ZEROCOPY, but RDS, of which
	// there are no sockets. A kernel before 4.14 answers so.
	{calls: []string{"setsockopt"}, when: []condition{number(1, levelSocket), number(2, optionZerocopy)},
		condition: "option SO_ZEROCOPY",
		placement: forReading, errno: unix.ENOPROTOOPT, notified: true, key: keyAccess,
		reason: "whoever holds the other end reads the memory of the process as it is later; without " +
			"the option send(2) copies it"},
	{calls: []string{"pidfd_getfd"}, errno: unix.EPERM, notified: true,
		reason: "it takes descriptors out of another process, those that open memory included"},
	{calls: []string{"process_madvise"}, errno: unix.EPERM, notified: true,
		reason: "it changes how another process's memory is kept"},
	{calls: []string{"process_mrelease"}, errno: unix.EPERM, notified: true,
		reason: "it empties the memory of a process that is ending"},
	{calls: []string{"kcmp"}, errno: unix.EPERM, notified: true,
		reason: "it compares kernel objects of two processes, and by that tells where they lie"},
	{calls: []string{"userfaultfd"}, errno: unix.EPERM, notified: true,
		reason: "whoever holds a userfaultfd writes the pages of the process that made it"},
	{calls: []string{"ioctl"}, when: []condition{number(1, userfaultfdNew)}, condition: "request USERFAULTFD_IOC_NEW",
		errno: unix.EPERM, notified: true,
		reason: "whoever holds a userfaultfd writes the pages of the process that made it"},
	{calls: []string{"perf_event_open"}, errno: unix.EPERM, notified: true,
		reason: "performance events sample the stacks and registers of processes"},
	{calls: []string{"bpf"}, errno: unix.EPERM, notified: true,
		reason: "a BPF program can read and write the memory of processes"},
	{calls: []string{"prctl"}, when: []condition{number(0, prSetMM)}, condition: "option PR_SET_MM",
		errno: unix.EPERM, notified: true,
		reason: "it moves the window through which others see a process's memory as cmdline and environ"},
	{calls: []string{"open_by_handle_at"}, errno: unix.EPERM, notified: true,
		reason: "it opens a file by its handle, past every rule about paths"},

	{calls: []string{"mount", "umount", "umount2", "pivot_root", "move_mount", "open_tree", "fsopen",
		"fsconfig", "fsmount", "fspick", "mount_setattr"},
		errno: unix.EPERM, notified: true,
		reason: "a new mount could show procfs where it is not closed"},
	{calls: []string{"open_tree_attr"}, errno: unix.EPERM, notified: true, placement: inPrologue,
		reason: "a new mount could show procfs where it is not closed"},
	{calls: []string{"setns"}, errno: unix.EPERM, notified: true,
		reason: "another namespace shows other mounts and other processes"},
	{calls: []string{"unshare"}, when: []condition{flag(0, cloneNewUser)}, condition: "flag CLONE_NEWUSER",
		errno: unix.EPERM, notified: true, key: keyNamespaces,
		reason: "in a user namespace of its own a process has every capability"},
	// Programs do not expect clone to be interrupted, but this one fails anyway.
	{calls: []string{"clone"}, when: []condition{flag(0, cloneNewUser)}, condition: "flag CLONE_NEWUSER",
		errno: unix.EPERM, notified: true, key: keyNamespaces,
		reason: "in a user namespace of its own a process has every capability"},
	// Its flags are in memory; libc falls back to clone.
	{calls: []string{"clone3"}, errno: unix.ENOSYS,
		reason: "its flags cannot be seen by a filter; clone does the same"},
	{calls: []string{"io_uring_setup", "io_uring_enter", "io_uring_register"}, errno: unix.ENOSYS,
		reason: "a ring shared between processes reads and writes the memory of its owner, unseen by filters"},

	{calls: []string{"prlimit64"}, when: []condition{notZero(0), notZero(2)},
		condition: "a new limit for a process given by number",
		errno:     unix.EPERM, notified: true,
		reason: "it switches core dumps of another process on, or takes away its descriptors"},
	{calls: []string{"setrlimit"}, when: []condition{number(0, rlimitCore)}, condition: "resource RLIMIT_CORE",
		errno: 0, key: keyCoreDumps,
		reason: "a core dump is a file with the process's memory in it"},
	{calls: []string{"prlimit64"}, when: []condition{zero(0), number(1, rlimitCore), notZero(2), zero(3)},
		condition: "a new RLIMIT_CORE for oneself", errno: 0, key: keyCoreDumps,
		reason: "a core dump is a file with the process's memory in it"},
	// A filter cannot write the old limit, so here "done" would be a lie that
	// the caller sees.
	{calls: []string{"prlimit64"}, when: []condition{zero(0), number(1, rlimitCore), notZero(2), notZero(3)},
		condition: "a new RLIMIT_CORE for oneself, asking for the old one too", errno: unix.EPERM, key: keyCoreDumps,
		reason: "a core dump is a file with the process's memory in it"},

	{calls: []string{"ioctl"}, when: []condition{number(1, tiocsti)}, condition: "request TIOCSTI",
		errno: unix.EPERM, notified: true,
		reason: "it types into the terminal, for whatever shell reads it outside"},
	{calls: []string{"ioctl"}, when: []condition{number(1, tioclinux)}, condition: "request TIOCLINUX",
		errno: unix.EPERM, notified: true,
		reason: "it pastes into the console, for whatever shell reads it outside"},
	{calls: []string{"keyctl"}, when: []condition{number(0, keyctlSessionToParent)},
		condition: "operation KEYCTL_SESSION_TO_PARENT",
		errno:     unix.EPERM, notified: true,
		reason: "it gives the parent process other credentials, on some kernels ones without the sandbox"},
	{calls: []string{"move_pages", "migrate_pages"}, when: []condition{notZero(0)},
		condition: "a process given by number",
		errno:     unix.EPERM, notified: true,
		reason: "it moves another process's pages and tells where they are"},

	{calls: []string{"init_module", "finit_module", "delete_module", "create_module"}, errno: unix.EPERM,
		notified: true,
		reason:   "code in the kernel reads and writes everything"},
	{calls: []string{"kexec_load", "kexec_file_load"}, errno: unix.EPERM, notified: true,
		reason: "another kernel finds the memory of this one's processes"},
	{calls: []string{"swapon", "swapoff"}, errno: unix.EPERM, notified: true,
		reason: "memory of processes is written to the swap file, or read back from it"},
	{calls: []string{"iopl", "ioperm"}, errno: unix.EPERM, notified: true,
		reason: "input and output ports drive devices that reach all memory"},

	{calls: []string{"kill", "tkill", "tgkill"}, placement: onOldKernels,
		condition: "a signal that dumps core, to a process outside, on kernels before Landlock ABI 6 " +
			"and under a supervisor",
		errno: unix.EPERM, notified: true,
		reason: "a process outside could be made to dump its memory into a file"},
	{calls: []string{"rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal"}, placement: onOldKernels,
		condition: "a signal that dumps core, on kernels before Landlock ABI 6",
		errno:     unix.EPERM, notified: true,
		reason: "a process outside could be made to dump its memory into a file"},
	{calls: []string{"truncate", "truncate64"}, placement: onOldKernels, condition: "on kernels before Landlock ABI 3",
		errno:  unix.EACCES,
		reason: "the kernel has no rule for it, so protected files could be emptied"},

	// A file sends signals to its owner, whom another process may have named (F_SETOWN);
	// Landlock judges by who did that, and anybody who has the file chooses the signal.
	// SIGIO and real-time signals are what the call is for.
	{calls: []string{"fcntl", "fcntl64"}, when: []condition{number(1, fcntlSetSignal), other(2, 0),
		other(2, signalIO), below(2, signalRealTime)},
		condition: "F_SETSIG with a signal other than SIGIO and real-time signals", placement: inPrologue,
		errno: unix.EPERM, notified: true,
		reason: "the owner of an open file, who may be a process outside, would get a signal that ends " +
			"it or dumps its memory"},
	{calls: []string{"fcntl", "fcntl64"}, when: []condition{number(1, fcntlSetSignal)},
		condition: "F_SETSIG, where an inherited descriptor has an owner outside",
		placement: forOwners, errno: unix.EPERM, notified: true, reason: reasonOwner},
	{calls: []string{"fcntl", "fcntl64"}, when: []condition{number(1, fcntlSetFlags), flag(2, async)},
		condition: "F_SETFL with O_ASYNC, where an inherited descriptor has an owner outside",
		placement: forOwners, errno: unix.EPERM, notified: true, reason: reasonOwner},
	{calls: []string{"fcntl", "fcntl64"}, when: []condition{number(1, fcntlSetLease)},
		condition: "F_SETLEASE, where an inherited descriptor has an owner outside",
		placement: forOwners, errno: unix.EPERM, notified: true, reason: reasonOwner},
	{calls: []string{"fcntl", "fcntl64"}, when: []condition{number(1, fcntlNotify)},
		condition: "F_NOTIFY, where an inherited descriptor has an owner outside",
		placement: forOwners, errno: unix.EPERM, notified: true, reason: reasonOwner},
	{calls: []string{"ioctl"}, when: []condition{number(1, fioasync)},
		condition: "request FIOASYNC, where an inherited descriptor has an owner outside",
		placement: forOwners, errno: unix.EPERM, notified: true, reason: reasonOwner},

	// The kernel asks the file system alone about these: no rule about paths sees them.
	{calls: []string{"ioctl"}, when: []condition{masked(1, ioctlName, btrfsSnapshot)},
		condition: "request BTRFS_IOC_SNAP_CREATE",
		placement: inPrologue, errno: unix.EPERM, notified: true, reason: reasonSubvolume},
	{calls: []string{"ioctl"}, when: []condition{masked(1, ioctlName, btrfsCreate)},
		condition: "request BTRFS_IOC_SUBVOL_CREATE",
		placement: inPrologue, errno: unix.EPERM, notified: true, reason: reasonSubvolume},
	{calls: []string{"ioctl"}, when: []condition{masked(1, ioctlName, btrfsDestroy)},
		condition: "request BTRFS_IOC_SNAP_DESTROY",
		placement: inPrologue, errno: unix.EPERM, notified: true, reason: reasonSubvolume},
	{calls: []string{"ioctl"}, when: []condition{masked(1, ioctlName, btrfsSnapshotV2)},
		condition: "request BTRFS_IOC_SNAP_CREATE_V2",
		placement: inPrologue, errno: unix.EPERM, notified: true, reason: reasonSubvolume},
	{calls: []string{"ioctl"}, when: []condition{masked(1, ioctlName, btrfsCreateV2)},
		condition: "request BTRFS_IOC_SUBVOL_CREATE_V2",
		placement: inPrologue, errno: unix.EPERM, notified: true, reason: reasonSubvolume},
	{calls: []string{"ioctl"}, when: []condition{masked(1, ioctlName, btrfsDestroyV2)},
		condition: "request BTRFS_IOC_SNAP_DESTROY_V2",
		placement: inPrologue, errno: unix.EPERM, notified: true, reason: reasonSubvolume},
	{calls: []string{"ioctl"}, when: []condition{masked(1, ioctlName, btrfsSetFlags)},
		condition: "request BTRFS_IOC_SUBVOL_SETFLAGS",
		placement: inPrologue, errno: unix.EPERM, notified: true, reason: reasonSubvolume},
	{calls: []string{"ioctl"}, when: []condition{masked(1, ioctlName, btrfsSetReceived)},
		condition: "request BTRFS_IOC_SET_RECEIVED_SUBVOL",
		placement: inPrologue, errno: unix.EPERM, notified: true, reason: reasonSubvolume},
	{calls: []string{"ioctl"}, when: []condition{masked(1, ioctlName, bcachefsCreate)},
		condition: "request BCH_IOCTL_SUBVOLUME_CREATE",
		placement: inPrologue, errno: unix.EPERM, notified: true, reason: reasonSubvolume},
	{calls: []string{"ioctl"}, when: []condition{masked(1, ioctlName, bcachefsDestroy)},
		condition: "request BCH_IOCTL_SUBVOLUME_DESTROY",
		placement: inPrologue, errno: unix.EPERM, notified: true, reason: reasonSubvolume},
	{calls: []string{"ioctl"}, when: []condition{masked(1, ioctlName, bcachefsCreateV2)},
		condition: "request BCH_IOCTL_SUBVOLUME_CREATE_v2",
		placement: inPrologue, errno: unix.EPERM, notified: true, reason: reasonSubvolume},
	{calls: []string{"ioctl"}, when: []condition{masked(1, ioctlName, bcachefsDestroyV2)},
		condition: "request BCH_IOCTL_SUBVOLUME_DESTROY_v2",
		placement: inPrologue, errno: unix.EPERM, notified: true, reason: reasonSubvolume},
	{calls: []string{"ioctl"}, when: []condition{masked(1, ioctlName, ocfs2Reflink)},
		condition: "request OCFS2_IOC_REFLINK",
		placement: inPrologue, errno: unix.EPERM, notified: true, reason: reasonReflink},

	// What these register is memory of the one who calls, and whoever holds the socket
	// has the kernel read and write it.
	{calls: []string{"socket"}, when: []condition{number(0, familyXDP)}, condition: "family AF_XDP",
		placement: inPrologue, errno: unix.EAFNOSUPPORT, notified: true,
		reason: "whoever holds the socket sends and changes the memory of the process that made it"},
	{calls: []string{"socket"}, when: []condition{number(0, familyRDS)}, condition: "family AF_RDS",
		placement: inPrologue, errno: unix.EAFNOSUPPORT, notified: true,
		reason: "its remote access reads and writes memory of the process that made it"},

	// Output that becomes input of the terminal is read by whatever shell reads there
	// outside. A serial line in loop-back gives back what is written.
	{calls: []string{"ioctl"}, when: []condition{number(1, tiocmbis)}, condition: "request TIOCMBIS",
		placement: forTerminals, errno: unix.EPERM, notified: true, key: keyTerminals, reason: reasonLoop},
	{calls: []string{"ioctl"}, when: []condition{number(1, tiocmset)}, condition: "request TIOCMSET",
		placement: forTerminals, errno: unix.EPERM, notified: true, key: keyTerminals, reason: reasonLoop},
	{calls: []string{"ioctl"}, when: []condition{number(1, tiocsrs485)}, condition: "request TIOCSRS485",
		placement: forTerminals, errno: unix.EPERM, notified: true, key: keyTerminals, reason: reasonLoop},
	{calls: []string{"ioctl"}, when: []condition{number(1, tiocsiso7816)}, condition: "request TIOCSISO7816",
		placement: forTerminals, errno: unix.EPERM, notified: true, key: keyTerminals, reason: reasonLoop},
	{calls: []string{"ioctl"}, when: []condition{number(1, tiocsetd)}, condition: "request TIOCSETD",
		placement: forTerminals, errno: unix.EPERM, notified: true, key: keyTerminals, reason: reasonLine},
	{calls: []string{"ioctl"}, when: []condition{number(1, kdskbent)}, condition: "request KDSKBENT",
		placement: forTerminals, errno: unix.EPERM, notified: true, key: keyTerminals, reason: reasonKeys},
	{calls: []string{"ioctl"}, when: []condition{number(1, kdskbsent)}, condition: "request KDSKBSENT",
		placement: forTerminals, errno: unix.EPERM, notified: true, key: keyTerminals, reason: reasonKeys},
	{calls: []string{"ioctl"}, when: []condition{number(1, kdskbdiacr)}, condition: "request KDSKBDIACR",
		placement: forTerminals, errno: unix.EPERM, notified: true, key: keyTerminals, reason: reasonKeys},
	{calls: []string{"ioctl"}, when: []condition{number(1, kdskbdiacruc)}, condition: "request KDSKBDIACRUC",
		placement: forTerminals, errno: unix.EPERM, notified: true, key: keyTerminals, reason: reasonKeys},
	{calls: []string{"ioctl"}, when: []condition{number(1, kdsetkeycode)}, condition: "request KDSETKEYCODE",
		placement: forTerminals, errno: unix.EPERM, notified: true, key: keyTerminals, reason: reasonKeys},
	{calls: []string{"ioctl"}, when: []condition{number(1, eviocskeycode)}, condition: "request EVIOCSKEYCODE",
		placement: forTerminals, errno: unix.EPERM, notified: true, key: keyTerminals, reason: reasonKeys},
	{calls: []string{"ioctl"}, when: []condition{number(1, eviocskeycodeV2)}, condition: "request EVIOCSKEYCODE_V2",
		placement: forTerminals, errno: unix.EPERM, notified: true, key: keyTerminals, reason: reasonKeys},
	{calls: []string{"vhangup"}, condition: `under ipc.terminals = "deny"`, placement: forTerminals,
		errno: unix.EPERM, notified: true, key: keyTerminals,
		reason: "it hangs the terminal up, which ends the shell that reads there outside"},

	// Files of large pages do not heed the seal.
	{calls: []string{"memfd_create"}, when: []condition{flag(1, memfdHuge)}, condition: "flag MFD_HUGETLB",
		placement: forMemfds, errno: unix.ENOSYS, notified: true, key: keyMemfds,
		reason: "a memfd of large pages can be made executable, sealed or not"},
	// An ACL sets the bits of the mode that the seal holds (seen with Linux 6.18). What
	// is set is a name in memory, but its size tells which may be one: a head of 4 bytes
	// and at least three entries of 8. The supervisor reads the name, and makes the call
	// itself for all that is no ACL of a memfd.
	{calls: []string{"setxattr", "fsetxattr"}, when: []condition{number(3, aclLeast)}, condition: "an ACL of a memfd",
		placement: forMemfds, errno: unix.EOPNOTSUPP, notified: true, key: keyMemfds, reason: reasonACL},
	{calls: []string{"setxattr", "fsetxattr"}, when: []condition{masked(3, aclEntry-1, aclHead),
		{arg: 3, op: isAny, mask: ^uint32(0x1f)}},
		condition: "a longer ACL of a memfd", placement: forMemfds, errno: unix.EOPNOTSUPP, notified: true,
		key: keyMemfds, reason: reasonACL},
	// Its size is in memory.
	{calls: []string{"setxattrat"}, condition: "an ACL of a memfd", placement: forMemfds, errno: unix.ENOSYS,
		notified: true, key: keyMemfds, reason: reasonACL},
	{calls: []string{"chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "chown32", "fchown", "fchown32",
		"fchownat", "lchown", "lchown32",
		"setxattr", "lsetxattr", "fsetxattr", "setxattrat", "removexattr", "lremovexattr", "fremovexattr",
		"removexattrat", "file_setattr",
		"utime", "utimes", "utimensat", "utimensat_time64", "futimesat"},
		condition: `under paths.metadata = "deny"; under "granted" where files may not be written`,
		placement: forAttributes, errno: unix.EPERM, notified: true, key: keyMetadata,
		reason: "the policy keeps owner, mode, times and attributes of every file as they are"},
	{calls: []string{"ioctl"}, when: []condition{number(1, setFlags)}, condition: "request FS_IOC_SETFLAGS",
		placement: forMetadata, errno: unix.EPERM, notified: true, key: keyMetadata, reason: reasonFlags},
	{calls: []string{"ioctl"}, when: []condition{number(1, setFlags32)}, condition: "request FS_IOC32_SETFLAGS",
		placement: forMetadata, errno: unix.EPERM, notified: true, key: keyMetadata, reason: reasonFlags},
	{calls: []string{"ioctl"}, when: []condition{number(1, setAttributes)}, condition: "request FS_IOC_FSSETXATTR",
		placement: forMetadata, errno: unix.EPERM, notified: true, key: keyMetadata, reason: reasonFlags},
	{calls: []string{"ioctl"}, when: []condition{number(1, setFAT)}, condition: "request FAT_IOCTL_SET_ATTRIBUTES",
		placement: forMetadata, errno: unix.EPERM, notified: true, key: keyMetadata, reason: reasonFlags},
	// These take a descriptor that was opened for reading. Others that change a file ask for
	// one that was opened for writing (EXT4_IOC_MOVE_EXT, EXT4_IOC_SWAP_BOOT, those of F2FS
	// for compression) or for CAP_SYS_ADMIN, or change nothing that can be seen
	// (FIDEDUPERANGE, FS_IOC_ADD_ENCRYPTION_KEY).
	{calls: []string{"ioctl"}, when: []condition{masked(1, ioctlName, setVersion)},
		condition: "request FS_IOC_SETVERSION",
		placement: forMetadata, errno: unix.EPERM, notified: true, key: keyMetadata, reason: reasonChanges},
	{calls: []string{"ioctl"}, when: []condition{masked(1, ioctlName, setVersionExt)},
		condition: "request EXT4_IOC_SETVERSION",
		placement: forMetadata, errno: unix.EPERM, notified: true, key: keyMetadata, reason: reasonChanges},
	{calls: []string{"ioctl"}, when: []condition{number(1, migrate)}, condition: "request EXT4_IOC_MIGRATE",
		placement: forMetadata, errno: unix.EPERM, notified: true, key: keyMetadata, reason: reasonChanges},
	{calls: []string{"ioctl"}, when: []condition{number(1, enableVerity)}, condition: "request FS_IOC_ENABLE_VERITY",
		placement: forMetadata, errno: unix.EPERM, notified: true, key: keyMetadata,
		reason: "nobody can write the file any more then"},
	{calls: []string{"ioctl"}, when: []condition{number(1, setEncryption)},
		condition: "request FS_IOC_SET_ENCRYPTION_POLICY",
		placement: forMetadata, errno: unix.EPERM, notified: true, key: keyMetadata, reason: reasonChanges},
	{calls: []string{"ioctl"}, when: []condition{number(1, removeKey)},
		condition: "request FS_IOC_REMOVE_ENCRYPTION_KEY",
		placement: forMetadata, errno: unix.EPERM, notified: true, key: keyMetadata, reason: reasonLocks},
	{calls: []string{"ioctl"}, when: []condition{number(1, removeKeyAll)},
		condition: "request FS_IOC_REMOVE_ENCRYPTION_KEY_ALL_USERS",
		placement: forMetadata, errno: unix.EPERM, notified: true, key: keyMetadata, reason: reasonLocks},
	{calls: []string{"ioctl"}, when: []condition{number(1, pinFile)}, condition: "request F2FS_IOC_SET_PIN_FILE",
		placement: forMetadata, errno: unix.EPERM, notified: true, key: keyMetadata, reason: reasonChanges},
	{calls: []string{"ioctl"}, when: []condition{number(1, cephLayout)}, condition: "request CEPH_IOC_SET_LAYOUT",
		placement: forMetadata, errno: unix.EPERM, notified: true, key: keyMetadata, reason: reasonChanges},
	{calls: []string{"ioctl"}, when: []condition{number(1, cephPolicy)},
		condition: "request CEPH_IOC_SET_LAYOUT_POLICY",
		placement: forMetadata, errno: unix.EPERM, notified: true, key: keyMetadata, reason: reasonChanges},

	{calls: []string{"memfd_create"}, when: []condition{masked(1, memfdNoExec, 0)},
		condition: "without flag MFD_NOEXEC_SEAL",
		placement: forMemfds, errno: unix.EACCES, notified: true, key: keyMemfds,
		reason: "a memfd is a file in no directory, which no rule about paths keeps from being executed"},

	{calls: []string{"mmap", "mmap2"}, when: []condition{masked(3, mapKind, mapShared)},
		condition: "flag MAP_SHARED, of a file",
		placement: forShared, errno: unix.EACCES, key: keyShared, reason: reasonShared},
	{calls: []string{"mmap", "mmap2"}, when: []condition{masked(3, mapKind, mapValidate)},
		condition: "flag MAP_SHARED_VALIDATE, of a file",
		placement: forShared, errno: unix.EACCES, key: keyShared, reason: reasonShared},
	{calls: []string{"shmget", "shmat"}, condition: `under memory.shared-files = "deny"`, placement: forShared,
		errno: unix.EACCES, key: keyShared,
		reason: reasonShared},
	{calls: []string{"ipc"}, when: []condition{masked(0, ipcCall, ipcShmat)}, condition: "SHMAT",
		placement: forShared, errno: unix.EACCES,
		key: keyShared, reason: reasonShared},
	{calls: []string{"ipc"}, when: []condition{masked(0, ipcCall, ipcShmget)}, condition: "SHMGET",
		placement: forShared, errno: unix.EACCES,
		key: keyShared, reason: reasonShared},

	// 0xffffffff only asks.
	{calls: []string{"personality"}, when: []condition{masked(0, personalities, impliesExec)},
		condition: "flag READ_IMPLIES_EXEC",
		placement: forCode, errno: unix.EACCES, key: keyCode,
		reason: "what can be read could be executed from then on"},
	// The kernel's own refusal knows memory, and not that two mappings show one file.
	{calls: []string{"mmap", "mmap2"}, when: []condition{flag(2, protExec), masked(3, mapKind, mapShared)},
		condition: "PROT_EXEC, flag MAP_SHARED, of a file",
		placement: forCode, errno: unix.EACCES, key: keyCode, reason: reasonCode},
	{calls: []string{"mmap", "mmap2"}, when: []condition{flag(2, protExec), masked(3, mapKind, mapValidate)},
		condition: "PROT_EXEC, flag MAP_SHARED_VALIDATE, of a file",
		placement: forCode, errno: unix.EACCES, key: keyCode, reason: reasonCode},
	{calls: []string{"shmat"}, when: []condition{flag(2, shmExec)}, condition: "flag SHM_EXEC",
		placement: forCode, errno: unix.EACCES,
		key: keyCode, reason: reasonCode},
	{calls: []string{"ipc"}, when: []condition{masked(0, ipcCall, ipcShmat), flag(2, shmExec)},
		condition: "SHMAT, flag SHM_EXEC",
		placement: forCode, errno: unix.EACCES, key: keyCode, reason: reasonCode},

	// What a system without AF_UNIX answers: libraries that ask a daemon first
	// (names, logs, sound) then do without it.
	{calls: []string{"socket"}, when: []condition{number(0, familyUnix)}, condition: "family AF_UNIX",
		placement: forUnix, errno: unix.EAFNOSUPPORT, notified: true, key: keyUnix,
		reason: "the policy allows no UNIX socket but pairs, so that no daemon outside can be asked"},
	// Each half of a pair of datagram sockets can send to any other address.
	{calls: []string{"socketpair"}, when: []condition{number(0, familyUnix),
		{arg: 1, op: isMasked, mask: datagrams, value: datagram}},
		condition: "family AF_UNIX, type SOCK_DGRAM", placement: forPairs, errno: unix.ESOCKTNOSUPPORT,
		notified: true, key: keyUnix,
		reason: "a datagram socket of a pair sends to every UNIX socket that is not connected"},

	{calls: []string{"socket"}, when: []condition{unlisted(0)},
		condition: "an address family that network.families does not list",
		placement: forFamilies, errno: unix.EAFNOSUPPORT, notified: true, key: keyFamilies,
		reason: "the policy lists the address families of sockets, and this is none of them"},
	// Landlock asks no rule where the kernel binds by itself.
	{calls: []string{"listen"}, condition: "of a TCP socket that is bound to no port which network.bind-tcp lists",
		placement: forListen, errno: unix.EACCES, notified: true, key: keyBind,
		reason: "a TCP socket that is not bound would listen on any free port"},

	// Programs that speak MPTCP or SMC fall back to TCP, whose ports Landlock
	// judges. They ask whether the kernel has them, so nothing is reported.
	{calls: []string{"socket"}, when: []condition{number(0, familyINET), number(2, protocolMP)},
		condition: "AF_INET, protocol IPPROTO_MPTCP",
		placement: forTCP, errno: unix.EPROTONOSUPPORT, key: keyTCP, reason: reasonPastTCP},
	{calls: []string{"socket"}, when: []condition{number(0, familyINET6), number(2, protocolMP)},
		condition: "AF_INET6, protocol IPPROTO_MPTCP",
		placement: forTCP, errno: unix.EPROTONOSUPPORT, key: keyTCP, reason: reasonPastTCP},
	{calls: []string{"socket"}, when: []condition{number(0, familyINET), number(2, protocolSMC)},
		condition: "AF_INET, protocol IPPROTO_SMC",
		placement: forTCP, errno: unix.EPROTONOSUPPORT, key: keyTCP, reason: reasonPastTCP},
	{calls: []string{"socket"}, when: []condition{number(0, familyINET6), number(2, protocolSMC)},
		condition: "AF_INET6, protocol IPPROTO_SMC",
		placement: forTCP, errno: unix.EPROTONOSUPPORT, key: keyTCP, reason: reasonPastTCP},
	{calls: []string{"socket"}, when: []condition{number(0, familySMC)}, condition: "family AF_SMC",
		placement: forTCP, errno: unix.EAFNOSUPPORT, key: keyTCP, reason: reasonPastTCP},
	{calls: []string{"socket"}, when: []condition{number(0, familyRxRPC)}, condition: "family AF_RXRPC",
		placement: forUDP, errno: unix.EAFNOSUPPORT, key: keyUDP,
		reason: "the kernel sends its datagrams past the rules about UDP ports"},
	// The name of the protocol is in memory: "smc" makes the socket one of SMC
	// (Linux 5.17 and later), "tls" speeds TLS up, which libraries do without.
	{calls: []string{"setsockopt"}, when: []condition{number(1, levelTCP), number(2, optionULP)},
		condition: "option TCP_ULP",
		placement: forTCP, errno: unix.ENOENT, key: keyTCP,
		reason: "it can turn a TCP socket into one of SMC, whose ports the kernel has no rules for"},
	// What a kernel without fast open as a client answers; connect(2) comes next.
	{calls: []string{"sendto", "send", "sendmmsg"}, when: []condition{flag(3, fastOpen)},
		condition: "flag MSG_FASTOPEN",
		placement: forTCP, errno: unix.EOPNOTSUPP, key: keyTCP, reason: reasonFastOpen},
	{calls: []string{"sendmsg"}, when: []condition{flag(2, fastOpen)}, condition: "flag MSG_FASTOPEN",
		placement: forTCP, errno: unix.EOPNOTSUPP, key: keyTCP, reason: reasonFastOpen},

	// The arguments of a call within it are in memory. Newer C libraries make
	// the calls themselves (Linux 4.3).
	{calls: []string{"socketcall"}, when: []condition{number(0, callSocket)}, condition: "SYS_SOCKET",
		placement: forSockets, errno: unix.ENOSYS, key: keyTCP, reason: reasonInMemory},
	{calls: []string{"socketcall"}, when: []condition{number(0, callListen)}, condition: "SYS_LISTEN",
		placement: forListen, errno: unix.ENOSYS, key: keyBind, reason: reasonInMemory},
	{calls: []string{"socketcall"}, when: []condition{number(0, callSocketpair)}, condition: "SYS_SOCKETPAIR",
		placement: forPairs, errno: unix.ENOSYS, key: keyUnix, reason: reasonInMemory},
	{calls: []string{"socketcall"}, when: []condition{number(0, callSend)}, condition: "SYS_SEND",
		placement: forTCP, errno: unix.ENOSYS, key: keyTCP, reason: reasonInMemory},
	{calls: []string{"socketcall"}, when: []condition{number(0, callSendto)}, condition: "SYS_SENDTO",
		placement: forTCP, errno: unix.ENOSYS, key: keyTCP, reason: reasonInMemory},
	{calls: []string{"socketcall"}, when: []condition{number(0, callSetsockopt)}, condition: "SYS_SETSOCKOPT",
		placement: forTCP, errno: unix.ENOSYS, key: keyTCP, reason: reasonInMemory},
	{calls: []string{"socketcall"}, when: []condition{number(0, callSendmsg)}, condition: "SYS_SENDMSG",
		placement: forTCP, errno: unix.ENOSYS, key: keyTCP, reason: reasonInMemory},
	{calls: []string{"socketcall"}, when: []condition{number(0, callSendmmsg)}, condition: "SYS_SENDMMSG",
		placement: forTCP, errno: unix.ENOSYS, key: keyTCP, reason: reasonInMemory},
}

const (
	keyShared       = "memory.shared-files"
	keyCode         = "memory.writable-code"
	keyMemfds       = "memory.anonymous-exec"
	reasonOwner     = "the owner of the file, a process outside, would get signals"
	reasonSubvolume = "it makes, removes or changes a directory past every rule about paths"
	reasonReflink   = "it makes a file past every rule about paths"
	reasonLoop      = "what is written to a serial line could come back as its input, for whatever " +
		"shell reads it outside"
	reasonLine     = "what is typed into the terminal, or read from it outside, would go elsewhere"
	reasonKeys     = "keys of the keyboard could be made to type something else, for whatever shell reads it outside"
	reasonShared   = "another process can change such memory"
	reasonCode     = "such memory can be written and then run"
	reasonACL      = "an ACL can make a memfd executable that is sealed against it"
	reasonChanges  = "it changes a file that is open for reading only"
	reasonLocks    = "it locks files that processes outside use"
	reasonFlags    = "the policy keeps the attributes of every file as they are"
	reasonPastTCP  = "the kernel's rules about TCP ports do not hold for it; TCP itself does the same"
	reasonFastOpen = "it connects without asking the kernel's rules about TCP ports; connect(2) does the same"
	reasonInMemory = "its arguments cannot be seen by a filter; the call itself does the same"
)

// Denials returns the table of what the filters refuse, in the order of the
// documents. It is the caller's own.
func Denials() []Denial {
	var all []Denial
	for _, r := range rules {
		for _, call := range r.calls {
			all = append(all, r.denial(call))
		}
	}
	return all
}

// FindDenial returns the row of [Denials] that a use of a call falls under; ok is
// false when no row does. The arguments are as the filter saw them, so it tells
// rows of one call (ioctl, socket) apart. Rows that hold by an option are found
// whether it is set or not, but for those about address families: these are of one
// policy, n, if that is not nil.
func FindDenial(call string, args [6]uint64, n *policy.Network) (d Denial, ok bool) {
	for i := range rules {
		r := &rules[i]
		if r.placement == forUnix && n != nil && !n.Unix.Restricted() ||
			r.placement == forFamilies && (n == nil || !n.Families.Restricted() ||
				slices.Contains(n.FamilyNumbers(), uint32(args[0]))) {
			continue
		}
		if slices.Contains(r.calls, call) &&
			!slices.ContainsFunc(r.when, func(c condition) bool { return !c.holds(args) }) {
			return r.denial(call), true
		}
	}
	return Denial{}, false
}

func (r *rule) denial(call string) Denial {
	return Denial{Call: call, Condition: r.condition, Errno: r.errno, Notified: r.notified, Reason: r.reason,
		Key: r.key}
}

func (c condition) holds(args [6]uint64) bool {
	switch v := args[c.arg]; c.op {
	case isZero:
		return v == 0
	case isNotZero:
		return v != 0
	case isAny:
		return uint32(v)&c.mask != 0
	case isOther:
		return uint32(v) != c.value
	case isBelow:
		return uint32(v) < c.value
	case isUnlisted:
		return true
	default:
		return uint32(v)&c.mask == c.value
	}
}

// verdict is what a filter answers where the rule applies.
func (r *rule) verdict(listener bool) Verdict {
	if listener && r.notified {
		return Notify
	}
	return ErrnoVerdict(r.errno)
}
