package session

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/landlock"
	"golang.org/x/sys/unix"
)

// TestMountedWhileStarting: a procfs that was mounted after the rules were made, and before
// a detached supervisor began to watch, ends the sandbox. One that was there before is none
// of its business.
func TestMountedWhileStarting(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	if os.Getenv("INSIDE") == "" {
		cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), "INSIDE=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	before, err := landlock.ReadMountTable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("proc", dir, "proc", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	after, err := landlock.ReadMountTable()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		made  *landlock.MountTable // what the rules were made for
		kills bool
	}{"mounted since": {before, true}, "control, mounted before": {after, false}} {
		cmd := exec.Command("/bin/sleep", "60")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		config := successorConfig{PID: cmd.Process.Pid, Mounts: landlock.KnownMounts(test.made)}
		config.Policy.OnMount = policy.OnMountEnd
		watchMountsDetached(config, nil, Silent{}, nil)
		killed := false
		select {
		case <-ended:
			killed = true
		case <-time.After(watchDelay + 500*time.Millisecond):
			cmd.Process.Kill()
			<-ended
		}
		if killed != test.kills {
			t.Errorf("%s: killed is %t", name, killed)
		}
	}
}
