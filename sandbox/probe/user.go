package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// User is whom the launcher, and with it everything inside, is started as.
type User struct {
	UID, GID uint32
	// Capabilities are those that the user has all the same, as ambient capabilities:
	// unix.CAP_DAC_OVERRIDE. Linux 4.3.
	Capabilities []uintptr
}

func (u *User) String() string { return fmt.Sprintf("user %d", u.UID) }

var errNotRoot = errors.New("starting the launcher as another user needs root")

// start has a process started as the user.
func (u *User) start(attributes *unix.SysProcAttr) {
	attributes.Credential = &syscall.Credential{Uid: u.UID, Gid: u.GID}
	attributes.AmbientCaps = u.Capabilities
}

// A phase is a part of the run in which the same launcher is at work.
type phase struct {
	prepared bool  // the attempts that have a Setup, or those that have none
	as       *User // nil: whoever runs the suite
}

// has reports whether an attempt belongs to the phase.
func (p phase) has(a *Attempt) bool {
	return a.As == p.as && (a.As != nil || (a.Setup != nil) == p.prepared)
}

// runPhases makes all attempts: first those that need nothing but the sandbox, then those
// that need a preparation, then those of other users.
func (r *suite) runPhases(ctx context.Context) error {
	phases := []phase{{}, {prepared: true}}
	seen := map[*User]bool{nil: true}
	for i := range r.Attempts {
		if as := r.Attempts[i].As; !seen[as] {
			seen[as] = true
			phases = append(phases, phase{as: as})
		}
	}
	for _, p := range phases {
		if err := r.runPhase(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes the attempt's preparation, unless nothing can be made as its user.
func (r *suite) prepare(a *Attempt, setup *Setup) (undo func(), err error) {
	if a.As != nil && os.Geteuid() != 0 {
		return nil, errNotRoot
	}
	if a.Setup == nil {
		return nil, nil
	}
	return a.Setup(setup)
}

// giveLog lets the launcher of the phase write to the log.
func (r *suite) giveLog() error {
	if r.log == nil || r.as == nil || os.Geteuid() != 0 { // without root, nothing is started as another user
		return nil
	}
	f, err := os.OpenFile(r.log.path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err == nil {
		err = f.Chown(int(r.as.UID), int(r.as.GID))
		f.Close()
	}
	if err != nil {
		return fmt.Errorf("giving the log to %v: %w", r.as, err)
	}
	return nil
}
