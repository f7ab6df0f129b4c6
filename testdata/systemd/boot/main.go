// Boot starts a throw-away systemd: process 1 of namespaces of its own, over a copy
// of this system that is written in memory only. It needs root and cgroup v2.
//
//	boot [--root DIR] [--share DIR] [--console FILE] [COMMAND [ARGUMENT...]]
//
// With a command, that runs inside and its status is boot's. Without one, boot prints
// the process number of systemd when that is up, for "nsenter -t PID -a COMMAND", and
// powers it off when its standard input ends. DIR of --share is /run/share inside,
// and can be written. --root takes another system than this one, such as a
// debootstrap of another release.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	childName = "boot: namespaces"
	initName  = "boot: init"
	// powerOff asks systemd to, systemd(1) SIGRTMIN+4.
	powerOff = syscall.Signal(34 + 4)
	// Statuses, as memjail's own.
	failed = 125
)

func main() {
	var err error
	status := 0
	switch os.Args[0] {
	case childName:
		status, err = boot()
	case initName:
		err = becomeInit()
	default:
		status, err = start()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "boot: %v\n", err)
		status = failed
	}
	os.Exit(status)
}

// options are the flags, which reach the further processes by the environment.
type options struct{ root, share, console string }

func parse() options {
	var o options
	flag.StringVar(&o.root, "root", "/", "the system to boot")
	flag.StringVar(&o.share, "share", "", "directory that is /run/share inside")
	flag.StringVar(&o.console, "console", "", "file that gets what systemd prints")
	flag.Parse()
	return o
}

// start runs boot itself again in a mount namespace, so that no mount is left.
func start() (int, error) {
	parse() // complains before anything is done
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{childName}, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	return statusOf(cmd.Run())
}

func statusOf(err error) (int, error) {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return 128 + int(ws.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}

// boot starts systemd, waits until it is up, serves what was asked for and ends it.
func boot() (status int, err error) {
	o := parse()
	group, err := enterCgroup()
	if err != nil {
		return 0, err
	}
	defer removeCgroup(group)
	console, terminal, err := openConsole()
	if err != nil {
		return 0, err
	}
	out := io.Discard
	if o.console != "" {
		file, err := os.Create(o.console)
		if err != nil {
			return 0, err
		}
		defer file.Close()
		out = file
	}
	go drain(out, console)
	init := exec.Command("/proc/self/exe", o.root, o.share)
	init.Args[0] = initName
	init.Stdin, init.Stdout, init.Stderr = terminal, terminal, terminal
	init.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL,
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC |
			syscall.CLONE_NEWNET | unix.CLONE_NEWCGROUP}
	if err := init.Start(); err != nil {
		return 0, fmt.Errorf("starting systemd: %w", err)
	}
	terminal.Close()
	ended := make(chan error, 1)
	go func() { ended <- init.Wait() }()
	defer end(init.Process, ended)
	if err := waitUntilUp(init.Process.Pid, ended); err != nil {
		return 0, err
	}
	if flag.NArg() > 0 {
		return runInside(init.Process.Pid, flag.Args())
	}
	fmt.Println(init.Process.Pid)
	_, err = io.Copy(io.Discard, os.Stdin)
	return 0, err
}

func runInside(pid int, args []string) (int, error) {
	cmd := exec.Command("nsenter", append([]string{"-t", strconv.Itoa(pid), "-a", "--"}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return statusOf(cmd.Run())
}

// enterCgroup moves this process into a cgroup of its own, which the namespace of
// systemd makes its root.
func enterCgroup() (string, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return "", fmt.Errorf("making mounts private (root is needed): %w", err)
	}
	top, err := os.MkdirTemp("", "boot-")
	if err != nil {
		return "", err
	}
	if err := unix.Mount("cgroup2", top, "cgroup2", 0, ""); err != nil {
		os.Remove(top)
		return "", fmt.Errorf("mounting cgroup v2: %w", err)
	}
	group := filepath.Join(top, fmt.Sprintf("boot-%d", os.Getpid()))
	if err := os.Mkdir(group, 0o755); err != nil {
		return "", err
	}
	return group, os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte("0"), 0)
}

func removeCgroup(group string) {
	top := filepath.Dir(group)
	os.WriteFile(filepath.Join(top, "cgroup.procs"), []byte("0"), 0)
	for range 50 { // processes that were killed leave it one by one
		var dirs []string
		filepath.WalkDir(group, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for i := len(dirs) - 1; i >= 0; i-- {
			unix.Rmdir(dirs[i])
		}
		if _, err := os.Stat(group); err != nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	unix.Unmount(top, unix.MNT_DETACH)
	os.Remove(top)
}

// drain copies what is written to the terminal, for ever. While nobody has the terminal open, reading
// fails with EIO, and systemd opens it for each line anew: one that stops to read then
// blocks systemd as soon as the terminal's buffer is full.
func drain(out io.Writer, console *os.File) {
	for {
		io.Copy(out, console)
		time.Sleep(20 * time.Millisecond)
	}
}

// openConsole makes the terminal without which systemd ends at its first error, and
// says nothing.
func openConsole() (master, terminal *os.File, err error) {
	if master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	if err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, fmt.Errorf("unlocking a terminal: %w", err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		return nil, nil, fmt.Errorf("finding a terminal: %w", err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	return master, terminal, err
}

func waitUntilUp(pid int, ended <-chan error) error {
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/run/systemd/private", pid)); err == nil {
			out, err := exec.Command("nsenter", "-t", strconv.Itoa(pid), "-a", "--", "systemctl",
				"is-system-running", "--wait").CombinedOutput()
			if state := strings.TrimSpace(string(out)); state != "running" && state != "degraded" {
				return fmt.Errorf("systemd is not running: %s (%v)", state, err)
			}
			return nil
		}
		select {
		case err := <-ended:
			return fmt.Errorf("systemd ended at once (see --console): %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return errors.New("systemd did not come up in 30 seconds (see --console)")
}

func end(init *os.Process, ended <-chan error) {
	init.Signal(powerOff)
	select {
	case <-ended:
	case <-time.After(8 * time.Second):
		init.Kill()
		<-ended
	}
}

// becomeInit makes the file system that systemd sees, and becomes systemd.
func becomeInit() error {
	root, share := os.Args[1], os.Args[2]
	if err := makeRoot(root, share); err != nil {
		return err
	}
	const systemd = "/lib/systemd/systemd"
	err := unix.Exec(systemd, []string{systemd, "--log-target=console", "--unit=basic.target", "--show-status=no"},
		[]string{"container=other", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"LANG=C.UTF-8"})
	return fmt.Errorf("executing %s: %w", systemd, err)
}

// mounting is one mount, or with no type a bind mount of what stands in source.
type mounting struct {
	source, target, kind string
	flags                uintptr
	data                 string
}

// makeRoot mounts this system with a memory file system above it, and with /proc/sys
// and /sys read-only: systemd would set them to its own liking.
func makeRoot(lower, share string) error {
	const top, safe = "/mnt", unix.MS_NOSUID | unix.MS_NODEV
	root := top + "/root"
	if err := mountAll([]mounting{{"", "/", "none", unix.MS_REC | unix.MS_PRIVATE, ""},
		{"tmpfs", top, "tmpfs", 0, "mode=755"}}); err != nil {
		return err
	}
	for _, dir := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(top, dir), 0o755); err != nil {
			return err
		}
	}
	at := func(path string) string { return filepath.Join(root, path) }
	if err := mountAll([]mounting{
		{"overlay", root, "overlay", 0, "lowerdir=" + lower + ",upperdir=" + top + "/upper,workdir=" + top + "/work"},
		{"proc", at("/proc"), "proc", safe | unix.MS_NOEXEC, ""},
		{at("/proc/sys"), at("/proc/sys"), "", 0, ""},
		{"", at("/proc/sys"), "none", unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY, ""},
		{"sysfs", at("/sys"), "sysfs", safe | unix.MS_NOEXEC | unix.MS_RDONLY, ""},
		{"cgroup2", at("/sys/fs/cgroup"), "cgroup2", safe | unix.MS_NOEXEC, ""},
		{"tmpfs", at("/dev"), "tmpfs", unix.MS_NOSUID, "mode=755"},
		{"tmpfs", at("/run"), "tmpfs", safe, "mode=755"},
		{"tmpfs", at("/tmp"), "tmpfs", safe, "mode=1777"},
	}); err != nil {
		return err
	}
	if err := makeDevices(at); err != nil {
		return err
	}
	if share != "" {
		if err := bind(share, at("/run/share")); err != nil {
			return err
		}
	}
	// What would reach for the network, or the kernel.
	for _, unit := range []string{"systemd-timesyncd.service", "apt-daily.timer", "apt-daily-upgrade.timer",
		"systemd-modules-load.service"} {
		os.Remove(at("/etc/systemd/system/" + unit))
		if err := os.Symlink("/dev/null", at("/etc/systemd/system/"+unit)); err != nil {
			return err
		}
	}
	if id, err := os.ReadFile(at("/etc/machine-id")); err != nil || len(id) < 32 {
		if err := os.WriteFile(at("/etc/machine-id"), []byte("6d656d6a61696c2074657374206d6163\n"), 0o444); err != nil {
			return err
		}
	}
	if err := unix.PivotRoot(root, root+"/mnt"); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return unix.Unmount("/mnt", unix.MNT_DETACH)
}

func mountAll(mounts []mounting) error {
	for _, m := range mounts {
		kind, flags := m.kind, m.flags
		if kind == "" {
			flags |= unix.MS_BIND
		}
		if err := unix.Mount(m.source, m.target, kind, flags, m.data); err != nil {
			return fmt.Errorf("mounting %s: %w", m.target, err)
		}
	}
	return nil
}

// bind shows a file or a directory at a place that is made.
func bind(source, target string) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(target, 0o755)
	} else {
		err = os.WriteFile(target, nil, 0o644)
	}
	if err != nil {
		return err
	}
	return mountAll([]mounting{{source, target, "", 0, ""}})
}

// makeDevices makes a /dev of the few nodes that are harmless; the console is this
// process's terminal.
func makeDevices(at func(string) string) error {
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		if err := bind("/dev/"+name, at("/dev/"+name)); err != nil {
			return err
		}
	}
	for _, dir := range []string{"pts", "shm"} {
		if err := os.Mkdir(at("/dev/"+dir), 0o755); err != nil {
			return err
		}
	}
	if err := mountAll([]mounting{
		{"devpts", at("/dev/pts"), "devpts", unix.MS_NOSUID | unix.MS_NOEXEC,
			"newinstance,ptmxmode=0666,mode=620,gid=5"},
		{"tmpfs", at("/dev/shm"), "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	}); err != nil {
		return err
	}
	for name, target := range map[string]string{"ptmx": "pts/ptmx", "fd": "/proc/self/fd",
		"stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, at("/dev/"+name)); err != nil {
			return err
		}
	}
	terminal, err := os.Readlink("/proc/self/fd/0")
	if err != nil {
		return err
	}
	return bind(terminal, at("/dev/console"))
}
