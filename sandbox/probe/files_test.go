package probe

import (
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

func TestSpellingsAreOneWord(t *testing.T) {
	for _, a := range Catalogue() {
		if strings.ContainsAny(a.Spelling, "/ *?[") || a.Route == "" || strings.ContainsAny(a.Route, "/ *?[") {
			t.Errorf("%q cannot be asked for by pattern", a.Name())
		}
	}
}

// TestNothingIsPermittedByDefault: the zero values are the default of what Permits
// looks at.
func TestNothingIsPermittedByDefault(t *testing.T) {
	for _, a := range Catalogue() {
		if a.Permits == nil {
			continue
		}
		if why := a.Permits(policy.Policy{}); why != "" {
			t.Errorf("%s is permitted by %s", a.Name(), why)
		}
	}
}

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
			if err := binding(precious)(point); err != nil {
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
	if removeDir(dir); exists(dir)() == "" {
		t.Error("without a mount below, the directory stays")
	}
}

func TestMapsTell(t *testing.T) {
	const maps = "00400000-00401000 r-xp 00000000 fe:00 1 /bin/x\n7f0000000000-7f0000002000 rw-p 00000000 00:00 0\n"
	for address, want := range map[uint64]bool{0x400000: true, 0x401000: false, 0x7f0000001fff: true, 0x1: false} {
		if got := mapsTell([]byte(maps), Victim{RW: address}); got != want {
			t.Errorf("%#x: %t", address, got)
		}
	}
}

// TestFileOffset: the code at the offset in the file is the code in memory.
func TestFileOffset(t *testing.T) {
	offset, err := fileOffset(reflect.ValueOf(heartbeat).Pointer())
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(exe)
	if err != nil {
		t.Fatal(err)
	}
	if offset == 0 || offset >= uint64(info.Size()) {
		t.Errorf("offset %#x of a file of %#x bytes", offset, info.Size())
	}
}

// TestHandedDescriptors: files get the numbers that they were asked for.
func TestHandedDescriptors(t *testing.T) {
	var s Stage
	s.hand(1, 5, os.Stdin)
	s.hand(1, 4, os.Stdout)
	if want := []*os.File{nil, os.Stdout, os.Stdin}; !reflect.DeepEqual(s.inherit[1], want) {
		t.Errorf("%v", s.inherit[1])
	}
}
