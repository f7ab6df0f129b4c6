package capability

import (
	"errors"
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestMappings finds what gives access to memory among mappings, whose descriptors may be
// closed. Its control are the mappings of this program before it has made one.
func TestMappings(t *testing.T) {
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	defer maps.Close()
	if err := mappings(maps); err != nil {
		t.Errorf("the control: %v", err)
	}
	for line, what := range map[string]string{
		"7f0000000000-7f0000001000 rw-s 00000000 00:0e 1 anon_inode:[io_uring]":      "anon_inode:[io_uring]",
		"7f0000000000-7f0000001000 rw-s 00000000 00:0e 1 anon_inode:[perf_event]":    "anon_inode:[perf_event]",
		"7f0000000000-7f0000001000 rw-s 00000000 00:0e 1 anon_inode:[eventpoll]":     "",
		"7f0000000000-7f0000001000 rw-s 00000000 00:05 4 /dev/null":                  "",
		"7f0000000000-7f0000001000 rw-s 00000000 00:05 4 /tmp/anon_inode:[io_uring]": "",
		"7f0000000000-7f0000001000 rw-p 00000000 00:00 0 ":                           "",
		"7f0000000000-7f0000001000 rw-p 00000000 00:00 0 [stack]":                    "",
	} {
		err := mappings(strings.NewReader(line + "\n"))
		var mapped *MappedError
		if what == "" && err != nil || what != "" && (!errors.As(err, &mapped) || mapped.What != what) {
			t.Errorf("%s: %v", line, err)
		}
	}
	var parameters [120]byte // struct io_uring_params
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&parameters)), 0)
	if errno != 0 {
		t.Logf("no ring of io_uring to map: %v", errno)
		return
	}
	ring, err := unix.Mmap(int(fd), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	unix.Close(int(fd))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(ring)
	if maps, err = os.Open("/proc/self/maps"); err != nil {
		t.Fatal(err)
	}
	defer maps.Close()
	var mapped *MappedError
	if err := mappings(maps); !errors.As(err, &mapped) || mapped.What != "anon_inode:[io_uring]" {
		t.Errorf("a ring whose descriptor is closed: %v", err)
	}
}
