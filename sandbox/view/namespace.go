package view

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/kernel/early"
	"golang.org/x/sys/unix"
)

// NamespaceError is why this process has no mount namespace of its own.
type NamespaceError struct {
	Step string // "making a user namespace"
	Err  error
}

func (e *NamespaceError) Error() string {
	if hint := e.hint(); hint != "" {
		return fmt.Sprintf("%s: %v (%s)", e.Step, e.Err, hint)
	}
	return fmt.Sprintf("%s: %v", e.Step, e.Err)
}

func (e *NamespaceError) Unwrap() error { return e.Err }

const (
	stepUnshare = "making a user namespace"
	stepMap     = "writing the user namespace's map of IDs"
	stepMount   = "making the mounts private in a user namespace"
)

// errNoEntry means that the program was linked without -E memjail_entry, so that the runtime's
// threads were there before anything else.
var errNoEntry = errors.New("this build of memjail does not begin at memjail_entry")

// hint is what to do about the error, or empty.
func (e *NamespaceError) hint() string {
	const apparmor = "AppArmor allows it only to programs with a profile: load docs/memjail.apparmor"
	switch {
	case errors.Is(e.Err, errNoEntry):
		return "link it with -ldflags='-E memjail_entry'; memjail doctor has the command"
	case errors.Is(e.Err, unix.ENOSPC):
		return "user.max_user_namespaces allows no more: sysctl user.max_user_namespaces"
	case e.Step == stepUnshare && errors.Is(e.Err, unix.EPERM):
		return "a container, a sandbox around this one or kernel.unprivileged_userns_clone refuses it: " +
			"start memjail outside, or as root"
	case e.Step == stepMap && unix.Getuid() == 0 && errors.Is(e.Err, unix.EPERM):
		return "root without CAP_SYS_ADMIN needs CAP_SETFCAP for it, or AppArmor refuses it"
	case e.Step != stepUnshare && (errors.Is(e.Err, unix.EACCES) || errors.Is(e.Err, unix.EPERM)):
		return apparmor
	}
	return ""
}

// own is what this process knows about its namespaces.
var own struct {
	// entered: it is in user and mount namespaces that were made for it.
	entered bool
	// before are its rights outside.
	before kernel.Privileges
	// failure is why it is not; nil: nobody has tried.
	failure error
}

// Able reports whether this thread can make a mount namespace without a user namespace of its
// own.
func Able() bool {
	caps, err := kernel.ThreadCapabilities()
	return err == nil && !own.entered && caps.Effective.Has(unix.CAP_SYS_ADMIN) &&
		caps.Effective.Has(unix.CAP_SYS_CHROOT)
}

// Possible returns why this process, or one that it starts, cannot have a view; nil: it can.
func Possible() error {
	if Able() {
		return nil
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return Try()
}

// Tried reports whether it has been decided if this process is in namespaces of its own.
func Tried() bool { return own.entered || own.failure != nil }

// Fail notes why this process does without namespaces of its own.
func Fail(err error) { own.failure = err }

// outside is what a process cannot ask for once it is in a user namespace.
type outside struct {
	Before   kernel.Privileges
	UID, GID int
}

// Arg0 is argv[0] with which this program is executed to be in new user and mount namespaces
// from the first instruction on, see [early.NamespacesPrefix]. argv0 is what [Accept] restores,
// state a descriptor to be kept open, which the caller closes if the program is not executed.
func Arg0(argv0 string) (text string, state *os.File, err error) {
	o := outside{UID: unix.Geteuid(), GID: unix.Getegid()}
	if o.Before, err = kernel.ThreadPrivileges(); err != nil {
		return "", nil, err
	}
	data, err := json.Marshal(o)
	if err != nil {
		return "", nil, fmt.Errorf("describing this process: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return "", nil, fmt.Errorf("describing this process: %w", err)
	}
	defer w.Close()
	if _, err := w.Write(data); err != nil { // less than a pipe holds
		r.Close()
		return "", nil, fmt.Errorf("describing this process: %w", err)
	}
	return fmt.Sprintf("%s%d: %s", early.NamespacesPrefix, r.Fd(), argv0), r, nil
}

// Accept finds out whether this process was executed with [Arg0]. It is called first in main,
// with os.Args, whose first element it restores. What the descriptor says gives its author
// nothing: whoever can execute a program can make a user namespace, too.
func Accept(args []string) {
	if len(args) == 0 {
		return
	}
	rest, ok := strings.CutPrefix(args[0], early.NamespacesPrefix)
	number, name, found := strings.Cut(rest, ": ")
	fd, err := strconv.Atoi(number)
	if !ok || !found || err != nil {
		return
	}
	args[0] = name
	kernel.SetThreadName(filepath.Base(name)) // execveat(2) has made it a number
	var o outside
	state := os.NewFile(uintptr(fd), "state")
	if err := json.NewDecoder(io.LimitReader(state, maxState)).Decode(&o); err != nil {
		own.failure = &NamespaceError{"reading the state of the process before it", err}
	}
	state.Close()
	asked, errno := early.Namespaces()
	switch {
	case own.failure != nil:
	case !asked:
		own.failure = &NamespaceError{stepUnshare, errNoEntry}
	case errno != 0:
		own.failure = &NamespaceError{stepUnshare, unix.Errno(errno)}
	}
	if asked && errno == 0 {
		Adopt(o.Before)
	}
	if own.failure != nil {
		return
	}
	// Until they are mapped this process's own IDs are not known to it.
	for _, file := range idMaps(o.UID, o.GID) {
		if err := os.WriteFile(file[0], []byte(file[1]), 0); err != nil {
			own.failure = &NamespaceError{stepMap, errnoOf(err)}
			break
		}
	}
}

// maxState is more than the state has.
const maxState = 4096

// Adopt notes that this process was started in user and mount namespaces that were made for it,
// with its IDs mapped, and which rights it has outside.
func Adopt(before kernel.Privileges) { own.entered, own.before = true, before }

// idMaps are the files that map a process's IDs to themselves, in the order in which they are
// written.
func idMaps(uid, gid int) [3][2]string {
	return [3][2]string{
		{"/proc/self/setgroups", "deny"},
		{"/proc/self/uid_map", fmt.Sprintf("%d %[1]d 1", uid)},
		{"/proc/self/gid_map", fmt.Sprintf("%d %[1]d 1", gid)},
	}
}

// Try makes user and mount namespaces in a child and reports why that does not work, as a
// [*NamespaceError], or another error. It is called on a locked thread.
func Try() error {
	steps := []kernel.Step{kernel.StepUnshare(stepUnshare, unix.CLONE_NEWUSER|unix.CLONE_NEWNS)}
	for _, file := range idMaps(unix.Geteuid(), unix.Getegid()) {
		steps = append(steps, kernel.StepsWriteFile(stepMap, file[0], file[1])...)
	}
	steps = append(steps, kernel.StepPrivateMounts(stepMount), kernel.StepEnd())
	child, err := kernel.Launch(steps, false)
	if err != nil {
		return err
	}
	defer child.Release()
	defer child.PIDFD.Close()
	for {
		if _, err := unix.Wait4(child.PID, nil, 0, nil); err != unix.EINTR {
			break
		}
	}
	err = child.Failure()
	var failure *kernel.LaunchError
	if errors.As(err, &failure) {
		return &NamespaceError{failure.Step, failure.Errno}
	}
	return err
}

// Unshare moves the calling thread into a mount namespace of its own, unless all threads are in
// one already (whole), and makes its mounts private. Errors: [*NamespaceError], and what [Fail]
// noted.
func Unshare() (whole bool, err error) {
	if own.failure != nil {
		return own.entered, own.failure
	}
	step := stepMount
	if !own.entered {
		step = "making the mounts private"
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return false, &NamespaceError{"making a mount namespace", err}
		}
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return own.entered, &NamespaceError{step, err}
	}
	return own.entered, nil
}

func errnoOf(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// DropGained takes away the capabilities that this process has only in its user namespace.
func DropGained() error {
	if !own.entered {
		return nil
	}
	return kernel.ReduceTo(own.before)
}
