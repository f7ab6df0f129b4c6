// Package program finds the program that a command names, the environment that it gets,
// and what it needs to start.
package program

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/closure"
	"golang.org/x/sys/unix"
)

// Error reports that a program cannot be found or executed, as opposed to a failure of
// memjail.
type Error struct {
	Name string
	Err  error
	// Hint is what would help, or empty.
	Hint string
}

func (e *Error) Error() string {
	if e.Hint != "" {
		return fmt.Sprintf("%s: %v (%s)", e.Name, e.Err, e.Hint)
	}
	return fmt.Sprintf("%s: %v", e.Name, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// defaultPath is where programs are looked for when PATH is not set, as by the C
// library.
const defaultPath = "/bin:/usr/bin"

// Find finds the file to execute as execvp(3) does: a name with a slash is
// a path, any other is looked for along PATH. The [*Error] wraps
// fs.ErrNotExist when there is none and the reason when it cannot be executed.
func Find(name string, env []string) (string, error) {
	if name == "" {
		return "", &Error{Name: `""`, Err: fs.ErrNotExist}
	}
	if strings.Contains(name, "/") {
		if err := Executable(name); err != nil {
			return "", &Error{Name: name, Err: err}
		}
		return name, nil
	}
	search := Getenv(env, "PATH")
	if search == "" {
		search = defaultPath
	}
	failure := error(fs.ErrNotExist)
	for _, dir := range filepath.SplitList(search) {
		if dir == "" {
			dir = "."
		}
		path := dir + "/" + name
		err := Executable(path)
		if err == nil {
			return path, nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			failure = err
		}
	}
	if errors.Is(failure, fs.ErrNotExist) {
		return "", &Error{Name: name, Err: fmt.Errorf("%w in any directory of PATH", errNotFound)}
	}
	return "", &Error{Name: name, Err: failure}
}

// errNotFound reads as a shell would say it.
var errNotFound = notFound{}

type notFound struct{}

func (notFound) Error() string        { return "not found" }
func (notFound) Is(target error) bool { return target == fs.ErrNotExist }

// Executable returns why a file cannot be executed, as far as the caller's own
// permissions tell.
func Executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		var wrapped *fs.PathError
		if errors.As(err, &wrapped) {
			return wrapped.Err
		}
		return err
	}
	if info.IsDir() {
		return unix.EISDIR
	}
	return unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS)
}

// With calls do with a program's absolute path and its environment. Errors: those of do; [*Error], it
// cannot be found or
// executed, or what it needs cannot be found ([*closure.Error]).
func With(e policy.Environment, name string, env []string, do func(path string, env []string) error) error {
	env, err := Environment(e, env)
	if err != nil {
		return err
	}
	path, err := Find(name, env)
	if err != nil {
		return err
	}
	if path, err = filepath.Abs(path); err != nil {
		return &Error{Name: name, Err: err}
	}
	err = do(path, env)
	var missing *closure.Error
	if errors.As(err, &missing) {
		return &Error{Name: name, Err: err}
	}
	return err
}
