package resolve

import (
	"errors"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// TestStepwise: without openat2 the same names are opened, and the same refused.
func TestStepwise(t *testing.T) {
	procfs, err := OpenProcfs()
	if err != nil {
		t.Fatal(err)
	}
	defer procfs.Close()
	self, root := strconv.Itoa(os.Getpid()), int(procfs.root.Fd())
	for name, want := range map[string]error{
		self + "/status": nil, self + "/task/" + self + "/stat": nil, "sys/kernel/ostype": nil, "meminfo": nil,
		"self/status": unix.ENOTDIR, self + "/root/etc": unix.ENOTDIR, self + "/exe": unix.ELOOP, "self": unix.ELOOP,
		self + "/../meminfo": unix.EXDEV, "./meminfo": unix.EXDEV, self + "//status": unix.EXDEV,
		"no-such": unix.ENOENT,
	} {
		fd, err := openStepwise(root, name, unix.O_RDONLY)
		if !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		other, control := openPlain(root, name, unix.O_RDONLY)
		if (err == nil) != (control == nil) && want != unix.EXDEV {
			t.Errorf("%s: %v, and by openat2 %v", name, err, control)
		}
		for _, fd := range []int{fd, other} {
			if fd >= 0 {
				unix.Close(fd)
			}
		}
	}
}
