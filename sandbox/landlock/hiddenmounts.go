package landlock

import (
	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
	"github.com/memjail/memjail/sandbox/specialfs"
)

// HiddenMounts lists the mounts of special file systems outside their customary places. The
// directories above them have to be carved, unless a private mount namespace hides them.
func HiddenMounts(t *MountTable) []mountinfo.Mount {
	var found []mountinfo.Mount
	for i := range t.mounts {
		m := &t.mounts[i]
		if _, customary := specialfs.At(m.Point); specialfs.Named(m.FSType) && customary == "" && t.visible(m) {
			found = append(found, *m)
		}
	}
	return found
}
