package landlock

import (
	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
	"github.com/memjail/memjail/sandbox/specialfs"
)

// HiddenMounts lists the mounts of special file systems outside their customary places:
// those that cost the sandbox something, because the directories above them have to be
// carved, and that a private mount namespace could cover.
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
