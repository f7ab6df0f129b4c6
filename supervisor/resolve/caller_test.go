package resolve

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The tests resolve paths for another process, the caller, and hold the outcome
// against what the caller itself gets when it opens them. As root they run in a
// mount namespace of their own.

const roleVariable = "RESOLVE_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "caller":
		callerRole()
	case "inside":
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			fmt.Fprintln(os.Stderr, "making the mounts private:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	default:
		if os.Geteuid() != 0 {
			os.Exit(m.Run())
		}
		os.Exit(runInside())
	}
}

// runInside runs the tests again where mounts are nobody else's.
func runInside() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), roleVariable+"=inside")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, err)
	}
	return cmd.ProcessState.ExitCode()
}

// order is what the caller is told to do.
type order struct {
	Chdir, Chroot, Remove string
	Open                  *attempt
	EndThread             bool
}

// attempt is an open with O_PATH.
type attempt struct {
	Dir  int
	Path string
	How  unix.OpenHow
	Keep bool // as a descriptor for later attempts
}

// reply is what came of it.
type reply struct {
	TID   int
	FD    int
	Errno unix.Errno
}

// callerProcess is the process whose view counts.
type callerProcess struct {
	cmd    *exec.Cmd
	orders *json.Encoder
	in     io.Closer
	out    *json.Decoder
	tid    int
}

func startCaller(t testing.TB, dir string) *callerProcess {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	cmd.Env = append(os.Environ(), roleVariable+"=caller")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &callerProcess{cmd: cmd, orders: json.NewEncoder(in), in: in, out: json.NewDecoder(bufio.NewReader(out))}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	c.tid = c.do(t, order{}).TID
	return c
}

func (c *callerProcess) pid() int { return c.cmd.Process.Pid }

func (c *callerProcess) do(t testing.TB, o order) reply {
	t.Helper()
	var r reply
	if err := errors.Join(c.orders.Encode(o), c.out.Decode(&r)); err != nil {
		t.Fatal(err)
	}
	return r
}

// must does what cannot fail.
func (c *callerProcess) must(t testing.TB, o order) reply {
	t.Helper()
	r := c.do(t, o)
	if r.Errno != 0 {
		t.Fatalf("%+v: %v", o, r.Errno)
	}
	return r
}

// hold has the caller open a path and keep it.
func (c *callerProcess) hold(t testing.TB, path string) int {
	t.Helper()
	return c.must(t, order{Open: &attempt{Dir: unix.AT_FDCWD, Path: path, Keep: true,
		How: unix.OpenHow{Flags: unix.O_PATH}}}).FD
}

// callerRole follows orders, on a thread that is not the process's first.
func callerRole() {
	replies := json.NewEncoder(os.Stdout)
	orders := json.NewDecoder(os.Stdin)
	ended := make(chan struct{})
	var start func()
	start = func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			go start()
			<-ended
			return
		}
		follow(orders, replies)
		close(ended)
	}
	go start()
	<-ended
	// The thread that followed has ended with its goroutine; the process goes on.
	io.Copy(io.Discard, os.Stdin)
}

func follow(orders *json.Decoder, replies *json.Encoder) {
	var last = -1
	for {
		var o order
		if orders.Decode(&o) != nil {
			return
		}
		if last >= 0 {
			unix.Close(last)
			last = -1
		}
		r := reply{TID: unix.Gettid(), FD: -1}
		var err error
		switch {
		case o.Chroot != "":
			err = unix.Chroot(o.Chroot)
		case o.Chdir != "":
			err = unix.Chdir(o.Chdir)
		case o.Remove != "":
			err = unix.Rmdir(o.Remove)
		case o.Open != nil:
			r.FD, err = unix.Openat2(o.Open.Dir, o.Open.Path, &o.Open.How)
			if err == nil && !o.Open.Keep {
				last = r.FD
			}
		}
		errors.As(err, &r.Errno)
		replies.Encode(r)
		if o.EndThread {
			return
		}
	}
}

// tree makes files below a directory: "name -> target" is a symbolic link, "name/"
// a directory, "name|" a FIFO, anything else an empty file.
func tree(t testing.TB, dir string, entries ...string) {
	t.Helper()
	for _, e := range entries {
		var err error
		name, target, isLink := strings.Cut(e, " -> ")
		path := dir + "/" + name
		switch {
		case isLink:
			err = os.Symlink(target, path)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		case strings.HasSuffix(name, "|"):
			err = unix.Mkfifo(strings.TrimSuffix(path, "|"), 0o644)
		default:
			err = os.WriteFile(path, nil, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
