package pin

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/memjail/memjail/policy/abspath"
	"github.com/memjail/memjail/sandbox/view"
	"golang.org/x/sys/unix"
)

// tree is the private file system while it is built. It is mounted over the root
// directory, where no path reaches it: everything in it is reached from fd.
type tree struct {
	fd int
}

// mountAttributes are those of all mounts that are made here: no file in a sandbox gives
// rights, and none is a device.
const mountAttributes = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV

func newTree() (*tree, error) {
	fd, err := view.NewMount("tmpfs", mountAttributes, [2]string{"mode", "0755"})
	if err != nil {
		return nil, fmt.Errorf("making the file system of the copies: %w", err)
	}
	t := &tree{fd: fd}
	if err := view.CoverRoot(fd); err != nil {
		t.close()
		return nil, fmt.Errorf("mounting the file system of the copies: %w", err)
	}
	return t, nil
}

func (t *tree) close() { unix.Close(t.fd) }

// open opens a copy for reading.
func (t *tree) open(path string) (*os.File, error) {
	fd, err := unix.Openat(t.fd, view.Below(path), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// fill makes the directories, the symbolic links and the copies.
func (t *tree) fill(l *layout) error {
	for _, dir := range l.sortedDirs() {
		if err := t.directory(dir); err != nil {
			return fmt.Errorf("making the directory %q for copies: %w", dir, err)
		}
	}
	for path, target := range l.links {
		if err := unix.Symlinkat(target, t.fd, view.Below(path)); err != nil {
			return fmt.Errorf("copying the symbolic link %q: %w", path, err)
		}
	}
	for _, file := range l.sortedFiles() {
		if err := t.copy(file); err != nil {
			return fmt.Errorf("copying %q: %w", file, err)
		}
	}
	return nil
}

// directory makes a directory with the owner and mode of the original.
func (t *tree) directory(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	name := view.Below(path)
	if path != "/" {
		if err := unix.Mkdirat(t.fd, name, 0o700); err != nil {
			return err
		}
	}
	if err := unix.Fchownat(t.fd, name, int(st.Uid), int(st.Gid), 0); err != nil {
		return err
	}
	return unix.Fchmodat(t.fd, name, st.Mode&0o7777, 0)
}

// copy copies one file. It fails if the file changes meanwhile.
func (t *tree) copy(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	from := os.NewFile(uintptr(fd), path)
	defer from.Close()
	var before, after unix.Stat_t
	if err := unix.Fstat(fd, &before); err != nil {
		return err
	}
	if before.Mode&unix.S_IFMT != unix.S_IFREG {
		return ErrChanged
	}
	target, err := unix.Openat(t.fd, view.Below(path), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	to := os.NewFile(uintptr(target), path)
	defer to.Close()
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	if err := unix.Fstat(fd, &after); err != nil {
		return err
	}
	if before.Size != after.Size || before.Mtim != after.Mtim || before.Ctim != after.Ctim {
		return ErrChanged
	}
	return t.likeOriginal(target, path, &before)
}

func (t *tree) likeOriginal(fd int, path string, st *unix.Stat_t) error {
	if err := unix.Fchown(fd, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, st.Mode&0o7777); err != nil {
		return err
	}
	return unix.UtimesNanoAt(t.fd, view.Below(path), []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// manyEntries is the number of entries above which a directory of programs or libraries
// is shown through an overlay: binding each entry would take longer.
const manyEntries = 64

// surround shows the other contents of the directories that contain copies.
func (t *tree) surround(l *layout, o Options) error {
	var overlaid []string
	for _, dir := range l.sortedDirs() {
		if slices.ContainsFunc(overlaid, func(top string) bool { return abspath.Within(top, dir) }) {
			continue
		}
		list, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("listing %q: %w", dir, err)
		}
		if len(list) > manyEntries &&
			slices.ContainsFunc(o.Code, func(code string) bool { return abspath.Within(code, dir) }) {
			mounts := o.Mounts.Below(dir)
			// A mount on a directory above a copy would hide the copy.
			if !slices.ContainsFunc(mounts, l.has) && t.overlay(dir) == nil {
				if err := t.bindMounts(mounts); err != nil {
					return err
				}
				overlaid = append(overlaid, dir)
				continue
			}
		}
		if err := t.bindEntries(dir, list, l); err != nil {
			return err
		}
	}
	return nil
}

// overlay shows a directory read-only, with the copies on top.
func (t *tree) overlay(dir string) error {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	upper, err := unix.Openat(t.fd, view.Below(dir), flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(upper)
	lower, err := unix.Open(dir, flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(lower)
	// Paths of descriptors contain no characters that must be escaped.
	layers := "/proc/thread-self/fd/" + strconv.Itoa(upper) + ":/proc/thread-self/fd/" + strconv.Itoa(lower)
	fd, err := view.NewMount("overlay", mountAttributes|unix.MOUNT_ATTR_RDONLY, [2]string{"lowerdir", layers})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.MoveMount(fd, "", t.fd, view.Below(dir), unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// bindMounts shows the mounts below an overlaid directory, which an overlay does not show.
func (t *tree) bindMounts(points []string) error {
	last := ""
	for _, point := range slices.Sorted(slices.Values(points)) {
		if last != "" && abspath.Within(last, point) {
			continue // the mount above it was bound recursively
		}
		if err := t.bind(unix.AT_FDCWD, point, point); err != nil {
			return fmt.Errorf("showing what is mounted on %q: %w", point, err)
		}
		last = point
	}
	return nil
}

// bindEntries binds the other entries of a directory, one by one.
func (t *tree) bindEntries(dir string, list []os.DirEntry, l *layout) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening %q: %w", dir, err)
	}
	defer unix.Close(fd)
	for _, e := range list {
		path := filepath.Join(dir, e.Name())
		if l.has(path) {
			continue
		}
		if err := t.bindEntry(fd, e, path); err != nil && !errors.Is(err, unix.ENOENT) { // it was removed meanwhile
			return fmt.Errorf("showing %q: %w", path, err)
		}
	}
	return nil
}

func (t *tree) bindEntry(dir int, e os.DirEntry, path string) error {
	switch {
	case e.Type()&os.ModeSymlink != 0:
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		return unix.Symlinkat(target, t.fd, view.Below(path))
	case e.IsDir():
		if err := unix.Mkdirat(t.fd, view.Below(path), 0o700); err != nil {
			return err
		}
	default:
		fd, err := unix.Openat(t.fd, view.Below(path), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		unix.Close(fd)
	}
	return t.bind(dir, e.Name(), path)
}

// bind shows a file or a directory with all that is mounted below it.
func (t *tree) bind(dir int, name, path string) error {
	fd, err := view.Clone(dir, name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.MoveMount(fd, "", t.fd, view.Below(path), unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// enter makes the tree the root of the mount namespace, unmounts the old root, and makes
// the tree read-only.
func (t *tree) enter() error {
	wd, err := unix.Getwd()
	if err != nil {
		return fmt.Errorf("looking for the working directory: %w", err)
	}
	if err := view.ReplaceRoot(t.fd); err != nil {
		return fmt.Errorf("replacing the root directory by the copies: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("making the copies read-only: %w", err)
	}
	if err := unix.Chdir(wd); err != nil {
		return fmt.Errorf("returning to the working directory %q: %w", wd, err)
	}
	return nil
}
