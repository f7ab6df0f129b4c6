package sandbox

import (
	"errors"
	"fmt"
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
type CommandError struct {
	Name string
	Err  error
	// Hint says what would help, or is empty.
	Hint string
}

func (e *CommandError) Error() string {
	if e.Hint != "" {
		return fmt.Sprintf("%s: %v (%s)", e.Name, e.Err, e.Hint)
	}
	return fmt.Sprintf("%s: %v", e.Name, e.Err)
}

func (e *CommandError) Unwrap() error { return e.Err }

// DescriptorError says that a descriptor would carry access into the sandbox that
// the policy gives to nobody.
type DescriptorError struct {
	FD   int
	What string // "the memory of process 12 (/proc/12/mem)"
}

func (e *DescriptorError) Error() string {
	return fmt.Sprintf("descriptor %d is %s, which the policy gives to nobody", e.FD, e.What)
}
