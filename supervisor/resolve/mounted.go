package resolve

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// statDescriptor is fstat(2) with the mount that the descriptor was reached by; no
// server is asked whether it still holds.
func statDescriptor(fd int, st *unix.Statx_t) error {
	return unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, st)
}

func deviceOf(st *unix.Statx_t) uint64 { return unix.Mkdev(st.Dev_major, st.Dev_minor) }

// mountedInPlace says whether the mount id, of the same procfs instance, shows
// below the held root what stands there anyway. So do the binds by which container
// managers make parts of /proc read-only; a bind of one file of procfs over
// another does not: then the name means something else than the table says.
func (p *Procfs) mountedInPlace(id uint64) error {
	table, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return fmt.Errorf("looking for mount %d: %w", id, err)
	}
	root, ok := findMount(string(table), p.mount)
	part, found := findMount(string(table), id)
	if !ok || !found || root.source != "/" || part.point != root.point+part.source {
		return fmt.Errorf("mount %d shows another part of procfs: %w", id, unix.EXDEV)
	}
	return nil
}

// mountLine is what counts of a line of /proc/PID/mountinfo (proc(5)): source is
// the part of the file system that is shown at point.
type mountLine struct{ source, point string }

func findMount(table string, id uint64) (mountLine, bool) {
	for line := range strings.Lines(table) {
		// 36 35 98:0 /source /point ...
		fields := strings.Fields(line)
		if len(fields) > 4 && fields[0] == strconv.FormatUint(id, 10) {
			return mountLine{source: fields[3], point: fields[4]}, true
		}
	}
	return mountLine{}, false
}
