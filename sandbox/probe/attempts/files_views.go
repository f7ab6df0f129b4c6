package attempts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

const (
	viewReference = "mount_namespaces(7), docs/policy.md (views)"
	// viewWhy: the default policy is about memory.
	viewWhy = `files outside memory stay as usual; paths.view = "private" with path rules hides what they do not grant`
	// viewSecret is the key of the directory that no policy grants.
	viewSecret = "view-secret"
)

// viewAttempts reach files that path rules do not grant, by all names that lead out of a private
// view. Without a view some of them, such as chmod(2), pass path rules.
func viewAttempts() []probe.Attempt {
	var all []probe.Attempt
	add := func(a probe.Attempt) {
		a.Route, a.Reference, a.Setup = "view", viewReference, makeViewSecret
		a.Promise, a.Why, a.ClosedBy = probe.PromiseOpen, viewWhy, hidesFiles
		all = append(all, a)
	}
	for _, way := range []struct {
		spelling, explain string
		path              func(s *probe.Env, v probe.Victim) (string, error)
		target            probe.Target
	}{
		{"path", "a file that is not granted, by its path", secretFile, probe.System},
		{"dotdot", "the same, by .. from the working directory", secretByParents, probe.System},
		{"symlink", "the same, by a symbolic link that the attacker makes", secretByLink, probe.System},
		{"self-root", "the same, by /proc/self/root", func(s *probe.Env, v probe.Victim) (string, error) {
			path, err := secretFile(s, v)
			return "/proc/self/root" + path, err
		}, probe.System},
		{"outside-root", "the same, by the root directory of a process outside",
			func(s *probe.Env, v probe.Victim) (string, error) {
				path, err := secretFile(s, v)
				return v.ProcDir("/proc") + "/root" + path, err
			}, probe.Outside},
		{"outside-cwd", "the same, by .. from the working directory of a process outside",
			func(s *probe.Env, v probe.Victim) (string, error) {
				path, err := secretFile(s, v)
				return v.ProcDir("/proc") + "/cwd/" + strings.Repeat("../", 32) + path, err
			}, probe.Outside},
	} {
		add(probe.Attempt{Spelling: way.spelling, Target: way.target, Effect: probe.Obtain, Explain: way.explain,
			Check: believed,
			Attack: func(s *probe.Env, v probe.Victim) probe.Outcome {
				path, err := way.path(s, v)
				if err != nil {
					return probe.Refused("preparing", err)
				}
				return readSecret(path)
			}})
	}
	add(probe.Attempt{Spelling: "chroot", Target: probe.System, Effect: probe.Obtain, Check: believed,
		Explain: "the same, after leaving a chroot(2) by a directory that was open before",
		Attack:  escapeChroot})
	metadataOutsideView(add)
	return all
}

// metadataOutsideView adds attempts that change or show what path rules do not cover.
func metadataOutsideView(add func(probe.Attempt)) {
	for _, way := range []struct {
		spelling string
		do       func(path string) error
	}{
		{"stat", func(path string) error { var st unix.Stat_t; return unix.Stat(path, &st) }},
		{"chmod", func(path string) error { return unix.Chmod(path, 0o600) }},
		{"utimensat", func(path string) error {
			return unix.UtimesNanoAt(unix.AT_FDCWD, path,
				make([]unix.Timespec, 2), 0)
		}},
		{"setxattr", func(path string) error { return unix.Setxattr(path, "user.memjail", []byte("x"), 0) }},
	} {
		add(probe.Attempt{Spelling: way.spelling, Target: probe.System, Effect: probe.Disturb, Check: believed,
			Explain: way.spelling + "(2) on a file that is not granted",
			Attack: func(s *probe.Env, v probe.Victim) probe.Outcome {
				path, err := secretFile(s, v)
				if err == nil {
					err = way.do(path)
				}
				if err != nil {
					return probe.Refused(way.spelling, err)
				}
				return probe.Did("%s of %s", way.spelling, path)
			}})
	}
}

// hidesFiles reports whether a policy hides what it does not grant.
func hidesFiles(p policy.Policy) bool {
	return p.Paths.View == policy.ViewPrivate && p.Paths.Rules.Restricted()
}

const secretText = "memjail's probe: not granted\n"

// makeViewSecret makes a file next to the suite's own directory, which is all that it grants.
func makeViewSecret(s *probe.Setup) (func(), error) {
	return s.Once(viewSecret, func() (func(), error) {
		dir, err := os.MkdirTemp(filepath.Dir(s.Dir), "memjail-probe-secret-")
		if err != nil {
			return nil, err
		}
		s.Values[viewSecret] = dir
		return func() { os.RemoveAll(dir) }, os.WriteFile(filepath.Join(dir, "file"), []byte(secretText), 0o644)
	})
}

func secretFile(s *probe.Env, _ probe.Victim) (string, error) {
	return filepath.Join(s.Values[viewSecret], "file"), nil
}

func secretByParents(s *probe.Env, _ probe.Victim) (string, error) {
	return strings.Repeat("../", 32) + strings.TrimPrefix(s.Values[viewSecret], "/") + "/file", nil
}

func secretByLink(s *probe.Env, _ probe.Victim) (string, error) {
	link := filepath.Join(s.Dir, "link")
	return link + "/file", os.Symlink(s.Values[viewSecret], link)
}

func readSecret(path string) probe.Outcome {
	text, err := os.ReadFile(path)
	switch {
	case err != nil:
		return probe.Refused("open", err)
	case string(text) != secretText:
		return probe.Outcome{Step: "read", Detail: "it is another file"}
	}
	return probe.Did("read %s", path)
}

// escapeChroot leaves a chroot by a directory descriptor from before it, and reads the secret
// relative to where .. ends then.
func escapeChroot(s *probe.Env, _ probe.Victim) probe.Outcome {
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // the runner's other threads stay where they are
		return probe.Refused("unshare", err)
	}
	before, err := unix.Open(s.Dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return probe.Refused("open", err)
	}
	defer unix.Close(before)
	inner := filepath.Join(s.Dir, "inner")
	if err := os.Mkdir(inner, 0o755); err != nil {
		return probe.Refused("mkdir", err)
	}
	if err := unix.Chroot(inner); err != nil {
		return probe.Refused("chroot", err)
	}
	fd, err := unix.Openat(before, strings.Repeat("../", 32)+strings.TrimPrefix(s.Values[viewSecret], "/")+"/file",
		unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return probe.Refused("openat", err)
	}
	defer unix.Close(fd)
	text := make([]byte, len(secretText))
	if n, err := unix.Read(fd, text); err != nil || string(text[:n]) != secretText {
		return probe.Refused("read", fmt.Errorf("%d bytes: %w", n, err))
	}
	return probe.Did("read the file from outside the chroot")
}
