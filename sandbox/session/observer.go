package session

import (
	"fmt"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
	"github.com/memjail/memjail/supervisor"
)

// Observer gets the events of a session. Refused, Mounted and SupervisorEnded are called
// while a process inside waits for an answer, or before the sandbox is killed: they must
// not block. Calls come from several goroutines.
type Observer interface {
	// Prepared gets the plan before anything is started. An error stops the start.
	Prepared(plan *sandbox.Plan) error
	// Nested: another supervisor serves this process already, so the sandbox has none.
	Nested()
	// Refused reports one refused attempt.
	Refused(e supervisor.Event)
	// Mounted: a mount made outside opens what is closed, or the mount table cannot be
	// watched any more.
	Mounted(m *MountError)
	// SupervisorEnded: the detached supervisor of the command with this process number
	// ended before its sandbox did, and the command is killed.
	SupervisorEnded(pid int)
	// Warn reports what does not end the session.
	Warn(err error)
}

// DetachedObserver is the observer in the detached supervisor of a command that [Become]
// executed.
type DetachedObserver interface {
	Observer
	// Serving: the supervisor serves, and the command is about to be executed.
	Serving()
	// Ended: the last process of the sandbox has ended.
	Ended()
}

// UseObserver is a [DetachedObserver] for [Options.ObserveDetached].
type UseObserver interface {
	DetachedObserver
	// Observed is [Options.Observe].
	Observed(o supervisor.Observation)
}

// Silent is an observer that does nothing. It can be embedded.
type Silent struct{}

func (Silent) Prepared(*sandbox.Plan) error { return nil }
func (Silent) Nested()                      {}
func (Silent) Refused(supervisor.Event)     {}
func (Silent) Mounted(*MountError)          {}
func (Silent) SupervisorEnded(int)          {}
func (Silent) Warn(error)                   {}
func (Silent) Serving()                     {}
func (Silent) Ended()                       {}

// MountError is a mount to which the policy's on-mount applies, or one that paths.on-deny-lost
// is about.
type MountError struct {
	// PID is the command.
	PID int
	// Mount is what somebody outside mounted, if Err is nil.
	Mount mountinfo.Mount
	// Lost is a denied path whose cover is gone; empty: it is about a mount.
	Lost string
	// Err is why the mount table cannot be watched.
	Err error
	// Action is what the policy does about it.
	Action policy.OnMount
}

func (e *MountError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("the mount table cannot be watched: %v", e.Err)
	}
	if e.Lost != "" {
		action := policy.OnDenyLostWarn
		if e.Action == policy.OnMountEnd {
			action = policy.OnDenyLostEnd
		}
		return fmt.Sprintf("%s is no longer denied, because a process outside has replaced or removed it "+
			"(paths.on-deny-lost = %q)", e.Lost, action)
	}
	return fmt.Sprintf("%s was mounted at %q: memory can be reached through it from inside the sandbox (on-mount = %q)",
		e.Mount.FSType, e.Mount.Point, e.Action)
}

func (e *MountError) Unwrap() error { return e.Err }

// ErrSupervisorKilled is the warning that comes with [Observer.SupervisorEnded].
var ErrSupervisorKilled = fmt.Errorf(`the supervisor was killed, and so is its sandbox (on-supervisor-exit = "kill")`)
