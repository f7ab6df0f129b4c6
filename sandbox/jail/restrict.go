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

// restrictedVariable marks a program that [RestrictSelf] has started again: its value has
// the process and the policy, then the notes. It is believed only of this process, which
// stays the same when it executes itself, and only if memory is found closed. (Whoever
// starts the program can forge it, but could also not start it.)
const restrictedVariable = "MEMJAIL_RESTRICTED"

// mark is the beginning of the variable's value.
func mark(p policy.Policy) (string, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("describing the policy: %w", err)
	}
	return fmt.Sprintf("%d %x\n", os.Getpid(), sha256.Sum256(text)), nil
}

// ErrRestricted is returned if this program has already restricted itself by another
// policy. A second one would need another start, which the first may refuse.
var ErrRestricted = errors.New("the program has restricted itself by another policy already")

// ErrView is returned by [RestrictSelf] for a policy with a private view, home or /tmp, which only
// a program that is started gets: the files that this program has open are those of outside.
// paths.view = "auto" is taken as "shared".
var ErrView = errors.New("a program cannot give itself a private view (paths.view, paths.tmp, [home]): " +
	"start it with jail.Command")

// ofThis is the policy by which this program restricted itself.
var ofThis struct {
	sync.Mutex
	done   bool
	policy policy.Policy
	result Restricted
}

// Restricted is the result of [RestrictSelf].
type Restricted struct {
	// Notes list what is weaker here than it could be, one sentence each.
	Notes []string
}

// RestrictSelf closes memory I/O, and whatever else the policy refuses, for this program
// and all processes that it starts: a language runtime may call it when it starts. There is
// no supervisor: where the policy closes memory no file of procfs is granted, and refusals
// are not reported.
//
// Below ABI 8 only single threads enter a Landlock domain, and a program whose threads are
// in different domains cannot even signal its own children. So there the first call does
// not return: it executes the program again in this process, with the same arguments, and
// the call made then returns. Call it at the beginning of main: all before it happens
// twice. Descriptors that this program was started with stay open; those that it opened
// itself are closed. Process number, parent and terminal stay the same.
//
// A second call with the same policy changes nothing; with another one it fails.
//
// Errors: those of [sandbox.Prepare], [ErrView], and [ErrRestricted]. After an error the process may
// be restricted in part, so a program should end.
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
	if _, must := p.OwnMounts(); must {
		return Restricted{}, ErrView
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
	shared := p.Clone()
	shared.Paths.View = policy.ViewShared
	o := sandbox.Options{Policy: shared, Args: append([]string{exe}, os.Args[1:]...), Env: env, AddExec: true,
		Detached: true, KeepFDs: inherited()}
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
	o.Policy.Environment = o.Policy.Environment.Passing(restrictedVariable)
	if plan, err = sandbox.Prepare(o); err != nil {
		return Restricted{}, err
	}
	defer plan.Close()
	return Restricted{}, plan.Become(nil, nil, nil)
}

// closed reports whether memory is closed as the policy demands.
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

// inherited lists the descriptors above 2 that stay open over execve. Those that a Go
// program opens itself are closed on execve.
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
