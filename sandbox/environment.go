package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

// environment applies a policy's [environment] to env: what is not kept goes, what
// is set stands last.
func environment(e policy.Environment, env []string) ([]string, error) {
	var out []string
	patterns := e.Keep.List()
	for _, entry := range env {
		name, _, _ := strings.Cut(entry, "=")
		if _, replaced := e.Set[name]; !replaced && (!e.Keep.Restricted() || keeps(patterns, name)) {
			out = append(out, entry)
		}
	}
	names := make([]string, 0, len(e.Set))
	for name := range e.Set {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(e.Set[name], "\x00") {
			return nil, fmt.Errorf("setting the environment variable %q: %w", name, unix.EINVAL)
		}
		out = append(out, name+"="+e.Set[name])
	}
	return out, nil
}

func keeps(patterns []string, name string) bool {
	for _, pattern := range patterns {
		if prefix, open := strings.CutSuffix(pattern, "*"); name == pattern || open && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// lookup finds a variable in an environment; the last entry counts.
func lookup(env []string, name string) string {
	for i := len(env) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(env[i], name+"="); ok {
			return value
		}
	}
	return ""
}

// defaultPath is where programs are looked for when PATH is not set, as by the C
// library.
const defaultPath = "/bin:/usr/bin"

// findProgram finds the file to execute as execvp(3) does: a name with a slash is
// a path, any other is looked for along PATH. The [*CommandError] wraps
// fs.ErrNotExist when there is none and the reason when it cannot be executed.
func findProgram(name string, env []string) (string, error) {
	if name == "" {
		return "", &CommandError{Name: `""`, Err: fs.ErrNotExist}
	}
	if strings.Contains(name, "/") {
		if err := executable(name); err != nil {
			return "", &CommandError{Name: name, Err: err}
		}
		return name, nil
	}
	search := lookup(env, "PATH")
	if search == "" {
		search = defaultPath
	}
	failure := error(fs.ErrNotExist)
	for _, dir := range filepath.SplitList(search) {
		if dir == "" {
			dir = "."
		}
		path := dir + "/" + name
		err := executable(path)
		if err == nil {
			return path, nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			failure = err
		}
	}
	if errors.Is(failure, fs.ErrNotExist) {
		return "", &CommandError{Name: name, Err: fmt.Errorf("%w in any directory of PATH", errNotFound)}
	}
	return "", &CommandError{Name: name, Err: failure}
}

// errNotFound reads as a shell would say it.
var errNotFound = notFound{}

type notFound struct{}

func (notFound) Error() string        { return "not found" }
func (notFound) Is(target error) bool { return target == fs.ErrNotExist }

// executable says why a file cannot be executed, as far as the caller's own
// permissions tell.
func executable(path string) error {
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
