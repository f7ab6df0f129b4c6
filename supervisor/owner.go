package supervisor

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// owner is whom a file is given to, chown(2); -1 leaves it as it is.
type owner struct{ uid, gid int }

// translateOwners puts the IDs that a change names into this process's numbering. The
// kernel reads them in the user namespace of whoever makes the call: what is 0 in the
// caller's may be 1000 in this one, and this one's 0 nobody there. EINVAL: the caller's
// namespace has no such ID, as the kernel says. EPERM: the IDs lie within an attribute,
// or the map cannot be read.
func (r *receiver) translateOwners(tid int, c *change) error {
	if (c.owner == nil && !namesOwners(c.attribute)) || r.inOwnNamespace(tid) {
		return nil
	}
	if c.owner == nil {
		return unix.EPERM
	}
	for _, t := range []struct {
		id  *int
		way string
	}{{&c.owner.uid, "uid_map"}, {&c.owner.gid, "gid_map"}} {
		if *t.id == -1 {
			continue
		}
		file, err := r.s.resolver.Procfs.OpenThread(tid, t.way, unix.O_RDONLY)
		if err != nil {
			return unix.EPERM
		}
		ids := os.NewFile(uintptr(file), t.way)
		var text [idMapSize]byte
		n, err := ids.Read(text[:])
		ids.Close()
		if err != nil && n == 0 { // a namespace that has no IDs yet
			return unix.EINVAL
		}
		outside, ok := mapID(text[:n], uint32(*t.id))
		if !ok {
			return unix.EINVAL
		}
		*t.id = int(outside)
	}
	return nil
}

// namesOwners reports whether the value of an extended attribute has IDs in it, which
// the kernel reads in the namespace of whoever sets it.
func namesOwners(attribute string) bool {
	return isACL(attribute) || attribute == "security.capability"
}

// idMapSize holds the 340 lines that a map can have, user_namespaces(7).
const idMapSize = 340 * 36

// mapID looks an ID up in a map, whose lines are: the first ID inside, the first
// outside, how many.
func mapID(text []byte, id uint32) (outside uint32, ok bool) {
	for line := range bytes.Lines(text) {
		var from, to, count uint32
		if _, err := fmt.Sscan(strings.TrimSpace(string(line)), &from, &to, &count); err != nil {
			continue
		}
		if id >= from && id-from < count {
			return to + (id - from), true
		}
	}
	return 0, false
}
