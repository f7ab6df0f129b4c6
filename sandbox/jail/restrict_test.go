package jail

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/file"
	"golang.org/x/sys/unix"
)

// restrictedMain is a program that restricts itself and says what it can do.
func restrictedMain() {
	if os.Getenv("RESTRICT") != "no" {
		p := file.Default()
		if os.Getenv("RESTRICT") == "paths" {
			p.Paths = policy.Paths{Rules: policy.OnlyThese(policy.Grant(policy.MayRead|policy.MayExecute, "/usr")...)}
		}
		if _, err := RestrictSelf(p); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		if _, err := RestrictSelf(p); err != nil {
			fmt.Println("a second time:", err)
		}
		p.Memory.Pin = !p.Memory.Pin
		if _, err := RestrictSelf(p); !errors.Is(err, ErrRestricted) {
			fmt.Println("by another policy:", err)
		}
	}
	fmt.Println("pid", os.Getpid(), "argument", os.Args[1], "marked", os.Getenv(restrictedVariable) != "")
	// Every thread is restricted, not only the first one.
	var all sync.WaitGroup
	opened := make([]bool, 8)
	for i := range opened {
		all.Go(func() {
			file, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
			if opened[i] = err == nil; opened[i] {
				file.Close()
			}
			pause := unix.NsecToTimespec(int64(5 * time.Millisecond)) // keeps its thread
			unix.Nanosleep(&pause, nil)
		})
	}
	all.Wait()
	fmt.Println("opened", opened[0] || opened[3] || opened[7])
	// Its own children can be signalled, and theirs is as closed.
	child := exec.Command("/usr/bin/sleep", "20")
	if err := child.Start(); err != nil {
		fmt.Println("child:", err)
	} else {
		mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", child.Process.Pid), os.O_RDWR, 0)
		fmt.Println("child's opened", err == nil)
		mem.Close()
		fmt.Println("killed", child.Process.Kill() == nil && child.Wait() != nil)
	}
	_, err := os.ReadFile("/etc/passwd")
	fmt.Println("read", err == nil)
	extra, err := os.NewFile(3, "extra").Stat()
	fmt.Println("inherited", err == nil && extra.Size() == 0)
}

func runRestricted(t *testing.T, restrict string) (string, int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	cmd := exec.Command(exe, "word")
	cmd.Env = append(os.Environ(), "RESTRICT="+restrict)
	cmd.ExtraFiles = []*os.File{null}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", restrict, err, out)
	}
	return string(out), cmd.Process.Pid
}

func TestRestrictSelf(t *testing.T) {
	for restrict, want := range map[string]string{
		"no":    "opened true\nchild's opened true\nkilled true\nread true\ninherited true\n",
		"yes":   "opened false\nchild's opened false\nkilled true\nread true\ninherited true\n",
		"paths": "opened false\nchild's opened false\nkilled true\nread false\ninherited true\n",
	} {
		out, pid := runRestricted(t, restrict)
		first, rest, _ := strings.Cut(out, "\n")
		if first != fmt.Sprintf("pid %d argument word marked false", pid) || rest != want {
			t.Errorf("%q:\n%s\nwant\n%s", restrict, out, want)
		}
	}
}

// TestRestrictedMarkAlone: a variable does not make a program believe that it is
// restricted.
func TestRestrictedMarkAlone(t *testing.T) {
	t.Setenv(restrictedVariable, "")
	if out, _ := runRestricted(t, "yes"); !strings.Contains(out, "opened false") {
		t.Error(out)
	}
}
