package landlock

import (
	"errors"
	"fmt"

	llsys "github.com/memjail/memjail/sandbox/kernel/landlockabi"
	"golang.org/x/sys/unix"
)

// ABI is what one version of the kernel's Landlock interface can enforce.
type ABI struct {
	// Version is landlock_create_ruleset(2)'s answer; 0 is a kernel without
	// Landlock.
	Version int
	// Kernel is the first release of Linux with this version, "5.13".
	Kernel string
	// FS are the file system rights that can be handled.
	FS Rights
	// Net are LANDLOCK_ACCESS_NET_* bits.
	Net uint64
	// Scoped are LANDLOCK_SCOPE_* bits.
	Scoped uint64
	// RestrictFlags are the LANDLOCK_RESTRICT_SELF_* flags.
	RestrictFlags uint32
}

const (
	fsABI1 = MakeSym<<1 - 1
	fsABI2 = fsABI1 | Refer
	fsABI3 = fsABI2 | Truncate
	fsABI5 = fsABI3 | IoctlDev
	fsABI9 = fsABI5 | ResolveUnix

	netTCP = llsys.AccessNetBindTCP | llsys.AccessNetConnectTCP
	netUDP = llsys.AccessNetBindUDP | llsys.AccessNetConnectSendUDP

	scopeAll = llsys.ScopeAbstractUnixSocket | llsys.ScopeSignal

	// ScopeSignal is the bit of [Plan.Scoped] that keeps signals inside (ABI 6).
	ScopeSignal uint64 = llsys.ScopeSignal

	flagsLog = llsys.FlagRestrictSelfLogSameExecOff | llsys.FlagRestrictSelfLogNewExecOn |
		llsys.FlagRestrictSelfLogSubdomainsOff
	flagsTSync = flagsLog | llsys.FlagRestrictSelfTSync
	flagsNNP   = flagsTSync | llsys.FlagRestrictSelfNoNewPrivs
)

// abis has one row for each version; the index is the version. The release
// numbers are those of landlock.rst, "Previous limitations".
var abis = [...]ABI{
	{Version: 0},
	{Version: 1, Kernel: "5.13", FS: fsABI1},
	{Version: 2, Kernel: "5.19", FS: fsABI2},
	{Version: 3, Kernel: "6.2", FS: fsABI3},
	{Version: 4, Kernel: "6.7", FS: fsABI3, Net: netTCP},
	{Version: 5, Kernel: "6.10", FS: fsABI5, Net: netTCP},
	{Version: 6, Kernel: "6.12", FS: fsABI5, Net: netTCP, Scoped: scopeAll},
	{Version: 7, Kernel: "6.15", FS: fsABI5, Net: netTCP, Scoped: scopeAll, RestrictFlags: flagsLog},
	{Version: 8, Kernel: "7.0", FS: fsABI5, Net: netTCP, Scoped: scopeAll, RestrictFlags: flagsTSync},
	{Version: 9, Kernel: "7.1", FS: fsABI9, Net: netTCP, Scoped: scopeAll, RestrictFlags: flagsTSync},
	{Version: 10, Kernel: "7.2", FS: fsABI9, Net: netTCP | netUDP, Scoped: scopeAll, RestrictFlags: flagsTSync},
	{Version: 11, Kernel: "7.3", FS: fsABI9, Net: netTCP | netUDP, Scoped: scopeAll, RestrictFlags: flagsNNP},
}

// ForVersion returns the row of version v. A version newer than the table gets
// its newest row, since every version can do what the ones before it could; a
// negative one gets that of version 0.
func ForVersion(v int) ABI {
	return abis[max(0, min(v, len(abis)-1))]
}

// Supported asks the running kernel for its version. The answer is 0 without an
// error when it surely has no Landlock, be it not built in (ENOSYS) or not
// enabled at boot (EOPNOTSUPP); an error is "could not tell".
func Supported() (int, error) {
	v, err := llsys.LandlockGetABIVersion()
	switch {
	case err == nil:
		return v, nil
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP):
		return 0, nil
	}
	return 0, fmt.Errorf("asking for the landlock ABI: %w", err)
}

// ABIError reports that the kernel can enforce less than is needed. It matches
// [errors.ErrUnsupported].
type ABIError struct {
	Need, Have int
}

func (e *ABIError) Error() string {
	need := ForVersion(e.Need)
	if e.Have == 0 {
		return fmt.Sprintf("landlock ABI %d (Linux %s) is needed and this kernel has no landlock", e.Need, need.Kernel)
	}
	return fmt.Sprintf("landlock ABI %d (Linux %s) is needed and this kernel has ABI %d", e.Need, need.Kernel, e.Have)
}

// Unwrap makes errors.Is(err, errors.ErrUnsupported) true.
func (e *ABIError) Unwrap() error { return errors.ErrUnsupported }
