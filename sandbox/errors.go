package sandbox

import (
	"errors"
	"fmt"

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
// mount namespace. To start elsewhere instead would have CMD's relative paths name
// other files than its caller meant.
type WorkingDirectoryError struct {
	Path string // as the kernel gives it, which is not where the path leads here
	// Hint says why the mounts differ, or is empty.
	Hint string
}

func (e *WorkingDirectoryError) Error() string {
	return fmt.Sprintf("the working directory (%s) lies on a mount that the sandbox does not see, "+
		"from where what is closed can be reached%s: change to another directory first (cd /)", e.Path, e.Hint)
}

// DescriptorError says that a descriptor would carry access into the sandbox that
// the policy gives to nobody.
type DescriptorError struct {
	FD   int
	What string // "the memory of process 12 (/proc/12/mem)"
	// Hint says what to do, or is empty.
	Hint string
}

func (e *DescriptorError) Error() string {
	text := fmt.Sprintf("descriptor %d is %s, which no policy allows", e.FD, e.What)
	if e.Hint != "" {
		text += ": " + e.Hint
	}
	return text
}
