package landlock

import (
	"fmt"
	"io"
	"slices"

	"github.com/memjail/memjail/policy/abspath"
	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
)

// MountTable is the mount table of one mount namespace, seen from one root
// directory, at one moment.
type MountTable struct {
	mounts []mountinfo.Mount
	over   map[attachment]int // what is mounted where: index into mounts
	root   int                // index of the mount of "/"; -1 if there is none
}

// attachment is a place in a certain mount: the same path can be a mount point
// in several mounts that are stacked on each other.
type attachment struct {
	parent int // mount ID
	point  string
}

// ReadMountTable reads the calling process's own table, /proc/self/mountinfo. Errors are
// those of [mountinfo.Read].
func ReadMountTable() (*MountTable, error) {
	mounts, err := mountinfo.Read()
	if err != nil {
		return nil, err
	}
	return newMountTable(mounts), nil
}

// ParseMountTable reads the text of a mountinfo file. Errors are those of reading and of
// [mountinfo.Parse].
func ParseMountTable(r io.Reader) (*MountTable, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	mounts, err := mountinfo.Parse(string(text))
	if err != nil {
		return nil, err
	}
	return newMountTable(mounts), nil
}

func newMountTable(mounts []mountinfo.Mount) *MountTable {
	t := &MountTable{mounts: mounts}
	t.link()
	return t
}

// link finds the root mount and what is mounted where. If two lines name the same place,
// the last one counts.
func (t *MountTable) link() {
	t.root = -1
	t.over = make(map[attachment]int, len(t.mounts))
	known := make(map[int]bool, len(t.mounts))
	for i := range t.mounts {
		known[t.mounts[i].ID] = true
	}
	for i := range t.mounts {
		m := &t.mounts[i]
		top := m.Parent == m.ID || !known[m.Parent]
		if top && m.Point == "/" {
			t.root = i
			continue
		}
		parent := m.Parent
		if top {
			parent = noMount
		}
		t.over[attachment{parent, m.Point}] = i
	}
	if t.root >= 0 {
		for i := range t.mounts { // mounts without a parent are below the root
			if at := (attachment{noMount, t.mounts[i].Point}); t.over[at] == i && i != t.root {
				delete(t.over, at)
				t.over[attachment{t.mounts[t.root].ID, at.point}] = i
			}
		}
	}
}

// noMount represents the mount of "/" after a chroot(2) into an ordinary directory, which
// is in no table.
const noMount = -1

// at returns the mount on which an absolute, clean path ends, as the kernel's
// path walk finds it; nil is the unlisted mount under a chroot.
func (t *MountTable) at(path string) *mountinfo.Mount {
	m := noMount
	if t.root >= 0 {
		m = t.top(t.root, "/")
	}
	for i := 1; i <= len(path); i++ {
		if i > 1 && (i == len(path) || path[i] == '/') {
			m = t.top(m, path[:i])
		}
	}
	if m < 0 {
		return nil
	}
	return &t.mounts[m]
}

// top returns the uppermost of the mounts that are stacked at point in mount m.
func (t *MountTable) top(m int, point string) int {
	for range t.mounts { // bounded, in case the table describes a loop
		id := noMount
		if m >= 0 {
			id = t.mounts[m].ID
		}
		next, ok := t.over[attachment{id, point}]
		if !ok {
			break
		}
		m = next
	}
	return m
}

// visible reports whether a look-up of the mount's point ends on it: nothing is
// mounted on top of it or of one of its ancestors.
func (t *MountTable) visible(m *mountinfo.Mount) bool { return t.at(m.Point) == m }

// IsPoint reports whether a path leads to a mount, and not to a file or directory in one.
func (t *MountTable) IsPoint(path string) bool {
	m := t.at(path)
	return m != nil && m.Point == path
}

// HasRoot reports whether "/" is on a mount of the table; it is not after a chroot(2)
// into a plain directory.
func (t *MountTable) HasRoot() bool { return t.root >= 0 }

// Below lists the visible mount points in a directory, which is not one of them.
func (t *MountTable) Below(dir string) []string {
	var points []string
	for i := range t.mounts {
		if m := &t.mounts[i]; m.Point != dir && abspath.Within(dir, m.Point) && t.visible(m) {
			points = append(points, m.Point)
		}
	}
	return points
}

// byID finds a mount; nil when there is none.
func (t *MountTable) byID(id int) *mountinfo.Mount {
	for i := range t.mounts {
		if t.mounts[i].ID == id {
			return &t.mounts[i]
		}
	}
	return nil
}

// HasRemote reports whether a file system is mounted anywhere on which a call can wait
// for a server ([mountinfo.Mount.Remote]).
func (t *MountTable) HasRemote() bool {
	return slices.ContainsFunc(t.mounts, func(m mountinfo.Mount) bool { return m.Remote() })
}
