package supervisor

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The differential test runs one program without and with a sandbox and compares
// every open of its: number, flags, offset, mode, size, owner, what is read, errno.

// exception is an open that comes to something else inside, and why it is so by
// design. Inside it fails with EACCES, which is what the kernel's domain says.
type exception struct {
	open *regexp.Regexp
	why  string
}

var exceptions = []exception{
	{regexp.MustCompile(`/proc/.* (WRONLY\|)?DIRECT$`),
		"left to the kernel, whose domain speaks before the file system says EINVAL"},
	{regexp.MustCompile(`/proc/.* ASYNC$`),
		"O_ASYNC says who gets signals, which another process cannot set up for the caller"},
	{regexp.MustCompile(`open(at)? /proc/.* unknown$`), "a flag that nobody knows may mean something to the kernel"},
	{regexp.MustCompile(`/proc/.* RDONLY\|TRUNC$`), "it changes what it is said to read"},
	{regexp.MustCompile(`openat2 /proc/.* resolve (IN_ROOT|CACHED)$`),
		"the path would have to be resolved by other rules: the kernel decides"},
	{regexp.MustCompile(`^beneath /proc`), "the same"},
	{regexp.MustCompile(`^openat2 of size 4096$`), "no structure that long is copied"},
	{regexp.MustCompile(`/proc/(self/maps|version) (WRONLY|RDWR)[A-Z|]*$|^creat /proc/(self/maps|version)$`),
		"to write what root may open for writing, and to no effect"},
	{regexp.MustCompile(`^read /proc/self/(mem|pagemap|stack|syscall)$`), "memory, or where it is"},
	{regexp.MustCompile(`^read /proc/1/(maps|environ|mem|io)$`),
		"what the kernel gives only to those who may trace the process"},
	{regexp.MustCompile(`^read /proc/(iomem|kallsyms|timer_list|slabinfo|keys|kmsg)$`),
		"about the kernel's memory, or of no use to a program"},
}

// TestDifferential compares for each ABI of the CPU and for root and an ordinary
// user.
func TestDifferential(t *testing.T) {
	dir, err := os.MkdirTemp("", "mj-probe-")
	if err == nil {
		err = os.Chmod(dir, 0o755) // for the ordinary user
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	memjail := build(t, filepath.Join(dir, "memjail"), "../cmd/memjail", runtime.GOARCH, "-ldflags=-E memjail_entry")
	abis := []string{runtime.GOARCH}
	if runtime.GOARCH == "amd64" {
		abis = append(abis, "386")
	}
	for _, abi := range abis {
		probe := build(t, filepath.Join(dir, "probe-"+abi), "./testdata/probe", abi)
		for _, uid := range accounts() {
			t.Run(abi+" uid "+strconv.Itoa(uid), func(t *testing.T) {
				native, err := runAs(uid, probe, scratch(t, dir))
				if errors.Is(err, unix.ENOEXEC) {
					t.Skip("this kernel does not run 32-bit programs: ", err)
				}
				if err != nil {
					t.Fatalf("%v\n%s", err, native)
				}
				inside, err := runAs(uid, memjail, "run", "-q", "--", probe, scratch(t, dir))
				if err != nil {
					t.Fatalf("%v\n%s", err, inside)
				}
				compareOpens(t, opens(t, native, abi), opens(t, inside, abi))
			})
		}
	}
}

// scratch makes the file, the same each time, on which the probe tries every flag,
// those that truncate among them. It tries them on no file that is anybody's.
func scratch(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "ordinary")
	err := os.WriteFile(path, []byte("an ordinary file\n"), 0o644)
	if err == nil {
		err = os.Chmod(path, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func accounts() []int {
	if os.Geteuid() == 0 {
		return []int{0, 65534}
	}
	return []int{os.Geteuid()}
}

func build(t *testing.T, to, from, arch string, flags ...string) string {
	t.Helper()
	cmd := exec.Command("go", append(append([]string{"build", "-o", to}, flags...), from)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", from, err, out)
	}
	return to
}

func runAs(uid int, argv ...string) (string, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/bin:/bin", "HOME=/"}
	if uid != os.Geteuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// opens sorts the program's output by what was opened. Of a 32-bit program
// O_LARGEFILE is left out: the file is opened by a 64-bit one, which always has it.
func opens(t *testing.T, output, abi string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for line := range strings.Lines(output) {
		i := strings.LastIndex(line, ": fd ")
		if i < 0 {
			i = strings.LastIndex(line, ": ")
		}
		if i < 0 {
			t.Fatalf("the program said %q", line)
		}
		what, result := line[:i], strings.TrimSpace(line[i+2:])
		if found[what] != "" {
			t.Errorf("%q was opened twice", what)
		}
		if abi == "386" {
			result = withoutLargeFile(result)
		}
		found[what] = result
	}
	if len(found) < 500 {
		t.Fatalf("only %d opens", len(found))
	}
	return found
}

var statusFlags = regexp.MustCompile(`status 0x[0-9a-f]+`)

func withoutLargeFile(result string) string {
	return statusFlags.ReplaceAllStringFunc(result, func(s string) string {
		flags, _ := strconv.ParseUint(strings.TrimPrefix(s, "status 0x"), 16, 64)
		return "status 0x" + strconv.FormatUint(flags&^0x8000, 16)
	})
}

func compareOpens(t *testing.T, native, inside map[string]string) {
	t.Helper()
	injected, used := 0, map[*regexp.Regexp]bool{}
	for what, want := range native {
		got := inside[what]
		if got == want {
			if strings.Contains(what, "/proc/") && strings.HasPrefix(got, "fd ") {
				injected++
			}
			continue
		}
		e := exceptionFor(what)
		if e == nil || got != "EACCES" {
			t.Errorf("%s\n\tnatively %s\n\tinside   %s", what, want, got)
			continue
		}
		used[e.open] = true
	}
	if len(inside) != len(native) || injected < 100 {
		t.Errorf("%d opens natively, %d inside, of which %d succeeded on procfs", len(native), len(inside), injected)
	}
	for _, e := range exceptions {
		if os.Geteuid() == 0 && !used[e.open] && !onlyRoots(e) {
			t.Errorf("the exception %v (%s) is none", e.open, e.why)
		}
	}
}

// onlyRoots: an ordinary user is refused it natively.
func onlyRoots(e exception) bool {
	return strings.Contains(e.open.String(), "/1/") || strings.Contains(e.why, "root")
}

func exceptionFor(what string) *exception {
	for i := range exceptions {
		if exceptions[i].open.MatchString(what) {
			return &exceptions[i]
		}
	}
	return nil
}
