package jail

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// restrictedVariable marks a program that has been started again by
// [RestrictSelf]: with the process and the policy that it is about, then the notes. It
// is believed only when memory turns out to be closed, and of this process, which
// stays the same when it executes itself. (Whoever starts a program can forge it, and
// could as well not start it.)
const restrictedVariable = "MEMJAIL_RESTRICTED"

// mark is what the variable begins with.
func mark(p policy.Policy) (string, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("describing the policy: %w", err)
	}
	return fmt.Sprintf("%d %x\n", os.Getpid(), sha256.Sum256(text)), nil
}

// ErrRestricted says that this program has restricted itself already, by another
// policy. A second one would need a start of its own, which the first may refuse.
var ErrRestricted = errors.New("the program has restricted itself by another policy already")

// ofThis is what this program restricted itself by.
var ofThis struct {
	sync.Mutex
	done   bool
	policy policy.Policy
	result Restricted
}

// Restricted says what came of [RestrictSelf].
type Restricted struct {
	// Notes are what is weaker here than it could be, one sentence each.
	Notes []string
}

// RestrictSelf has this program give up memory I/O, and whatever else the policy
// refuses, for itself and all that it starts: a language runtime may do so when it
// starts. There is no supervisor: of procfs nothing is granted where the policy
// closes memory, and nobody reports what is refused.
//
// Below ABI 8 a Landlock domain is entered by single threads only, and a program
// whose threads are in different domains cannot even signal its own children. So the
// program is started again: the first call does not return but executes the program
// anew in this process, with the same arguments, and the call there does. It belongs at the beginning of main, since all before it happens
// twice. Descriptors that this program was started with stay open; those that it
// opened itself close. Process number, parent and terminal stay the same.
//
// A second call with the same policy changes nothing; with another one it fails.
//
// Errors are those of [sandbox.Prepare], and [ErrRestricted]. After an error that comes late the process
// may be restricted in part, so a program should end with it.
func RestrictSelf(p policy.Policy) (Restricted, error) {
	ofThis.Lock()
	defer ofThis.Unlock()
	if ofThis.done {
		if !reflect.DeepEqual(p, ofThis.policy) {
			return Restricted{}, ErrRestricted
		}
		return ofThis.result, nil
	}
	if err := p.Validate(); err != nil {
		return Restricted{}, err
	}
	mark, err := mark(p)
	if err != nil {
		return Restricted{}, err
	}
	if notes, ok := strings.CutPrefix(os.Getenv(restrictedVariable), mark); ok && closed(p) {
		os.Unsetenv(restrictedVariable)
		ofThis.done, ofThis.policy = true, p.Clone()
		ofThis.result = Restricted{Notes: strings.FieldsFunc(notes, func(r rune) bool { return r == '\n' })}
		return ofThis.result, nil
	}
	runtime.LockOSThread()
	exe, err := os.Executable()
	if err != nil {
		return Restricted{}, fmt.Errorf("finding this program: %w", err)
	}
	env := withoutVariable(os.Environ(), restrictedVariable)
	o := sandbox.Options{Policy: p, Args: append([]string{exe}, os.Args[1:]...), Env: env, AddExec: true, Detached: true, KeepFDs: inherited()}
	plan, err := sandbox.Prepare(o)
	if err != nil {
		return Restricted{}, err
	}
	notes := strings.Join(plan.Warnings, "\n")
	plan.Close()
	for _, fd := range o.KeepFDs { // as they were before the first plan
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return Restricted{}, fmt.Errorf("keeping descriptor %d: %w", fd, err)
		}
	}
	// Once more with the mark, which carries the notes over.
	o.Env = append(env, restrictedVariable+"="+mark+notes)
	o.Policy.Environment.Keep = o.Policy.Environment.Keep.With(restrictedVariable)
	if plan, err = sandbox.Prepare(o); err != nil {
		return Restricted{}, err
	}
	defer plan.Close()
	return Restricted{}, plan.Become(nil, nil, nil)
}

// closed tries whether memory is closed as the policy says.
func closed(p policy.Policy) bool {
	flags := os.O_RDWR
	switch p.Memory.Access {
	case policy.AccessAllow:
		noNew, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
		return err == nil && noNew == 1
	case policy.AccessDeny:
		flags = os.O_RDONLY
	case policy.AccessNoWrite:
	}
	file, err := os.OpenFile("/proc/self/mem", flags, 0)
	if err == nil {
		file.Close()
		return false
	}
	var word [1]byte
	_, err = kernel.WriteProcessMemory(os.Getpid(), word[:], 0)
	return errors.Is(err, unix.EPERM)
}

func withoutVariable(env []string, name string) []string {
	var left []string
	for _, v := range env {
		if !strings.HasPrefix(v, name+"=") {
			left = append(left, v)
		}
	}
	return left
}

// inherited are the descriptors above 2 that stay open over an execve: what this
// program opened itself does not, as is the custom in Go.
func inherited() []int {
	var fds []int
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		var fd int
		if _, err := fmt.Sscan(e.Name(), &fd); err != nil || fd < 3 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			fds = append(fds, fd)
		}
	}
	return fds
}
