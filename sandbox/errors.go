package sandbox

import (
	"errors"
	"fmt"

	"github.com/memjail/memjail/sandbox/descriptors"
	"github.com/memjail/memjail/sandbox/program"
)

// ErrNothingEnforced means that no part of the policy can be applied, so that not even a
// best effort starts the program.
var ErrNothingEnforced = errors.New("nothing of the policy can be enforced here")

// UnenforceableError reports a restriction that was asked for and cannot be applied.
type UnenforceableError struct {
	What string // "the landlock domain"
	Err  error
}

func (e *UnenforceableError) Error() string { return fmt.Sprintf("%s: %v", e.What, e.Err) }

func (e *UnenforceableError) Unwrap() error { return e.Err }

// CommandError reports that the program cannot be found or executed, as opposed to a
// failure of memjail.
type CommandError = program.Error

// WorkingDirectoryError reports that the working directory was entered in another mount
// namespace.
type WorkingDirectoryError = descriptors.WorkingDirectoryError

// DescriptorError reports a descriptor that would carry access into the sandbox which no
// policy allows.
type DescriptorError = descriptors.Error

// effort collects the warnings of a preparation and decides whether a restriction that
// cannot be applied is an error.
type effort struct {
	best              bool // [Options.BestEffort]
	warnings, dropped []string
}

// Warn adds a line that is shown when the program is started.
func (e *effort) Warn(text string) { e.warnings = append(e.warnings, text) }

// DropOrFail handles a restriction that cannot be applied: it returns an
// [*UnenforceableError] or, with best effort, lists the restriction and returns nil.
func (e *effort) DropOrFail(what string, err error) error {
	failure := &UnenforceableError{What: what, Err: err}
	if !e.best {
		return failure
	}
	e.dropped = append(e.dropped, failure.Error())
	return nil
}
