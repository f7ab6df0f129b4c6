// Package proof attacks a process that has dropped the memory capability: the calling one.
package proof

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/memjail/memjail/sandbox/capability"
	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// attempt is one attack; try returns nil if it succeeds.
type attempt struct {
	name string
	try  func(v *victim) error
}

// victim is a process that has not dropped the capability.
type victim struct {
	pid int
	// in asks it for a descriptor of its memory, which comes over socket.
	in     io.WriteCloser
	socket int
}

func open(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

var attempts = []attempt{
	{"/proc/self/mem for reading", func(*victim) error { return open("/proc/self/mem", unix.O_RDONLY) }},
	{"/proc/self/mem for writing", func(*victim) error { return open("/proc/self/mem", unix.O_RDWR) }},
	{"/proc/self/mem, from a thread that was there before",
		func(*victim) error { return elsewhere(func() error { return open("/proc/self/mem", unix.O_RDWR) }) }},
	{"/proc/self/task/TID/mem",
		func(*victim) error { return open(fmt.Sprintf("/proc/self/task/%d/mem", unix.Gettid()), unix.O_RDWR) }},
	{"/proc/self/pagemap", func(*victim) error { return open("/proc/self/pagemap", unix.O_RDONLY) }},
	{"/proc/CHILD/mem", func(v *victim) error { return open(fmt.Sprintf("/proc/%d/mem", v.pid), unix.O_RDWR) }},
	{"/proc/CHILD/environ", func(v *victim) error {
		return open(fmt.Sprintf("/proc/%d/environ", v.pid), unix.O_RDONLY)
	}},
	{"ptrace", trace},
	{"a descriptor of memory that another process passes", (*victim).passMemory},
	{"process_vm_readv", func(v *victim) error {
		// EFAULT is the answer about the address, after access was granted.
		_, err := kernel.ReadProcessMemory(v.pid, make([]byte, 8), 0)
		if errors.Is(err, unix.EFAULT) {
			return nil
		}
		return err
	}},
}

// trace attaches to a child and detaches: a tracee would make the drop fail.
func trace(v *victim) error {
	if err := unix.PtraceSeize(v.pid); err != nil {
		return err
	}
	if err := unix.PtraceInterrupt(v.pid); err != nil {
		return nil
	}
	var status unix.WaitStatus
	unix.Wait4(v.pid, &status, unix.WALL, nil)
	unix.PtraceDetach(v.pid)
	return nil
}

// passMemory has the victim send a descriptor of its memory, and receives it.
func (v *victim) passMemory() error {
	if _, err := v.in.Write([]byte{'s'}); err != nil {
		return err
	}
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(v.socket, make([]byte, 1), control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) == 0 {
		return unix.EACCES
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return unix.EACCES
	}
	return unix.Close(fds[0])
}

// serve is the victim: it sends a descriptor of its memory whenever it is asked.
func serve() {
	mem, err := unix.Open("/proc/self/mem", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	for ask := make([]byte, 1); ; {
		if n, _ := os.Stdin.Read(ask); n == 0 {
			return
		}
		unix.Sendmsg(victimSocket, []byte{'m'}, unix.UnixRights(mem), nil, 0)
	}
}

// victimSocket is the victim's end of the socket.
const victimSocket = 3

// start starts the victim, as Child("wait"). end ends it.
func start(self []string) (v *victim, end func(), err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("making a socket: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "socket")
	defer theirs.Close()
	cmd := exec.Command(self[0], append(self[1:], "wait")...)
	cmd.ExtraFiles = []*os.File{theirs}
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		unix.Close(pair[0])
		return nil, nil, fmt.Errorf("starting a process to attack: %w", err)
	}
	return &victim{cmd.Process.Pid, in, pair[0]}, func() {
		in.Close()
		unix.Close(pair[0])
		cmd.Wait()
	}, nil
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
	v, end, err := start(self)
	if err != nil {
		return nil, err
	}
	defer end()
	control := map[string]bool{}
	for _, a := range attempts {
		control[a.name] = a.try(v) == nil
	}
	if !control["/proc/self/mem for writing"] {
		return nil, errors.New("/proc/self/mem is closed before the capability was dropped: nothing can be proven")
	}
	// A program that another thread executes than the one that drops.
	if open, err = output(self, "threads"); err != nil {
		return nil, err
	}
	if err := capability.Drop(); err != nil {
		return nil, err
	}
	for _, a := range attempts {
		if control[a.name] && a.try(v) == nil {
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

// output returns the attempts that succeed in Child(role).
func output(self []string, role string) (open []string, err error) {
	out, err := exec.Command(self[0], append(self[1:], role)...).Output()
	if err != nil {
		return nil, fmt.Errorf("starting a process that attacks its own memory: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		open = append(open, strings.TrimSpace(line)+", in another process ("+role+")")
	}
	return open, nil
}

// child starts a process that has inherited the mark over fork and exec, and one that asks
// to be traced.
func child(self []string) (open []string, err error) {
	if open, err = output(self, "try"); err != nil {
		return nil, err
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

// Child is the body of a process that [Run] starts. It returns the attempts on its own
// memory that succeed, one on a line. The roles are "wait", which is attacked instead, until
// the end of its input; "threads", which drops the capability on one thread and becomes
// "try" on another; and "try".
func Child(role string, self []string) (string, error) {
	switch role {
	case "wait":
		serve()
		return "", nil
	case "threads":
		return "", dropThenExecute(self)
	}
	var open strings.Builder
	for _, a := range attempts[:5] {
		if a.try(nil) == nil {
			fmt.Fprintln(&open, a.name)
		}
	}
	return open.String(), nil
}

// dropThenExecute drops the capability on one thread and executes a program on another,
// which was there before and is not the first one.
func dropThenExecute(self []string) error {
	ready, dropped, failed := make(chan bool), make(chan bool), make(chan error)
	execute := func() {
		runtime.LockOSThread()
		ready <- unix.Gettid() != unix.Getpid()
		if <-dropped {
			failed <- unix.Exec(self[0], append(slices.Clone(self), "try"), os.Environ())
		}
		select {} // keeps the thread
	}
	for found := false; !found; {
		go execute()
		if found = <-ready; !found {
			dropped <- false
		}
	}
	if err := capability.Drop(); err != nil {
		return err
	}
	dropped <- true
	return <-failed
}
