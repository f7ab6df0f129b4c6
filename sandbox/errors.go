package sandbox

import (
	"errors"
	"fmt"

	"github.com/memjail/memjail/sandbox/descriptors"
	"github.com/memjail/memjail/sandbox/program"
)

// ErrNothingEnforced says that not even the part that a best effort needs could
// be applied.
var ErrNothingEnforced = errors.New("nothing of the policy can be enforced here")

// UnenforceableError says that a restriction that was asked for cannot be applied.
type UnenforceableError struct {
	What string // "the landlock domain"
	Err  error
}

func (e *UnenforceableError) Error() string { return fmt.Sprintf("%s: %v", e.What, e.Err) }

func (e *UnenforceableError) Unwrap() error { return e.Err }

// CommandError says that the program cannot be found or executed, as opposed to
// memjail failing.
type CommandError = program.Error

// WorkingDirectoryError says that the working directory was entered in another
// mount namespace.
type WorkingDirectoryError = descriptors.WorkingDirectoryError

// DescriptorError says that a descriptor would carry access into the sandbox that no
// policy allows.
type DescriptorError = descriptors.Error

// effort is what a preparation puts up with, and what it put up with.
type effort struct {
	best              bool // [Options.BestEffort]
	warnings, dropped []string
}

// Warn notes what is worth a line at the start.
func (e *effort) Warn(text string) { e.warnings = append(e.warnings, text) }

// DropOrFail decides what becomes of a restriction that cannot be applied: an error
// ([*UnenforceableError]), or with best effort a line in the list and nil.
func (e *effort) DropOrFail(what string, err error) error {
	failure := &UnenforceableError{What: what, Err: err}
	if !e.best {
		return failure
	}
	e.dropped = append(e.dropped, failure.Error())
	return nil
}
