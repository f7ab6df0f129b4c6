package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Tests on stock Debian kernels, which testdata/kernels boots in qemu. A few of them are part
// of every run of the tests; MEMJAIL_KERNELS=all (`make kernels`) runs all.

// guest is one boot.
type guest struct {
	kernel string            // 5.10, 6.1, 6.12, 6.12-rt, newest
	append string            // for the kernel's command line
	files  map[string]string // name in the guest → name here
	cpus   int
	memory int // in MiB
	limit  time.Duration
	// instructions has the guest's clock count instructions.
	instructions bool
	// always boots it also without MEMJAIL_KERNELS=all.
	always bool
}

// buildKernels builds testdata/kernels.
var buildKernels = sync.OnceValues(func() (string, error) {
	dir, err := e2eDir()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "kernels")
	build := exec.Command("go", "build", "-o", bin, "./testdata/kernels")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building testdata/kernels: %w\n%s", err, out)
	}
	return bin, nil
})

// wanted reports whether this boot is part of this run of the tests.
func (g guest) wanted() bool { return g.always || os.Getenv("MEMJAIL_KERNELS") == "all" }

// boot runs a command on the kernel and returns its output and status. If this machine
// cannot have the kernel or qemu, the test is skipped with the reason.
func (g guest) boot(t *testing.T, command ...string) (string, int) {
	t.Helper()
	kernels, err := buildKernels()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"boot", "--kernel", g.kernel, "--append", g.append,
		"--cpus", fmt.Sprint(max(g.cpus, 1)), "--memory", fmt.Sprint(max(g.memory, 512)),
		"--timeout", max(g.limit, 3*time.Minute).String()}
	if g.instructions {
		args = append(args, "--instructions")
	}
	for inGuest, here := range g.files {
		args = append(args, "--file", here+":"+inGuest)
	}
	cmd := exec.Command(kernels, append(args, command...)...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return out.String(), 0
	case !errors.As(err, &exit) || exit.ExitCode() == 125 || exit.ExitCode() == 124:
		t.Fatalf("booting %s %s: %v\n%s%s", g.kernel, g.append, err, &complaint, &out)
	case exit.ExitCode() == 77:
		t.Skipf("this machine cannot boot kernel %s: %s", g.kernel, &complaint)
	}
	return out.String(), exit.ExitCode()
}

// kernelFile returns the absolute name of a file of testdata/kernels.
func kernelFile(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "testdata", "kernels", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// memjailFor returns the program for the architecture of a kernel.
func memjailFor(t *testing.T, kernel string) string {
	t.Helper()
	if !strings.HasSuffix(kernel, "-arm64") {
		return memjailPath(t)
	}
	bin := filepath.Join(t.TempDir(), "memjail")
	build := exec.Command("make", "-s", "-C", "../..", "build", "BIN="+bin)
	build.Env = append(os.Environ(), "GOARCH=arm64")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building memjail for arm64: %v\n%s", err, out)
	}
	return bin
}

// TestKernels holds the promise on kernels other than this machine's: where one can
// keep it memory is closed, and where it cannot CMD does not start.
func TestKernels(t *testing.T) {
	t.Parallel()
	const noLandlock = "the landlock domain, without which no file of /proc can be closed"
	tests := []struct {
		name   string
		guest  guest
		starts bool
		says   string // a complaint, or nothing
	}{
		{"6.1", guest{kernel: "6.1", always: true}, true, ""},
		{"6.12", guest{kernel: "6.12"}, true, ""},
		{"newest", guest{kernel: "newest", always: true}, true, ""},
		{"arm64", guest{kernel: arm64Kernel}, true, ""},
		{"5.10 has no Landlock", guest{kernel: "5.10", always: true}, false, noLandlock},
		{"Landlock left out at boot", guest{kernel: "6.1", append: "lsm=lockdown,yama,apparmor"}, false, noLandlock},
	}
	for _, test := range tests {
		if !test.guest.wanted() {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.guest.files = map[string]string{
				"/usr/local/bin/memjail": memjailFor(t, test.guest.kernel), "/basics.sh": kernelFile(t, "basics.sh")}
			out, _ := test.guest.boot(t, "sh", "/basics.sh")
			kernel, outcome := test.guest.kernel, "closed"
			if !test.starts {
				outcome = "CMD does not start"
			}
			if test.guest.append == "" {
				record(t, rowBasics, kernel, outcome)
			}
			want := []string{"control: open"}
			for _, who := range []string{"root", "user"} {
				for _, command := range []string{"run", "exec"} {
					prefix := who + " " + command + ": "
					if test.starts {
						want = append(want, prefix+"memory status 1\nName: sh\n"+prefix+"status 3\n")
					} else {
						want = append(want, prefix+"memory status 125\n"+prefix+"status 125\n")
					}
				}
			}
			for _, w := range append(want, test.says) {
				if !strings.Contains(out, w) {
					t.Errorf("missing %q in\n%s", w, out)
				}
			}
		})
	}
}

// TestKernelPackages runs the tests of the packages that make system calls of their own, and
// have assembly, on another architecture.
func TestKernelPackages(t *testing.T) {
	if !(guest{}).wanted() {
		return
	}
	g := guest{kernel: arm64Kernel, memory: 2000, limit: 20 * time.Minute, files: map[string]string{}}
	var script strings.Builder
	script.WriteString("cd /tmp\n")
	packages := []string{"sandbox/kernel", "sandbox/limits", "sandbox/session", "sandbox/starter", "supervisor",
		"supervisor/procmem", "supervisor/resolve"}
	for _, name := range packages {
		file := "/tests/" + strings.ReplaceAll(name, "/", "-")
		g.files[file] = filepath.Join(t.TempDir(), "test")
		build := exec.Command("go", "test", "-c", "-o", g.files[file], "./"+name)
		build.Dir = filepath.Join("..", "..")
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=arm64")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("building the tests of %s: %v\n%s", name, err, out)
		}
		// Counting allocations takes thousands of calls, which emulation makes too slow.
		fmt.Fprintf(&script, "%s -test.v -test.skip Allocations -test.timeout 8m; echo \"%s: $?\"\n", file, name)
	}
	record(t, rowPackages, g.kernel, fmt.Sprintf("%d of %d pass", len(packages), len(packages)))
	out, _ := g.boot(t, "sh", "-c", script.String())
	for _, name := range packages {
		if !strings.Contains(out, "\n"+name+": 0\n") {
			t.Errorf("the tests of %s fail:\n%s", name, out)
		}
	}
}

// TestKernelPorts: the newest kernel judges ports as the scenarios of package landlock
// say, UDP included, which this machine's kernel may know nothing about.
func TestKernelPorts(t *testing.T) {
	t.Parallel()
	bin := filepath.Join(t.TempDir(), "landlock.test")
	build := exec.Command("go", "test", "-c", "-o", bin, "./sandbox/landlock")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the tests: %v\n%s", err, out)
	}
	g := guest{kernel: "newest", files: map[string]string{"/landlock.test": bin,
		"/usr/local/bin/memjail": memjailPath(t)}}
	const run = `cd /tmp && /landlock.test -test.v -test.run 'TestScenarios/(TCP|no_TCP|UDP|a_bound_UDP)'
		memjail run --connect-udp 53 -- true; echo "starts: $?"`
	record(t, rowPorts, "newest", "held")
	out, _ := g.boot(t, "sh", "-c", run)
	for _, want := range []string{"PASS: TestScenarios/TCP_ports", "PASS: TestScenarios/no_TCP_ports",
		"PASS: TestScenarios/UDP_ports",
		"PASS: TestScenarios/a_bound_UDP_port", "\nPASS", "starts: 0"} {
		if !strings.Contains(out, want) {
			t.Errorf("missing %q in\n%s", want, out)
		}
	}
}

// TestYama looks at an ordinary user's /proc under Yama: a job that is stopped twice, what a
// command leaves behind, and a scope that cannot be looked up, so that only the supervisor
// notices that it can read nothing. Every kind of refusal is said once. The controls are
// scope 0, and run under scope 1.
func TestYama(t *testing.T) {
	t.Parallel()
	g := guest{kernel: "6.12", append: "lsm=landlock,yama", always: true, files: map[string]string{
		"/usr/local/bin/memjail": memjailPath(t), "/yama.sh": kernelFile(t, "yama.sh")}}
	record(t, rowYama, "6.12", "said")
	out, _ := g.boot(t, "sh", "/yama.sh")
	for _, w := range []string{"scope 0 first granted", "scope 0 third granted", "scope 0 later granted",
		"hidden 1 run granted"} {
		if !strings.Contains(out, w) {
			t.Fatalf("control: missing %q in\n%s", w, out)
		}
	}
	const lost = "from now on no file of /proc is granted"
	for said, times := range map[string]int{
		"scope 0 says": 0, "scope 1 says": 0, "waited for": 0, "still there": 0, "outlives": 0,
		"scope 1 first granted": 1, "scope 1 second granted": 1, "scope 1 third granted": 1,
		"scope 1: stopped twice, status 7": 1,
		"scope 1 left granted":             1, "scope 1 later granted": 1,
		`scope 1 status: {"who":"command","exit":5}`: 1,
		"scope 1 TERM": 1, "scope 1 USR1": 1, "scope 1: ended with 137": 1,
		"limited says: memjail: warning: " + lost: 1, "warning: " + lost: 2, "limited granted": 0,
		"hidden 1 exec says: " + nothingGranted + ": memjail cannot read": 1, "hidden 1 exec granted": 0,
		"hidden 2 run says: " + nothingGranted + ": memjail cannot read": 1, "hidden 2 run granted": 0,
		"hidden 2 exec says: " + nothingGranted + ": memjail cannot read": 1, "hidden 2 exec granted": 0,
	} {
		if n := strings.Count(out, said); n != times {
			t.Errorf("%q is said %d times, want %d:\n%s", said, n, times, out)
		}
	}
}
