package landlock

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount is one line of /proc/PID/mountinfo, proc_pid_mountinfo(5), with the
// octal escapes of its strings undone.
type Mount struct {
	ID, Parent int
	// Major and Minor number the superblock (st_dev of most file systems).
	Major, Minor uint32
	// Root is the directory or file of the superblock that the mount shows:
	// "/", or another path for a bind mount.
	Root string
	// Point is where it is mounted, seen from the reader's root directory.
	Point        string
	FSType       string
	Source       string
	SuperOptions string
	// ReadOnly tells that nothing can be written through this mount.
	ReadOnly bool

	// deleted tells that Root no longer has a name in the superblock.
	deleted bool
}

func (m *Mount) dev() uint64 { return unix.Mkdev(m.Major, m.Minor) }

// MountTable is the mount table of one mount namespace, seen from one root
// directory, at one moment.
type MountTable struct {
	mounts []Mount
	over   map[attachment]int // what is mounted where: index into mounts
	root   int                // index of the mount of "/"; -1 when it has none
}

// attachment is a place in a certain mount: the same path can be a mount point
// in several mounts that are stacked on each other.
type attachment struct {
	parent int // mount ID
	point  string
}

const mountinfoPath = "/proc/self/mountinfo"

// ReadMountTable reads the calling process's own table, /proc/self/mountinfo.
// The kernel hands out the file a page at a time and lets it change in between;
// such a reading is repeated.
func ReadMountTable() (*MountTable, error) {
	var t *MountTable
	const tries = 32
	for range tries {
		text, whole, err := readMountinfo()
		if err != nil {
			return nil, fmt.Errorf("reading the mount table %q: %w", mountinfoPath, err)
		}
		if t, err = parseMountTable(text); err != nil {
			return nil, fmt.Errorf("reading the mount table %q: %w", mountinfoPath, err)
		}
		if whole {
			return t, nil
		}
	}
	return nil, fmt.Errorf("reading the mount table %q: it changed during each of %d readings: %w", mountinfoPath, tries, unix.EAGAIN)
}

// readMountinfo returns the file's text, and whether the table stayed the same
// while it was read: poll(2) tells of changes since the file was opened.
func readMountinfo() (text string, whole bool, err error) {
	fd, err := unix.Open(mountinfoPath, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", false, err
	}
	defer unix.Close(fd)
	buf := make([]byte, 16<<10)
	n := 0
	for {
		if n == len(buf) {
			buf = append(buf, make([]byte, len(buf))...)
		}
		got, err := unix.Read(fd, buf[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return "", false, err
		}
		if got == 0 {
			break
		}
		n += got
	}
	changed, err := mountsChanged(fd, 0)
	return string(buf[:n]), !changed, err
}

// mountsChanged waits for at most timeout milliseconds, -1 for ever, for a
// change of the table since it was last asked on this descriptor of a mountinfo
// file, or since that was opened.
func mountsChanged(fd, timeout int) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}}
	for {
		_, err := unix.Poll(fds, timeout)
		if err == unix.EINTR {
			continue
		}
		return fds[0].Revents&(unix.POLLPRI|unix.POLLERR) != 0, err
	}
}

// ParseMountTable reads the text of a mountinfo file. An empty one is an error:
// no process is without a mount.
func ParseMountTable(r io.Reader) (*MountTable, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	return parseMountTable(string(text))
}

func parseMountTable(text string) (*MountTable, error) {
	t := &MountTable{mounts: make([]Mount, 0, strings.Count(text, "\n")+1)}
	for number := 1; text != ""; number++ {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		m, err := parseMount(line)
		if err != nil {
			return nil, fmt.Errorf("parsing line %d of the mount table: %w", number, err)
		}
		t.mounts = append(t.mounts, m)
	}
	if len(t.mounts) == 0 {
		return nil, fmt.Errorf("parsing the mount table: %w", io.ErrUnexpectedEOF)
	}
	t.link()
	return t, nil
}

// parseMount reads one line. Fields are separated by single spaces and one may
// be empty (the source of a file system mounted with the source "").
func parseMount(line string) (Mount, error) {
	left, right, ok := strings.Cut(line, " - ")
	head := strings.Split(left, " ")
	tail := strings.SplitN(right, " ", 3)
	if !ok || len(head) < 6 || len(tail) < 3 {
		return Mount{}, fmt.Errorf("too few fields in %q", line)
	}
	id, err1 := strconv.Atoi(head[0])
	parent, err2 := strconv.Atoi(head[1])
	majorText, minorText, _ := strings.Cut(head[2], ":")
	major, err3 := strconv.ParseUint(majorText, 10, 32)
	minor, err4 := strconv.ParseUint(minorText, 10, 32)
	for _, err := range []error{err1, err2, err3, err4} {
		if err != nil {
			return Mount{}, fmt.Errorf("reading the numbers of %q: %w", line, err)
		}
	}
	root, deleted := strings.CutSuffix(unescape(head[3]), "//deleted")
	point, _ := strings.CutSuffix(unescape(head[4]), "//deleted")
	return Mount{
		ID: id, Parent: parent, Major: uint32(major), Minor: uint32(minor),
		Root: root, Point: point, deleted: deleted,
		FSType: unescape(tail[0]), Source: unescape(tail[1]), SuperOptions: unescape(tail[2]),
		ReadOnly: hasOption(head[5], "ro") || hasOption(tail[2], "ro"),
	}, nil
}

// unescape undoes the kernel's "\ooo" for space, tab, newline, backslash and '#'.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b = append(b, byte(v))
				i += 3
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

func hasOption(options, name string) bool {
	for option := range strings.SplitSeq(options, ",") {
		if option == name {
			return true
		}
	}
	return false
}

// link finds the root mount and what is mounted where. The last line wins where
// two say the same place.
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
		for i := range t.mounts { // orphans hang below the root
			if at := (attachment{noMount, t.mounts[i].Point}); t.over[at] == i && i != t.root {
				delete(t.over, at)
				t.over[attachment{t.mounts[t.root].ID, at.point}] = i
			}
		}
	}
}

// noMount stands for the mount that holds "/" after a chroot(2) into an ordinary
// directory: it is in no table.
const noMount = -1

// at returns the mount on which an absolute, clean path ends, as the kernel's
// path walk finds it; nil is the unlisted mount under a chroot.
func (t *MountTable) at(path string) *Mount {
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
	for range t.mounts { // a bound, should the table describe a loop
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

// visible tells whether a look-up of the mount's point ends on it: nothing is
// mounted on top of it or of one of its ancestors.
func (t *MountTable) visible(m *Mount) bool { return t.at(m.Point) == m }

// HasRoot reports whether "/" is on a mount of the table; it is not after a chroot(2)
// into a plain directory.
func (t *MountTable) HasRoot() bool { return t.root >= 0 }

// byID finds a mount; nil when there is none.
func (t *MountTable) byID(id int) *Mount {
	for i := range t.mounts {
		if t.mounts[i].ID == id {
			return &t.mounts[i]
		}
	}
	return nil
}

// place is a directory or file by superblock: two mounts that show the same
// place show the same inode.
type place struct {
	dev  uint64
	path string
}

// locate tells which place a path names. ok is false where the table cannot say:
// below a chroot's own root, or below a bind whose source was deleted.
func (t *MountTable) locate(path string) (p place, ok bool) {
	m := t.at(path)
	if m == nil || m.deleted {
		return place{}, false
	}
	return place{m.dev(), join(m.Root, relative(m.Point, path))}, true
}

// views lists the paths, in the order of the table, at which a place or a part
// of it can be written: through every visible, writable mount that shows it.
func (t *MountTable) views(p place) []string {
	var paths []string
	for i := range t.mounts {
		m := &t.mounts[i]
		if m.dev() != p.dev || m.ReadOnly || m.deleted {
			continue
		}
		path := m.Point
		if !within(p.path, m.Root) {
			if !within(m.Root, p.path) {
				continue
			}
			path = join(m.Point, relative(m.Root, p.path))
		}
		if t.at(path) == m {
			paths = append(paths, path)
		}
	}
	return paths
}

// Below lists the visible mount points in a directory, which is not one of them.
func (t *MountTable) Below(dir string) []string {
	var points []string
	for i := range t.mounts {
		if m := &t.mounts[i]; m.Point != dir && within(dir, m.Point) && t.visible(m) {
			points = append(points, m.Point)
		}
	}
	return points
}

// Special tells whether a file system of this type (mountinfo's name for it) is
// one that a sandbox is never granted: those through which the kernel shows
// processes, traces them or is configured.
func Special(fstype string) bool {
	switch fstype {
	case "proc", "tracefs", "debugfs", "configfs", "bpf", "securityfs", "binfmt_misc", "xenfs", "spufs":
		return true
	}
	return false
}

// specialMagic says the same of statfs(2)'s f_type, linux/magic.h.
func specialMagic(fstype uint32) bool {
	const xenfs, spufs = 0xabba1974, 0x23c9b64e
	switch fstype {
	case unix.PROC_SUPER_MAGIC, unix.TRACEFS_MAGIC, unix.DEBUGFS_MAGIC, configfsMagic, unix.BPF_FS_MAGIC,
		unix.SECURITYFS_MAGIC, unix.BINFMTFS_MAGIC, xenfs, spufs:
		return true
	}
	return false
}

// configfsMagic is CONFIGFS_MAGIC of fs/configfs/mount.c; no header has it.
const configfsMagic = 0x62656570

// fixedPlaces are where special file systems are mounted by custom. They are
// closed whether something is mounted there now or not: a tracing tool started
// outside later mounts what it needs.
var fixedPlaces = []string{
	"/proc",
	"/sys/kernel/debug", "/sys/kernel/tracing", "/sys/kernel/config", "/sys/kernel/security",
	"/sys/fs/bpf",
}

// atFixedPlace tells whether path is a fixed place or below one.
func atFixedPlace(path string) bool {
	for _, fixed := range fixedPlaces {
		if within(fixed, path) {
			return true
		}
	}
	return false
}

// HiddenMounts lists the mounts of special file systems outside their fixed
// places: those that cost the sandbox something, because the directories above
// them have to be carved, and that a private mount namespace could cover.
func HiddenMounts(t *MountTable) []Mount {
	var found []Mount
	for i := range t.mounts {
		m := &t.mounts[i]
		if Special(m.FSType) && !atFixedPlace(m.Point) && t.visible(m) {
			found = append(found, *m)
		}
	}
	return found
}

// within tells whether path is dir or below it. Both are clean and absolute.
func within(dir, path string) bool {
	if dir == "/" {
		return true
	}
	return strings.HasPrefix(path, dir) && (len(path) == len(dir) || path[len(dir)] == '/')
}

// relative is the rest of path below dir, without a leading slash.
func relative(dir, path string) string {
	if dir == "/" {
		dir = ""
	}
	return strings.TrimPrefix(path[len(dir):], "/")
}

func join(dir, rest string) string {
	switch {
	case rest == "":
		return dir
	case dir == "/":
		return "/" + rest
	}
	return dir + "/" + rest
}

// parentOf is the directory of a clean absolute path; that of "/" is "/".
func parentOf(path string) string {
	return path[:max(1, strings.LastIndexByte(path, '/'))]
}
