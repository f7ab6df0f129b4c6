package kernel

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestProveProcfs(t *testing.T) {
	if err := ProveOwnProcfs(); err != nil {
		t.Error(err)
	}
	dir, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := ProveProcfs(int(dir.Fd())); !errors.Is(err, unix.ENODEV) {
		t.Errorf("a directory that is no procfs: %v", err)
	}
}

// TestProveProcfsForeign: in a new pid namespace /proc is still that of this one.
func TestProveProcfsForeign(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=procfs")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
	}
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "foreign" {
		t.Errorf("%v: %q", err, out)
	}
}

func procfsRole() {
	err := ProveOwnProcfs()
	if errors.Is(err, ErrForeignProcfs) {
		os.Stdout.WriteString("foreign")
		return
	}
	os.Stdout.WriteString("taken for its own")
}
