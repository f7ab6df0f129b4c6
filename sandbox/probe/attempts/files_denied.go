package attempts

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel/landlockabi"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

const (
	denyReference = "mount_namespaces(7), docs/policy.md (deny)"
	denyWhy       = "files outside memory stay as usual; paths.deny closes those that it lists, inside what is granted"
	deniedKey     = "denied"

	socketReference = "unix(7), docs/policy.md (unix)"
	socketWhy       = `UNIX sockets stay as usual; network.unix = "own" leaves those that are made inside`
	socketKey       = "outside-socket"
	abstractKey     = "outside-abstract-socket"
)

// deniedAttempts are after a file that paths.deny closes in a directory that is granted, by each
// kind of name and by putting another in its place.
func deniedAttempts() []probe.Attempt {
	var all []probe.Attempt
	add := func(spelling, explain string, effect probe.Effect, do func(dir, own string) probe.Outcome) {
		all = append(all, probe.Attempt{Route: "denied-path", Spelling: spelling, Explain: explain,
			Target: probe.System, Effect: effect, Reference: denyReference, Promise: probe.PromiseOpen, Why: denyWhy,
			ClosedBy: func(p policy.Policy) bool { return len(p.Paths.Deny) > 0 }, Setup: makeDenied, Check: believed,
			Attack: func(s *probe.Env, _ probe.Victim) probe.Outcome { return do(s.Values[deniedKey], s.Dir) }})
	}
	for _, way := range []struct {
		spelling, explain string
		name              func(dir, own string) (string, error)
	}{
		{"path", "a file in a denied directory, by its path", func(dir, _ string) (string, error) {
			return dir + "/closed/file", nil
		}},
		{"dotdot", "the same, by .. from the working directory", func(dir, _ string) (string, error) {
			return strings.Repeat("../", 32) + strings.TrimPrefix(dir, "/") + "/closed/file", nil
		}},
		{"self-root", "the same, by /proc/self/root", func(dir, _ string) (string, error) {
			return "/proc/self/root" + dir + "/closed/file", nil
		}},
		{"symlink", "the same, by a symbolic link that the attacker makes", func(dir, own string) (string, error) {
			return own + "/link/file", os.Symlink(dir+"/closed", own+"/link")
		}},
		{"descriptor", "the same, below a descriptor of the directory above", func(dir, _ string) (string, error) {
			fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
			return fmt.Sprintf("/proc/self/fd/%d/closed/file", fd), err
		}},
		{"hard-link", "the same, by a hard link that the attacker makes", func(dir, own string) (string, error) {
			return own + "/hard", os.Link(dir+"/closed/file", own+"/hard")
		}},
	} {
		add(way.spelling, way.explain, probe.Obtain, func(dir, own string) probe.Outcome {
			path, err := way.name(dir, own)
			if err != nil {
				return probe.Refused("preparing", err)
			}
			return readSecret(path)
		})
	}
	add("renamed", "the same, after the directory was renamed", probe.Obtain, func(dir, _ string) probe.Outcome {
		if err := os.Rename(dir+"/closed", dir+"/moved"); err != nil {
			return probe.Refused("rename", err)
		}
		defer os.Rename(dir+"/moved", dir+"/closed") // the next attempt looks for it there
		return readSecret(dir + "/moved/file")
	})
	for _, way := range []struct {
		spelling, explain string
		do                func(file string) error
	}{
		{"write", "a file in a denied directory is opened for writing", func(file string) error {
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			if err == nil {
				err = f.Close()
			}
			return err
		}},
		{"chmod", "its mode is changed", func(file string) error { return unix.Chmod(file, 0o644) }},
		{"list", "the names in a denied directory are read", func(file string) error {
			names, err := os.ReadDir(filepath.Dir(file))
			if err == nil && len(names) == 0 {
				err = errors.New("an empty directory is in its place")
			}
			return err
		}},
	} {
		add(way.spelling, way.explain, probe.Disturb, func(dir, _ string) probe.Outcome {
			if err := way.do(dir + "/closed/file"); err != nil {
				return probe.Refused(way.spelling, err)
			}
			return probe.Did("%s of %s", way.spelling, dir)
		})
	}
	return all
}

// DeniedDirectory is where a suite that works in dir has the files of which the attempts about
// denied paths are after: whoever starts a launcher under a policy that denies paths has it grant
// this directory, and deny "closed" in it.
func DeniedDirectory(dir string) string { return dir + "-denied" }

// MakeDenied makes the directory with its file.
func MakeDenied(dir string) error {
	closed := filepath.Join(DeniedDirectory(dir), "closed")
	return errors.Join(os.MkdirAll(closed, 0o755),
		os.WriteFile(filepath.Join(closed, "file"), []byte(secretText), 0o644))
}

func makeDenied(s *probe.Setup) (func(), error) {
	return s.Once(deniedKey, func() (func(), error) {
		dir := DeniedDirectory(s.Dir)
		s.Values[deniedKey] = dir
		if _, err := os.Lstat(dir); err == nil {
			return nil, nil // the launcher's flags name it
		}
		return func() { os.RemoveAll(dir) }, MakeDenied(s.Dir)
	})
}

// socketAttempts connect to UNIX sockets of a process outside.
func socketAttempts() []probe.Attempt {
	var all []probe.Attempt
	add := func(a probe.Attempt, address func(s *probe.Env) (string, error)) {
		a.Route, a.Target, a.Effect, a.Reference = "unix-socket", probe.Outside, probe.Obtain, socketReference
		a.Promise, a.Why, a.Setup, a.Check = probe.PromiseOpen, socketWhy, listenOutside, believed
		a.ClosedBy = func(p policy.Policy) bool { return p.Network.OwnUnix() }
		a.Attack = func(s *probe.Env, _ probe.Victim) probe.Outcome {
			name, err := address(s)
			if err != nil {
				return probe.Refused("preparing", err)
			}
			return askSocket(name)
		}
		all = append(all, a)
	}
	add(probe.Attempt{Spelling: "path", Explain: "a socket in a granted directory, by its path"},
		func(s *probe.Env) (string, error) { return s.Values[socketKey], nil })
	add(probe.Attempt{Spelling: "descriptor", Explain: "the same, below a descriptor of the directory"},
		func(s *probe.Env) (string, error) {
			fd, err := unix.Open(filepath.Dir(s.Values[socketKey]), unix.O_PATH|unix.O_CLOEXEC, 0)
			return fmt.Sprintf("/proc/self/fd/%d/%s", fd, filepath.Base(s.Values[socketKey])), err
		})
	add(probe.Attempt{Spelling: "symlink", Explain: "the same, by a symbolic link that the attacker makes"},
		func(s *probe.Env) (string, error) {
			link := filepath.Join(s.Dir, "link")
			return link, os.Symlink(s.Values[socketKey], link)
		})
	add(probe.Attempt{Spelling: "hard-link", Explain: "the same, by a hard link that the attacker makes"},
		func(s *probe.Env) (string, error) {
			link := filepath.Join(s.Dir, "hard")
			return link, os.Link(s.Values[socketKey], link)
		})
	add(probe.Attempt{Spelling: "abstract", Explain: "a socket with an abstract name", Needs: func() string {
		if abi, err := landlockabi.LandlockGetABIVersion(); err != nil || abi < scopesABI {
			return "Landlock ABI 6 (Linux 6.12), which keeps abstract sockets inside"
		}
		return ""
	}}, func(s *probe.Env) (string, error) { return "@" + s.Values[abstractKey], nil })
	return all
}

// scopesABI is the first Landlock ABI that can keep a process from abstract sockets outside.
const scopesABI = 6

// listenOutside listens on the sockets and sends each that connects the secret.
func listenOutside(s *probe.Setup) (func(), error) {
	return s.Once(socketKey, func() (func(), error) {
		var listeners []net.Listener
		undo := func() {
			for _, l := range listeners {
				l.Close()
			}
		}
		s.Values[socketKey] = filepath.Join(s.Dir, "outside")
		s.Values[abstractKey] = "memjail-probe" + s.Dir
		for _, address := range []string{s.Values[socketKey], "@" + s.Values[abstractKey]} {
			l, err := net.Listen("unix", address)
			if err != nil {
				return undo, err
			}
			listeners = append(listeners, l)
			go answer(l)
		}
		return undo, os.Chmod(s.Values[socketKey], 0o777)
	})
}

func answer(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		io.WriteString(c, secretText)
		c.Close()
	}
}

func askSocket(address string) probe.Outcome {
	c, err := net.Dial("unix", address)
	if err != nil {
		return probe.Refused("connect", err)
	}
	defer c.Close()
	text, err := io.ReadAll(c)
	if err != nil || string(text) != secretText {
		return probe.Refused("read", fmt.Errorf("%d bytes: %w", len(text), err))
	}
	return probe.Did("%s answered", address)
}
