package session

import (
	"fmt"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
	"github.com/memjail/memjail/supervisor"
)

// Observer is told what happens while a session goes on. Refused, Mounted and
// SupervisorEnded are called where somebody inside waits for an answer, or before the
// sandbox is ended: they must not wait for anybody. Calls come from several goroutines.
type Observer interface {
	// Prepared gets the plan before anything is started. An error stops the start.
	Prepared(plan *sandbox.Plan) error
	// Nested: another supervisor stands above this sandbox, so this one has none.
	Nested()
	// Refused is one refused attempt.
	Refused(e supervisor.Event)
	// Mounted: a mount outside opens what is closed, or cannot be noticed any more.
	Mounted(m *MountError)
	// SupervisorEnded: the detached supervisor of the command with this process number
	// ended before its sandbox did, and the command is killed.
	SupervisorEnded(pid int)
	// Warn is what somebody should read, and what the session goes on in spite of.
	Warn(err error)
}

// DetachedObserver is the observer in a supervisor that is a process of its own, beside
// a command that [Become] executed.
type DetachedObserver interface {
	Observer
	// Serving: the supervisor serves, and the command is about to be executed.
	Serving()
	// Ended: the last process of the sandbox has ended.
	Ended()
}

// Silent is an observer that does nothing, to be embedded.
type Silent struct{}

func (Silent) Prepared(*sandbox.Plan) error { return nil }
func (Silent) Nested()                      {}
func (Silent) Refused(supervisor.Event)     {}
func (Silent) Mounted(*MountError)          {}
func (Silent) SupervisorEnded(int)          {}
func (Silent) Warn(error)                   {}
func (Silent) Serving()                     {}
func (Silent) Ended()                       {}

// MountError says that the policy's on-mount applies.
type MountError struct {
	// PID is the command.
	PID int
	// Mount is what somebody outside mounted, if Err is nil.
	Mount mountinfo.Mount
	// Err is why the mount table cannot be watched any more.
	Err error
	// Action is what the policy does about it.
	Action policy.OnMount
}

func (e *MountError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("the mount table cannot be watched: %v", e.Err)
	}
	return fmt.Sprintf("somebody mounted %s at %q: memory can be reached through it from inside the sandbox (on-mount = %q)",
		e.Mount.FSType, e.Mount.Point, e.Action)
}

func (e *MountError) Unwrap() error { return e.Err }

// ErrSupervisorKilled is the warning that comes with [Observer.SupervisorEnded].
var ErrSupervisorKilled = fmt.Errorf(`the supervisor was killed, and so is its sandbox (on-supervisor-exit = "kill")`)
