package view

import (
	"fmt"
	"os"
	"strings"

	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
	"golang.org/x/sys/unix"
)

// NewMount makes a file system that is not mounted yet, fsopen(2). The caller closes the
// descriptor.
func NewMount(fstype string, attributes int, options ...[2]string) (int, error) {
	config, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("opening %s: %w", fstype, err)
	}
	defer unix.Close(config)
	for _, o := range append(options, [2]string{"source", "memjail"}) {
		if err := unix.FsconfigSetString(config, o[0], o[1]); err != nil {
			return -1, fmt.Errorf("setting %s of %s: %w", o[0], fstype, err)
		}
	}
	if err := unix.FsconfigCreate(config); err != nil {
		return -1, fmt.Errorf("making a %s: %w", fstype, err)
	}
	return unix.Fsmount(config, unix.FSMOUNT_CLOEXEC, attributes)
}

// CoverRoot puts a mount over the root directory, where no path leads to: everything in it is
// reached from its descriptor until [ReplaceRoot].
func CoverRoot(fd int) error {
	return unix.MoveMount(fd, "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// ReplaceRoot makes a mount that covers the root directory the root of the namespace, and drops
// the old one. The working directory is the new root then.
func ReplaceRoot(fd int) error {
	if err := unix.Fchdir(fd); err != nil {
		return err
	}
	// The old root is mounted over the new one and unmounted there: pivot_root(2).
	if err := unix.PivotRoot(".", "."); err != nil {
		if err == unix.EINVAL && onRootfs() {
			return fmt.Errorf("it is the initramfs, which Linux before 7.0 cannot replace; "+
				"start from a mounted root: %w", err)
		}
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmounting the old one: %w", err)
	}
	return nil
}

// onRootfs reports whether the root directory is the file system that the kernel started
// with. It is in no mount table once another one is mounted over it.
func onRootfs() bool {
	table, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return false
	}
	for m := range mountinfo.Lines(string(table)) {
		if m.FSType == "rootfs" {
			return true
		}
	}
	return false
}

// Below is an absolute path relative to the root directory.
func Below(path string) string {
	if path == "/" {
		return "."
	}
	return strings.TrimPrefix(path, "/")
}

// Clone returns a detached copy of a file, or of a directory with all that is mounted below it.
// The caller closes the descriptor. A link is not followed.
func Clone(dir int, name string) (int, error) {
	const flags = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE | unix.AT_SYMLINK_NOFOLLOW |
		unix.AT_NO_AUTOMOUNT
	return unix.OpenTree(dir, name, flags)
}
