package probe

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRemoveDirKeepsMounts: what is mounted below a directory of the suite must
// survive whatever the suite removes.
func TestRemoveDirKeepsMounts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	precious, dir := t.TempDir(), t.TempDir()
	file := filepath.Join(precious, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with its namespace
		result <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
				return err
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				return err
			}
			point := filepath.Join(dir, "below", "point")
			if err := os.MkdirAll(point, 0o700); err != nil {
				return err
			}
			if err := unix.Mount(precious, point, "", unix.MS_BIND, ""); err != nil {
				return err
			}
			removeDir(dir)
			return unix.Unmount(point, unix.MNT_DETACH)
		}()
	}()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Fatalf("what was mounted below is gone: %v", err)
	}
	removeDir(dir)
	if _, err := os.Stat(dir); err == nil {
		t.Error("without a mount below, the directory stays")
	}
}

// TestInherit: files get the numbers that they were asked for.
func TestInherit(t *testing.T) {
	var s Setup
	if err := errors.Join(s.Inherit(1, 5, os.Stdin), s.Inherit(1, 4, os.Stdout)); err != nil {
		t.Error(err)
	}
	if err := s.Inherit(1, 5, os.Stderr); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a number that is taken: %v", err)
	}
	if want := []*os.File{nil, os.Stdout, os.Stdin}; !reflect.DeepEqual(s.inherit[1], want) {
		t.Errorf("%v", s.inherit[1])
	}
}
