package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// TestMessageQueues: mq_open(2) opens files of a mount that no path leads to. A queue is
// made as outside, wherever its file system is mounted, and as root without that.
func TestMessageQueues(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	const program = `import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
try: libc.mq_open
except AttributeError: libc = ctypes.CDLL("librt.so.1", use_errno=True)
q = libc.mq_open(b"/memjail-test", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600, None)
print("made" if q >= 0 else os.strerror(ctypes.get_errno()))
libc.mq_unlink(b"/memjail-test")`
	const script = `umount -q /dev/mqueue 2>/dev/null
[ "$1" = nowhere ] || mount -t mqueue none /mnt || exit
shift; exec "$@"`
	user := []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"}
	for _, test := range []struct {
		where string
		as    []string
	}{{"nowhere", nil}, {"elsewhere", nil}, {"elsewhere", user}} {
		for _, launcher := range [][]string{nil, {memjailPath(t), "run", "-q", "--"}} {
			t.Run(fmt.Sprint(test.where, len(test.as), len(launcher)), func(t *testing.T) {
				args := append([]string{"--mount", "--ipc", "sh", "-c", script, "sh", test.where}, test.as...)
				args = append(append(args, launcher...), "/usr/bin/python3", "-c", program)
				cmd := exec.Command("unshare", args...)
				cmd.Dir = "/"
				if out, err := cmd.CombinedOutput(); err != nil || string(out) != "made\n" {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
	}
}
