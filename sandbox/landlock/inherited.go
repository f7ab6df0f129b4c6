package landlock

import (
	"slices"
	"strings"

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

// remoteTypes are file systems on which looking up a name can wait for a server or
// a daemon; a name that ends in a dot stands for all that begin with it.
var remoteTypes = []string{"fuse", "fuse.", "fuseblk", "nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "autofs", "virtiofs", "coda", "lustre", "gfs2", "ocfs2", "glusterfs"}

// HasRemote tells whether a file system of such a type is mounted anywhere.
func (t *MountTable) HasRemote() bool {
	return slices.ContainsFunc(t.mounts, func(m mountinfo.Mount) bool {
		return slices.ContainsFunc(remoteTypes, func(name string) bool {
			return m.FSType == name || strings.HasSuffix(name, ".") && strings.HasPrefix(m.FSType, name)
		})
	})
}
