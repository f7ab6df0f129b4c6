// Package proof attacks a process that has dropped the memory capability: the calling one.
package proof

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"github.com/memjail/memjail/sandbox/capability"
	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// attempt is one attack; try returns nil if it succeeds.
type attempt struct {
	name string
	try  func(victim int) error
}

func open(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

var attempts = []attempt{
	{"/proc/self/mem for reading", func(int) error { return open("/proc/self/mem", unix.O_RDONLY) }},
	{"/proc/self/mem for writing", func(int) error { return open("/proc/self/mem", unix.O_RDWR) }},
	{"/proc/self/mem, from a thread that was there before",
		func(int) error { return elsewhere(func() error { return open("/proc/self/mem", unix.O_RDWR) }) }},
	{"/proc/self/task/TID/mem",
		func(int) error { return open(fmt.Sprintf("/proc/self/task/%d/mem", unix.Gettid()), unix.O_RDWR) }},
	{"/proc/self/pagemap", func(int) error { return open("/proc/self/pagemap", unix.O_RDONLY) }},
	{"/proc/CHILD/mem", func(child int) error { return open(fmt.Sprintf("/proc/%d/mem", child), unix.O_RDWR) }},
	{"/proc/CHILD/environ", func(child int) error {
		return open(fmt.Sprintf("/proc/%d/environ", child),
			unix.O_RDONLY)
	}},
	{"ptrace", trace},
	{"process_vm_readv", func(child int) error {
		// EFAULT is the answer about the address, after access was granted.
		_, err := kernel.ReadProcessMemory(child, make([]byte, 8), 0)
		if errors.Is(err, unix.EFAULT) {
			return nil
		}
		return err
	}},
}

// trace attaches to a child and detaches: a tracee would make the drop fail.
func trace(child int) error {
	if err := unix.PtraceSeize(child); err != nil {
		return err
	}
	if err := unix.PtraceInterrupt(child); err != nil {
		return nil
	}
	var status unix.WaitStatus
	unix.Wait4(child, &status, unix.WALL, nil)
	unix.PtraceDetach(child)
	return nil
}

// harmless are files that must stay open.
var harmless = []string{"/proc/self/maps", "/proc/self/status", "/proc/thread-self/maps", "/proc/self/comm",
	"/proc/1/stat", "/proc/meminfo"}

// elsewhere runs f on another thread than the caller's.
func elsewhere(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		result <- f()
	}()
	return <-result
}

// Run makes every attempt before the drop, drops the capability, and makes them again, in
// this process and in a child. self is the command of that child: this program, with
// arguments that make it call [Child]. Run returns the attempts that succeed after the drop.
// The error reports that nothing could be proven, for instance because the kernel refuses
// memory to every process.
func Run(self []string) (open []string, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	victim := exec.Command(self[0], append(self[1:], "wait")...)
	in, err := victim.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := victim.Start(); err != nil {
		return nil, fmt.Errorf("starting a process to attack: %w", err)
	}
	defer func() {
		in.Close()
		victim.Wait()
	}()
	control := map[string]bool{}
	for _, a := range attempts {
		control[a.name] = a.try(victim.Process.Pid) == nil
	}
	if !control["/proc/self/mem for writing"] {
		return nil, errors.New("/proc/self/mem is closed before the capability was dropped: nothing can be proven")
	}
	if err := capability.Drop(); err != nil {
		return nil, err
	}
	for _, a := range attempts {
		if control[a.name] && a.try(victim.Process.Pid) == nil {
			open = append(open, a.name)
		}
	}
	for _, path := range harmless {
		if err := openPlain(path); err != nil {
			return open, fmt.Errorf("a harmless file is closed: %w", err)
		}
	}
	more, err := child(self)
	return append(open, more...), err
}

func openPlain(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return f.Close()
}

// child starts a process that has inherited the mark over fork and exec, and one that asks
// to be traced.
func child(self []string) (open []string, err error) {
	cmd := exec.Command(self[0], append(self[1:], "try")...)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("starting a child of a process that has dropped the capability: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		open = append(open, strings.TrimSpace(line)+", in a child")
	}
	traced := exec.Command(self[0], append(self[1:], "try")...)
	traced.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if traced.Start() == nil {
		traced.Process.Kill()
		traced.Wait()
		open = append(open, "PTRACE_TRACEME")
	}
	return open, nil
}

// Child is the body of a process that [Run] starts. In the role "wait" it waits for the end
// of its input; else it returns the attempts on its own memory that succeed, one on a line.
func Child(role string) string {
	if role == "wait" {
		os.Stdin.Read(make([]byte, 1))
		return ""
	}
	var open strings.Builder
	for _, a := range attempts[:5] {
		if a.try(0) == nil {
			fmt.Fprintln(&open, a.name)
		}
	}
	return open.String()
}
