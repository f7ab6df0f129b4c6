package jail

import (
	"errors"
	"io/fs"
	"os/exec"
	"strings"

	"github.com/memjail/memjail/sandbox"
	"golang.org/x/sys/unix"
)

// A launcher reports why its command did not run. The text of that error, and its identity
// for errors.Is, have to survive the way from one process to the other.

// result is what a launcher reports. Begun: the process was a launcher.
type result struct {
	Begun   bool
	Notes   []string
	Failure *failure // why the command did not run
}

// failure is an error on its way from the launcher.
type failure struct {
	Text string
	// Command: the command cannot be found or executed; otherwise the sandbox could not
	// be made.
	Command bool
	Errno   unix.Errno // 0: none
	Is      []string   // names of identities
}

// identities are the errors that callers compare with.
var identities = map[string]error{
	"exec.ErrNotFound":      exec.ErrNotFound,
	"fs.ErrNotExist":        fs.ErrNotExist,
	"fs.ErrPermission":      fs.ErrPermission,
	"errors.ErrUnsupported": errors.ErrUnsupported,
}

// describe turns an error into a failure, and nil into nil.
func describe(err error) *failure {
	if err == nil {
		return nil
	}
	f := &failure{Text: err.Error()}
	var command *sandbox.CommandError
	if f.Command = errors.As(err, &command); f.Command {
		f.Text = command.Err.Error() // hints name flags
	}
	errors.As(err, &f.Errno)
	for name, identity := range identities {
		if errors.Is(err, identity) {
			f.Is = append(f.Is, name)
		}
	}
	switch {
	case f.Command && errors.Is(err, fs.ErrNotExist) && !strings.Contains(command.Name, "/"):
		f.Is = append(f.Is, "exec.ErrNotFound") // as exec.LookPath says of a name
	case f.Command && f.Errno == unix.EISDIR:
		f.Is = append(f.Is, "fs.ErrPermission") // as execve(2) says of a directory
	}
	return f
}

// error turns a failure into a [*sandbox.CommandError] or a [*StartError].
func (f *failure) error(name string) error {
	cause := &remoteError{text: f.Text}
	if f.Errno != 0 {
		cause.is = append(cause.is, f.Errno)
	}
	for _, name := range f.Is {
		if identity, ok := identities[name]; ok {
			cause.is = append(cause.is, identity)
		}
	}
	if f.Command {
		return &sandbox.CommandError{Name: name, Err: cause}
	}
	return &StartError{Err: cause}
}

// remoteError is an error of a launcher.
type remoteError struct {
	text string
	is   []error
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.is }
