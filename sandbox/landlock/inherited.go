package landlock

import (
	"slices"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
	"golang.org/x/sys/unix"
)

// DeviceGranted reports whether a device, open already, is one that the sandbox
// could open itself: a character device of the list, a terminal, or a node that
// the policy names.
func DeviceGranted(rdev uint64, block bool, named []policy.Device) bool {
	if !block && (grantable(rdev) || isTerminal(rdev)) {
		return true
	}
	kind := uint32(unix.S_IFCHR)
	if block {
		kind = unix.S_IFBLK
	}
	return slices.ContainsFunc(named, func(d policy.Device) bool {
		var st unix.Stat_t
		return unix.Stat(d.Path, &st) == nil && st.Mode&unix.S_IFMT == kind && st.Rdev == rdev
	})
}

// HasRemote reports whether a file system is mounted anywhere on which a call can wait
// for a server ([mountinfo.Mount.Remote]).
func (t *MountTable) HasRemote() bool {
	return slices.ContainsFunc(t.mounts, func(m mountinfo.Mount) bool { return m.Remote() })
}
