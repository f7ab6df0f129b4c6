package probe

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A process number means something in one pid namespace only, and a procfs shows the
// numbers of the namespace that it was mounted for. A launcher may have changed either
// without the other, and then a victim's number is that of another process, or of none. So
// no attempt uses a number before it has been proven to be the victim's: for system
// calls by [Env.located], for paths by [Victim.ProcDir].

// NoProcess is a process number that no process has: above the largest, PID_MAX_LIMIT.
const NoProcess = 1<<22 + 1

// naming is what has been found out about a victim's numbers. All copies of the victim
// share it.
type naming struct {
	// unproven is the reason why a number in a procfs is not known. An attempt with it
	// reaches no process, and proves nothing.
	unproven error
	// neighbour, if not nil, is a victim in the launcher's pid namespace, as it is numbered
	// here, and launcher the launcher's number there: see [Env.located].
	neighbour *Victim
	launcher  int
}

// errForeignProcfs means that a procfs shows the numbers of another pid namespace and
// that the victim could not be found in it.
var errForeignProcfs = errors.New(
	"shows another pid namespace, in which the victim cannot be distinguished from other processes")

// newToken returns an argument for a victim's command line by which it is recognised in any
// procfs.
func newToken() string { return tokenOption + "=" + rand.Text() }

// ProcNumber returns the victim's number in the procfs that is mounted at root, as far as
// it can be proven. Errors: errForeignProcfs.
func (v Victim) ProcNumber(root string) (int, error) {
	if v.names != nil && v.names.neighbour != nil {
		return v.names.launcherIn(root)
	}
	self, err := os.Readlink(filepath.Join(root, "self"))
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return v.PID, nil // there is no procfs
	case err == nil && self == strconv.Itoa(os.Getpid()) && sameNamespace(root):
		return v.PID, nil
	case err == nil && v.PID == os.Getpid():
		return strconv.Atoi(self)
	}
	for _, n := range []int{v.Proc, v.PID} {
		if n <= 0 {
			continue
		}
		switch is, reachable := v.isIn(root, n); {
		case is:
			return n, nil
		case err != nil && !reachable:
			return NoProcess, nil // nothing is reached by any path below root
		}
	}
	if n := v.search(root); n != 0 {
		return n, nil
	}
	return NoProcess, fmt.Errorf("%s %w", root, errForeignProcfs)
}

// search looks for the victim among all processes of the procfs at root, by their command
// lines alone; 0: it is not found.
func (v Victim) search(root string) int {
	dir, err := os.Open(root)
	if err != nil {
		return 0
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1) // some are better than none
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			if is, _ := v.isIn(root, n); is {
				return n
			}
		}
	}
	return 0
}

// sameNamespace reports whether the procfs at root, which calls this process by its
// own number, does so because it is that of its pid namespace, and not by chance.
func sameNamespace(root string) bool {
	text, err := os.ReadFile(filepath.Join(root, "self/status"))
	if err != nil {
		return true // that it is chance is improbable
	}
	return len(nspid(text)) <= 1
}

// nspid are the numbers of a process that its status has, from the namespace of the
// procfs to its own; proc_pid_status(5). None before Linux 4.1.
func nspid(status []byte) []string {
	for line := range strings.Lines(string(status)) {
		if numbers, ok := strings.CutPrefix(line, "NSpid:"); ok {
			return strings.Fields(numbers)
		}
	}
	return nil
}

// isIn reports whether process n of the procfs at root is the victim, by the token on
// its command line, and whether the process's directory can be reached at all. Directory
// and token are of one process: the file is looked up in the directory that is held.
func (v Victim) isIn(root string, n int) (is, reachable bool) {
	dir, err := unix.Open(filepath.Join(root, strconv.Itoa(n)), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, false
	}
	defer unix.Close(dir)
	fd, err := unix.Openat(dir, "cmdline", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, true
	}
	defer unix.Close(fd)
	line := make([]byte, 4096)
	size, err := unix.Read(fd, line)
	if err != nil || v.Token == "" {
		return false, true
	}
	return slices.ContainsFunc(bytes.Split(line[:size], []byte{0}),
		func(arg []byte) bool { return string(arg) == v.Token }), true
}

// launcherIn is the launcher's number in a procfs: the one it has where it was started, if
// the procfs is of that pid namespace, which a victim from there shows.
func (n *naming) launcherIn(root string) (int, error) {
	neighbour := *n.neighbour
	number, err := neighbour.ProcNumber(root)
	switch {
	case err != nil:
		return NoProcess, err
	case number == neighbour.home:
		return n.launcher, nil
	}
	return NoProcess, nil
}

// OpenMem opens the victim's memory for reading and writing.
func (v Victim) OpenMem() (*os.File, error) {
	n, err := v.ProcNumber("/proc")
	if err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join("/proc", strconv.Itoa(n), "mem"), os.O_RDWR, 0)
}

// ProcDir returns the victim's directory in the procfs that is mounted at root. If its
// number cannot be proven, that is a directory which does not exist, and the attempt is not
// proven.
func (v Victim) ProcDir(root string) string {
	n, err := v.ProcNumber(root)
	v.note(err)
	return filepath.Join(root, strconv.Itoa(n))
}

// Mem returns /proc/PID/mem of the victim.
func (v Victim) Mem() string { return filepath.Join(v.ProcDir("/proc"), "mem") }

// TaskNumber returns the number of the victim's thread TID in the procfs at root.
func (v Victim) TaskNumber(root string) string {
	n, err := v.ProcNumber(root)
	if v.note(err); v.TID == v.PID || err != nil {
		return strconv.Itoa(n)
	}
	if n == v.PID {
		return strconv.Itoa(v.TID)
	}
	tasks, _ := filepath.Glob(filepath.Join(root, strconv.Itoa(n), "task", "*"))
	for _, task := range tasks {
		status, err := os.ReadFile(filepath.Join(task, "status"))
		numbers := nspid(status)
		if err == nil && len(numbers) > 0 && numbers[len(numbers)-1] == strconv.Itoa(v.TID) {
			return filepath.Base(task)
		}
	}
	v.note(fmt.Errorf("%s %w", root, errForeignProcfs))
	return strconv.Itoa(NoProcess)
}

func (v Victim) note(err error) {
	if err != nil && v.names != nil {
		v.names.unproven = err
	}
}

// hold makes a file in dir and locks it, so that a process that may open it can ask the
// kernel for this process's number in its pid namespace: fcntl_locking(2), F_GETLK. The
// lock lasts as long as the process.
func (m *memory) hold(dir string) error {
	f, err := os.CreateTemp(dir, "victim-")
	if err == nil {
		err = f.Chmod(0o666)
	}
	if err == nil {
		err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	}
	if err != nil {
		return fmt.Errorf("making a victim's lock: %w", err)
	}
	m.lock, m.victim.Lock = f, f.Name()
	return nil
}

// introduce fills in how a victim is recognised where its numbers cannot be used.
func (m *memory) introduce() {
	if self, err := os.Readlink("/proc/self"); err == nil {
		m.victim.Proc, _ = strconv.Atoi(self) // 0: not known
	}
	for _, arg := range os.Args {
		if strings.HasPrefix(arg, tokenOption+"=") {
			m.victim.Token = arg
		}
	}
}

// numberHere is the number that a victim of another place has in this pid namespace,
// NoProcess if it has none.
func (v Victim) numberHere() (int, error) {
	fd, err := unix.Open(v.Lock, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		lock := unix.Flock_t{Type: unix.F_WRLCK}
		err = unix.FcntlFlock(uintptr(fd), unix.F_GETLK, &lock)
		switch {
		case err == nil && lock.Type != unix.F_UNLCK && lock.Pid > 0:
			return int(lock.Pid), nil
		case err == nil && lock.Type != unix.F_UNLCK:
			return NoProcess, nil
		}
	}
	// The kernel inside is another one, or the lock cannot be asked for. Only /proc is
	// left, if it is of this namespace.
	self, err := os.Readlink("/proc/self")
	if err != nil || self != strconv.Itoa(os.Getpid()) || !sameNamespace("/proc") {
		return NoProcess, errors.New("the number of the process outside in this pid namespace cannot be found out")
	}
	switch is, reachable := v.isIn("/proc", v.PID); {
	case is:
		return v.PID, nil
	case !reachable:
		return NoProcess, nil
	}
	if _, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(v.PID), "cmdline")); err != nil {
		return NoProcess, fmt.Errorf("process %d cannot be distinguished from others: %w", v.PID, err)
	}
	return NoProcess, nil
}

// located is the victim with numbers that are its own here.
func (s *Env) located(v Victim) (Victim, error) {
	v.names = &naming{}
	if t := s.Attempt.Target; t != Outside && t != Monitor {
		return v, nil // started in this pid namespace
	}
	n, err := v.numberHere()
	if err != nil {
		return v, err
	}
	v.home, v.PID, v.TID = v.PID, n, n
	if s.Attempt.Target != Monitor || s.Launcher == 0 {
		return v, nil
	}
	// The launcher is not one of the suite's processes and cannot be recognised. It was
	// started where the victim was: where that has its number, so has the launcher.
	neighbour := v
	neighbour.names = &naming{}
	v.names.neighbour, v.names.launcher = &neighbour, s.Launcher
	if v.PID = NoProcess; neighbour.PID == neighbour.home {
		v.PID = s.Launcher
	}
	v.TID = v.PID
	return v, nil
}

// attack makes the attempt on a victim that is known to be one.
func (s *Env) attack(v Victim) Outcome {
	v, err := s.located(v)
	if err != nil {
		return Outcome{Unready: true, Detail: err.Error()}
	}
	o := s.Attempt.Attack(s, v)
	if v.names.unproven != nil {
		return Outcome{Unready: true, Detail: v.names.unproven.Error()}
	}
	return o
}
