package resolve

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
	"golang.org/x/sys/unix"
)

// ErrMayWait reports that going on could mean to wait for a disk or a server, and that
// the caller may not (Caller.MayWait). Nothing has been found out.
var ErrMayWait = errors.New("resolving may take long")

// MayWait reports whether a call about what a descriptor is open on may wait for a
// server: it, or a directory above it, is on a file system that has one, or on a mount
// that this thread does not see. The descriptor keeps its mount, and so the number of
// the mount, from being replaced. No server is asked.
func MayWait(fd int) bool {
	var st unix.Statx_t
	if statDescriptor(fd, &st) != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return true
	}
	var name [PathMax]byte
	n, err := unix.Readlink(descriptorName(fd), name[:])
	if err != nil {
		return true
	}
	table, err := readMounts()
	if err != nil {
		return true
	}
	mount, found := mountinfo.Find(table, st.Mnt_id)
	return !found || mount.Remote() || mountinfo.RemoteAt(table, string(name[:n]))
}

// StartMayWait reports whether what a path starts from may have to be waited for; from the
// root it may not.
func (r *Resolver) StartMayWait(c Caller, p *Path) bool {
	return p.length > 0 && p.unsafeBytes()[0] != '/' && startMayWait(c)
}

// startMayWait is MayWait for what a relative path starts from, or for the descriptor
// itself, before it is opened: to open a directory of NFS by a link of procfs can mean
// to ask its server. It goes by the name, so MayWait is asked about what is found.
func startMayWait(c Caller) bool {
	link := "/proc/" + strconv.Itoa(c.TID) + "/cwd"
	if c.Dir != unix.AT_FDCWD {
		link = "/proc/" + strconv.Itoa(c.TID) + "/fd/" + strconv.Itoa(c.Dir)
	}
	var name [PathMax]byte
	n, err := unix.Readlink(link, name[:])
	if err != nil || n == 0 || name[0] != '/' {
		return false // nothing to open, or no file
	}
	table, err := readMounts()
	return err != nil || mountinfo.RemoteAt(table, strings.TrimSuffix(string(name[:n]), " (deleted)"))
}

func readMounts() (string, error) {
	text, err := os.ReadFile("/proc/thread-self/mountinfo")
	return string(text), err
}
