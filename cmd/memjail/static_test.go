package main_test

import (
	"bufio"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestBinaryIsStatic looks at the file: no interpreter, no libraries.
func TestBinaryIsStatic(t *testing.T) {
	f, err := elf.Open(staticBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("has a %v segment: the program is not static", p.Type)
		}
	}
}

// TestBinaryMapsOnlyItself looks at the processes that stay outside the
// sandbox while CMD runs. A file that they map and that something inside can
// write would be a way into them; so they map no file but their own program.
func TestBinaryMapsOnlyItself(t *testing.T) {
	binary := staticBinary(t)
	memjail := startReady(t, binary, "run", "--", "/bin/sh", "-c", "echo ready; read line")
	seen := 0
	for _, pid := range descendants(t, memjail) {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil || exe != binary {
			continue
		}
		seen++
		files, err := mappedFiles(pid)
		if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
			t.Skipf("process %d of memjail is closed to other processes of its own user: run as root", pid)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if file != binary {
				t.Errorf("process %d of memjail maps %s", pid, file)
			}
		}
	}
	if seen == 0 {
		t.Error("no process of memjail was looked at")
	}
}

// TestBinaryMapsOnlyItselfControl shows that the look above would notice: an
// ordinary dynamic program maps its libraries.
func TestBinaryMapsOnlyItselfControl(t *testing.T) {
	shell, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	files, err := mappedFiles(startReady(t, shell, "-c", "echo ready; read line"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(files, func(f string) bool { return f != shell }) {
		if elfHasInterpreter(t, shell) {
			t.Errorf("%s is dynamic, and yet only %q was found mapped", shell, files)
		} else {
			t.Skipf("%s is static on this machine", shell)
		}
	}
}

// staticBinary builds memjail as the Makefile does and returns its path.
func staticBinary(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "memjail")
	build := exec.Command("make", "-s", "-C", "../..", "build", "BIN="+binary)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building memjail: %v\n%s", err, out)
	}
	return binary
}

// startReady starts a program that prints a line when it is at work and ends
// when its standard input does, which the end of the test sees to.
func startReady(t *testing.T, name string, args ...string) (pid int) {
	t.Helper()
	cmd := exec.Command(name, args...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
		watchdog.Stop()
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatalf("%s did not get ready: read %q: %v", name, line, err)
	}
	return cmd.Process.Pid
}

// descendants lists a process and everything below it.
func descendants(t *testing.T, pid int) []int {
	t.Helper()
	family := []int{pid}
	for i := 0; i < len(family); i++ {
		lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", family[i]))
		if err != nil {
			t.Fatal(err)
		}
		for _, list := range lists {
			text, err := os.ReadFile(list)
			if err != nil {
				continue // a thread that has ended meanwhile
			}
			for _, field := range strings.Fields(string(text)) {
				var child int
				if _, err := fmt.Sscan(field, &child); err == nil {
					family = append(family, child)
				}
			}
		}
	}
	return family
}

// mappedFiles lists the files that a process has mapped, each once.
func mappedFiles(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	var files []string
	for line := range strings.Lines(string(text)) {
		// address perms offset dev inode name; the kernel's own areas have inode 0.
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[4] == "0" {
			continue
		}
		if name := strings.Join(fields[5:], " "); !slices.Contains(files, name) {
			files = append(files, name)
		}
	}
	return files, nil
}

func elfHasInterpreter(t *testing.T, name string) bool {
	t.Helper()
	f, err := elf.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}
