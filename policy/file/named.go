package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/memjail/memjail/profiles"
)

// SystemPolicies is the directory in which an administrator keeps policies that are used by
// name, each in a file NAME.toml.
const SystemPolicies = "/etc/memjail/policies"

const suffix = ".toml"

// IsName reports whether a policy is given by its name and not by that of a file.
func IsName(policy string) bool {
	return profiles.IsService(policy) || !strings.Contains(policy, "/") && !strings.HasSuffix(policy, suffix)
}

// Named is a policy that can be used by name.
type Named struct {
	Name string
	// File is where it is; "" for a built-in policy.
	File string
	// Text describes it: the first line of the file, if that is a comment.
	Text string
	// Unusable is why the name does not lead to this file, or "".
	Unusable string
}

// errDistrusted is why a policy is not used by its name: users could choose the policy of
// others.
type errDistrusted struct{ place, why string }

func (e *errDistrusted) Error() string {
	return fmt.Sprintf("not used by its name, because of %s: %s; it can be given by its path", e.place, e.why)
}

// directories returns where policies are looked up by name, in this order. The first is the
// user's own.
func (l Loader) directories() []string {
	if l.Directories != nil {
		return l.Directories
	}
	config, _ := scope{env: l.Env}.lookup(envPrefix + "XDG_CONFIG_HOME")
	if !filepath.IsAbs(config) {
		if home, _ := (scope{env: l.Env}).lookup("HOME"); filepath.IsAbs(home) {
			config = filepath.Join(home, ".config")
		} else {
			return []string{SystemPolicies}
		}
	}
	return []string{filepath.Join(config, "memjail", "policies"), SystemPolicies}
}

// Find returns the file that a policy's name leads to, or "" for a built-in policy. The error
// wraps [os.ErrNotExist] if there is no such policy.
func (l Loader) Find(name string) (string, error) {
	from, _, err := l.find(name)
	if err != nil || from.builtin {
		return "", err
	}
	return from.name, nil
}

// open finds a policy and reads it.
func (l Loader) open(name string) (source, []byte, error) {
	from, data, err := l.find(name)
	if err == nil && from.builtin {
		data, err = profiles.Read(name)
	}
	return from, data, err
}

// find finds a policy, and reads it unless it is a built-in one. A name leads to the first of the directories that has
// such a file; one that has the name of a built-in policy is an error, so that neither hides
// the other.
func (l Loader) find(name string) (source, []byte, error) {
	if !IsName(name) {
		data, err := l.readFile(name)
		if err != nil {
			return source{}, nil, fmt.Errorf("reading policy %q: %w", name, cause(err))
		}
		return source{name: name}, data, nil
	}
	builtin := profiles.Has(name)
	var unusable []error
	for _, dir := range l.directories() {
		path := filepath.Join(dir, name+suffix)
		data, err := l.readNamed(path)
		switch {
		case err != nil:
			if !missing(err) {
				unusable = append(unusable, fmt.Errorf("%q: %w", path, cause(err)))
			}
		case builtin:
			return source{}, nil, fmt.Errorf("policy %q: %w", name,
				fmt.Errorf("the file %q has the name of a built-in policy: rename the file", path))
		default:
			return source{name: path, given: name}, data, nil
		}
	}
	if builtin {
		return source{name: name, builtin: true}, nil, nil
	}
	if len(unusable) > 0 {
		return source{}, nil, fmt.Errorf("policy %q: %w", name, errors.Join(unusable...))
	}
	return source{}, nil, fmt.Errorf("policy %q: %w", name, &unknownError{l.others(name)})
}

// unknownError: no policy has that name.
type unknownError struct{ others string }

func (e *unknownError) Error() string        { return "no such policy" + e.others }
func (e *unknownError) Is(target error) bool { return target == fs.ErrNotExist }

// missing reports whether an error says that there is no such file.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// others is the end of a message about an unknown name: what would be right.
func (l Loader) others(name string) string {
	var names, short []string
	for _, n := range l.Named() {
		if n.Unusable != "" {
			continue
		}
		names = append(names, n.Name)
		if !profiles.IsService(n.Name) { // there are many, each for one service
			short = append(short, n.Name)
		}
	}
	return fmt.Sprintf("%s: want %s, or a file, whose name contains a slash or ends in .toml",
		didYouMean(name, names), strings.Join(short, ", "))
}

// Named lists the policies that can be used by name: the built-in ones, the default first,
// and then those of each directory.
func (l Loader) Named() []Named {
	var list []Named
	for _, name := range builtinNames() {
		text, _ := profiles.Describe(name)
		list = append(list, Named{Name: name, Text: text})
	}
	for _, dir := range l.directories() {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if name, ok := strings.CutSuffix(e.Name(), suffix); ok && name != "" {
				list = append(list, l.describe(name, filepath.Join(dir, e.Name()), list))
			}
		}
	}
	return list
}

// describe describes a file, given the policies that come before it.
func (l Loader) describe(name, path string, before []Named) Named {
	n := Named{Name: name, File: path}
	data, err := l.readNamed(path)
	if err != nil {
		n.Unusable = cause(err).Error()
		return n
	}
	if first, _, _ := strings.Cut(string(data), "\n"); strings.HasPrefix(first, "#") {
		n.Text = strings.TrimPrefix(strings.TrimSpace(strings.TrimLeft(first, "#")), name+": ")
	}
	if at := slices.IndexFunc(before, func(o Named) bool { return o.Name == name && o.Unusable == "" }); at >= 0 {
		n.Unusable = "it has the name of a built-in policy"
		if before[at].File != "" {
			n.Unusable = before[at].File + " comes before it"
		}
	}
	return n
}

// readNamed reads a file that is used by name. Nobody but root and the user himself may be
// able to decide what the name means.
func (l Loader) readNamed(path string) ([]byte, error) {
	if l.ReadFile != nil {
		return l.ReadFile(path)
	}
	if _, err := os.Lstat(path); err != nil { // most often, and cheaper
		return nil, err
	}
	real, err := trustedPath(path)
	if err != nil {
		return nil, err
	}
	return read(real)
}

// maxLinks bounds the symbolic links on the way to a file, like the kernel.
const maxLinks = 40

// trustedPath resolves a path all of whose directories and links only root and the user can
// change.
func trustedPath(path string) (string, error) {
	rest := strings.Split(filepath.Clean(path), "/")
	real := ""
	for links := 0; ; {
		at := real + "/"
		if real != "" {
			at = real
		}
		info, err := os.Lstat(at)
		if err != nil {
			return "", err
		}
		if why := othersChange(info); why != "" {
			return "", &errDistrusted{at, why}
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(at)
			if links++; err != nil || links > maxLinks {
				return "", fmt.Errorf("%q: too many symbolic links", path)
			}
			rest = append(strings.Split(target, "/"), rest...)
			if real = filepath.Dir(real); strings.HasPrefix(target, "/") || real == "/" {
				real = ""
			}
		}
		for len(rest) > 0 && (rest[0] == "" || rest[0] == ".") {
			rest = rest[1:]
		}
		switch {
		case len(rest) == 0:
			return at, nil
		case rest[0] == "..":
			if real = filepath.Dir(real); real == "/" || real == "." {
				real = ""
			}
		default:
			real += "/" + rest[0]
		}
		rest = rest[1:]
	}
}
