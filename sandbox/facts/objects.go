package facts

import (
	"path"

	"github.com/memjail/memjail/sandbox/landlock"
	"golang.org/x/sys/unix"
)

// Objects are rules by the file or directory that the kernel ties them to, the rights of
// those on one object added up.
type Objects map[object]Rule

type object struct{ device, inode uint64 }

// ByObject looks for what rules are on. One whose path leads nowhere is left out.
func ByObject(rules []Rule) Objects {
	objects := Objects{}
	for _, r := range rules {
		id, ok := identify(r.Path)
		if !ok {
			continue
		}
		sum, known := objects[id]
		if !known {
			sum.Path = r.Path
		}
		sum.Rights |= r.Rights
		objects[id] = sum
	}
	return objects
}

// On returns the rights that rules on what a path leads to give; ok is false where it
// leads nowhere.
func (o Objects) On(name string) (rights landlock.Rights, ok bool) {
	id, ok := identify(name)
	return o[id].Rights, ok
}

// Granting returns the path of a rule that gives a right on what a path leads to: one on
// itself, or on a directory on the way to it. It is empty where there is none.
func (o Objects) Granting(name string, right landlock.Rights) (rule string) {
	for at := name; ; at = path.Dir(at) {
		if id, ok := identify(at); ok {
			if r, known := o[id]; known && r.Rights&right == right {
				return r.Path
			}
		}
		if at == "/" || at == "." {
			return ""
		}
	}
}

func identify(name string) (id object, ok bool) {
	if !path.IsAbs(name) {
		return id, false // a rule on what has no path
	}
	var st unix.Stat_t
	err := unix.Stat(name, &st)
	return object{uint64(st.Dev), st.Ino}, err == nil //nolint:unconvert // its width differs between architectures
}
