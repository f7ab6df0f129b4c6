package main_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestBoundDevices: in a container /dev is a file system of its own, in which nodes
// are bound over empty files. What is on the list of devices works there, and what
// is not does not.
func TestBoundDevices(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	const script = `set -e
mkdir dev; mount -t tmpfs none dev
for node in null zero kvm; do touch dev/$node; [ ! -e /dev/$node ] || mount --bind /dev/$node dev/$node; done
mount --rbind dev /dev
$1 sh -c "echo x >/dev/null && head -c 3 /dev/zero | wc -c; (: </dev/kvm) 2>/dev/null && echo kvm; exit 0"`
	kvm := "kvm\n"
	if _, err := os.Stat("/dev/kvm"); err != nil {
		kvm = ""
	}
	for _, test := range []struct{ launcher, want string }{{"env", "3\n" + kvm},
		{memjailPath(t) + " run -q --", "3\n"}} {
		cmd := exec.Command("unshare", "-m", "--propagation", "private", "sh", "-c",
			strings.Replace(script, "$1", test.launcher, 1))
		cmd.Dir = t.TempDir()
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != test.want {
			t.Errorf("%s: %v\n%s, want %q", test.launcher, err, out, test.want)
		}
	}
}
