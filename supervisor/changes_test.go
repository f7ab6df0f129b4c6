package supervisor

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// manyCallers is more than the supervisor has threads for at first.
const manyCallers = 2*slowLimit + 20

// TestManyChanges: changes of metadata that the supervisor makes, and opens that it
// grants, do not fail, and do not
// wait for each other, because there are many, or a file system with a server that does
// not answer, or whose server is in the sandbox itself.
func TestManyChanges(t *testing.T) {
	if !insideWithFUSE(t) {
		return
	}
	dir := t.TempDir()
	memjail := build(t, filepath.Join(dir, "memjail"), "../cmd/memjail", runtime.GOARCH, "-ldflags=-E memjail_entry")
	changes := build(t, filepath.Join(dir, "changes"), "./testdata/changes", runtime.GOARCH)
	local, remote := filepath.Join(dir, "local"), filepath.Join(dir, "remote")
	if err := os.Mkdir(remote, 0o755); err != nil {
		t.Fatal(err)
	}
	fillDirectory(t, local)
	inside := []string{memjail, "run", "-q", "--allow", "metadata=granted", "--device", "/dev/fuse",
		"--keep-fd", "3", "--rox", "/usr", "--rox", "/lib", "--rox", "/lib64", "--rwx", dir, "--"}
	for _, launcher := range []struct {
		name string
		argv []string
	}{{"control", nil}, {"inside", inside}} {
		t.Run(launcher.name, func(t *testing.T) {
			t.Run("a server that does not answer", func(t *testing.T) {
				changesWhileStuck(t, launcher.argv, changes, local, remote)
			})
			t.Run("a server that changes files itself", func(t *testing.T) {
				changesServed(t, launcher.argv, changes, local, remote)
			})
		})
	}
}

func fillDirectory(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range manyCallers {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/proc/self/stat", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
}

// changesWhileStuck has as many threads change files that a server never finds, and
// meanwhile others those of a local file system.
func changesWhileStuck(t *testing.T, launcher []string, changes, local, remote string) {
	t.Helper()
	server := mountStuck(t, remote)
	script := fmt.Sprintf("'%[1]s' '%[2]s/NUMBER' %[4]d 1 & sleep 0.5; '%[1]s' '%[3]s/NUMBER' %[4]d 20; "+
		"cd '%[3]s'; '%[1]s' NUMBER %[4]d 20; '%[1]s' open link %[4]d 20; wait",
		changes, remote, local, manyCallers)
	argv := append(launcher[:len(launcher):len(launcher)], "/usr/bin/dash", "-c", script)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{os.Stdin}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer stop.Stop()
	lines := bufio.NewScanner(out)
	for _, what := range []string{"changed by absolute paths", "changed by relative paths",
		"opened through a link to procfs"} {
		if lines.Scan(); lines.Text() != "0 failed <nil>" {
			t.Errorf("local files, %s, with a server that does not answer: %q", what, lines.Text())
		}
	}
	within(t, 4*slowDeadline, "the server is asked for all", func() bool {
		return server.ours.Load()+server.targets.Load() == manyCallers
	})
	server.abort()
	want := fmt.Sprintf("%d failed %v", manyCallers, unix.ENOTCONN)
	if lines.Scan(); lines.Text() != want && lines.Text() != fmt.Sprintf("%d failed %v", manyCallers,
		unix.ECONNABORTED) {
		t.Errorf("the server's: %q, want %q", lines.Text(), want)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// changesServed has the file system served by the program that changes its root.
func changesServed(t *testing.T, launcher []string, changes, local, remote string) {
	t.Helper()
	device, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(device), "/dev/fuse")
	defer file.Close()
	if err := unix.Mount("served", remote, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0",
		device)); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(remote, unix.MNT_FORCE|unix.MNT_DETACH)
	argv := append(launcher[:len(launcher):len(launcher)], changes, "serve", filepath.Join(local, "0"), remote,
		strconv.Itoa(manyCallers), "3")
	cmd := exec.Command("timeout", append([]string{"-s", "KILL", "60"}, argv...)...)
	cmd.ExtraFiles = []*os.File{file}
	if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "0 failed <nil>" {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestChangesOfUnusualThreads: what a thread has open for writing may be changed, whatever
// table it has, and whether the main thread is there or not.
func TestChangesOfUnusualThreads(t *testing.T) {
	dir := t.TempDir()
	memjail := build(t, filepath.Join(dir, "memjail"), "../cmd/memjail", runtime.GOARCH, "-ldflags=-E memjail_entry")
	changes := build(t, filepath.Join(dir, "changes"), "./testdata/changes", runtime.GOARCH)
	const want = "own table <nil>\nno main thread <nil>\n"
	inside := []string{memjail, "run", "-q", "--allow", "metadata=granted", "--rwx", dir, "--"}
	for name, launcher := range map[string][]string{"control": nil, "inside": inside} {
		argv := append([]string{"-s", "KILL", "20"}, append(launcher, changes, "unusual", filepath.Join(dir, "new"))...)
		if out, err := exec.Command("timeout", argv...).CombinedOutput(); err != nil || string(out) != want {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
