package landlock

import "github.com/memjail/memjail/policy/abspath"

// place is a directory or file as a path in its superblock: two mounts that show the same
// place show the same inode.
type place struct {
	dev  uint64
	path string
}

// locate returns the place that a path leads to. ok is false where the table does not show
// it: below the root of a chroot, or below a bind mount whose source was deleted.
func (t *MountTable) locate(path string) (p place, ok bool) {
	m := t.at(path)
	if m == nil || m.Deleted {
		return place{}, false
	}
	return place{m.Dev(), abspath.Join(m.Root, abspath.Relative(m.Point, path))}, true
}

// views lists the paths, in the order of the table, at which a place or a part of it can be
// written, or with readOnly be read: through every visible mount that shows it.
func (t *MountTable) views(p place, readOnly bool) []string {
	var paths []string
	for i := range t.mounts {
		m := &t.mounts[i]
		if m.Dev() != p.dev || m.ReadOnly && !readOnly || m.Deleted {
			continue
		}
		path := m.Point
		if !abspath.Within(p.path, m.Root) {
			if !abspath.Within(m.Root, p.path) {
				continue
			}
			path = abspath.Join(m.Point, abspath.Relative(m.Root, p.path))
		}
		if t.at(path) == m {
			paths = append(paths, path)
		}
	}
	return paths
}
