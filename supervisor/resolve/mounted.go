package resolve

import (
	"fmt"
	"os"

	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
	"golang.org/x/sys/unix"
)

// statDescriptor is fstat(2) with the mount that the descriptor was reached by; no
// server is asked whether it still holds.
func statDescriptor(fd int, st *unix.Statx_t) error {
	return unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, st)
}

func deviceOf(st *unix.Statx_t) uint64 { return unix.Mkdev(st.Dev_major, st.Dev_minor) }

// mountedInPlace reports whether the mount id, of the same procfs instance, shows
// below the held root the same object that is there without it. The binds by which container
// managers make parts of /proc read-only do; a bind of one file of procfs over another does
// not, so that the name means another file than the table's.
func (p *Procfs) mountedInPlace(id uint64) error {
	table, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return fmt.Errorf("looking for mount %d: %w", id, err)
	}
	root, ok := mountinfo.Find(string(table), p.mount)
	part, found := mountinfo.Find(string(table), id)
	if !ok || !found || root.Root != "/" || part.Deleted || part.Point != root.Point+part.Root {
		return fmt.Errorf("mount %d shows another part of procfs: %w", id, unix.EXDEV)
	}
	return nil
}
