// Package landlockabi is the kernel's interface to Landlock: its numbers, its structures
// and its three calls, see landlock(7) and Documentation/userspace-api/landlock.rst.
//
// It has the names of go-landlock's package for that, with which a test compares it.
// That one also imports psx, which brings cgo into every program that imports memjail's
// packages, and calls on all threads, which memjail has no use for.
package landlockabi

import (
	"structs"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rights over files.
const (
	AccessFSExecute     = unix.LANDLOCK_ACCESS_FS_EXECUTE
	AccessFSWriteFile   = unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	AccessFSReadFile    = unix.LANDLOCK_ACCESS_FS_READ_FILE
	AccessFSReadDir     = unix.LANDLOCK_ACCESS_FS_READ_DIR
	AccessFSRemoveDir   = unix.LANDLOCK_ACCESS_FS_REMOVE_DIR
	AccessFSRemoveFile  = unix.LANDLOCK_ACCESS_FS_REMOVE_FILE
	AccessFSMakeChar    = unix.LANDLOCK_ACCESS_FS_MAKE_CHAR
	AccessFSMakeDir     = unix.LANDLOCK_ACCESS_FS_MAKE_DIR
	AccessFSMakeReg     = unix.LANDLOCK_ACCESS_FS_MAKE_REG
	AccessFSMakeSock    = unix.LANDLOCK_ACCESS_FS_MAKE_SOCK
	AccessFSMakeFifo    = unix.LANDLOCK_ACCESS_FS_MAKE_FIFO
	AccessFSMakeBlock   = unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK
	AccessFSMakeSym     = unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	AccessFSRefer       = unix.LANDLOCK_ACCESS_FS_REFER
	AccessFSTruncate    = unix.LANDLOCK_ACCESS_FS_TRUNCATE
	AccessFSIoctlDev    = unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	AccessFSResolveUnix = unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
)

// Rights over ports.
const (
	AccessNetBindTCP        = unix.LANDLOCK_ACCESS_NET_BIND_TCP
	AccessNetConnectTCP     = unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	AccessNetBindUDP        = unix.LANDLOCK_ACCESS_NET_BIND_UDP
	AccessNetConnectSendUDP = unix.LANDLOCK_ACCESS_NET_CONNECT_SEND_UDP
)

// What is kept within the domain.
const (
	ScopeAbstractUnixSocket = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	ScopeSignal             = unix.LANDLOCK_SCOPE_SIGNAL
)

// Flags for [LandlockRestrictSelf]. The last one (ABI 11) sets no_new_privs, too.
const (
	FlagRestrictSelfLogSameExecOff   = unix.LANDLOCK_RESTRICT_SELF_LOG_SAME_EXEC_OFF
	FlagRestrictSelfLogNewExecOn     = unix.LANDLOCK_RESTRICT_SELF_LOG_NEW_EXEC_ON
	FlagRestrictSelfLogSubdomainsOff = unix.LANDLOCK_RESTRICT_SELF_LOG_SUBDOMAINS_OFF
	FlagRestrictSelfTSync            = unix.LANDLOCK_RESTRICT_SELF_TSYNC
	FlagRestrictSelfNoNewPrivs       = 1 << 4 // not yet in x/sys/unix
)

// FlagAddRuleQuiet is for the two calls that add rules: refusals there are not audited.
const FlagAddRuleQuiet = unix.LANDLOCK_ADD_RULE_QUIET

// Types of rules, enum landlock_rule_type.
const (
	rulePathBeneath = unix.LANDLOCK_RULE_PATH_BENEATH
	ruleNetPort     = 2 // not yet in x/sys/unix
)

// RulesetAttr is struct landlock_ruleset_attr. Kernels that know fewer fields take it as
// long as those are zero.
type RulesetAttr struct {
	_                structs.HostLayout
	HandledAccessFS  uint64
	HandledAccessNet uint64 // ABI 4
	Scoped           uint64 // ABI 6
	QuietAccessFS    uint64 // ABI 10, and so are the others
	QuietAccessNet   uint64
	QuietScoped      uint64
}

// PathBeneathAttr is struct landlock_path_beneath_attr, which is packed: the kernel
// reads the first twelve bytes.
type PathBeneathAttr struct {
	_             structs.HostLayout
	AllowedAccess uint64
	ParentFd      int32
}

// NetPortAttr is struct landlock_net_port_attr.
type NetPortAttr struct {
	_             structs.HostLayout
	AllowedAccess uint64
	Port          uint64
}

// LandlockCreateRuleset makes a ruleset; the descriptor is closed on exec.
func LandlockCreateRuleset(attr *RulesetAttr, flags int) (fd int, err error) {
	return createRuleset(attr, unsafe.Sizeof(*attr), flags)
}

// LandlockGetABIVersion returns the kernel's version of the interface, from 1 upwards.
// ENOSYS: it was built without; EOPNOTSUPP: it was disabled at boot.
func LandlockGetABIVersion() (version int, err error) {
	return createRuleset(nil, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
}

// LandlockGetErrata returns the mask of the fixes that the kernel has (Linux 6.15).
func LandlockGetErrata() (errata int, err error) {
	return createRuleset(nil, 0, unix.LANDLOCK_CREATE_RULESET_ERRATA)
}

func createRuleset(attr *RulesetAttr, size uintptr, flags int) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(attr)), size, uintptr(flags))
	if errno != 0 {
		return -1, errno
	}
	return int(int32(r)), nil
}

// LandlockAddPathBeneathRule adds a rule about a tree of files.
func LandlockAddPathBeneathRule(ruleset int, attr *PathBeneathAttr, flags int) error {
	return addRule(ruleset, rulePathBeneath, unsafe.Pointer(attr), flags)
}

// LandlockAddNetPortRule adds a rule about a port (ABI 4).
func LandlockAddNetPortRule(ruleset int, attr *NetPortAttr, flags int) error {
	return addRule(ruleset, ruleNetPort, unsafe.Pointer(attr), flags)
}

func addRule(ruleset, kind int, attr unsafe.Pointer, flags int) error {
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), uintptr(kind), uintptr(attr),
		uintptr(flags), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// LandlockRestrictSelf puts the calling thread under a ruleset, or with
// [FlagRestrictSelfTSync] (ABI 8) all threads.
func LandlockRestrictSelf(ruleset int, flags uint32) error {
	_, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), uintptr(flags), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
