// Package file turns what a user writes, a TOML file and flags, into a valid
// [policy.Policy], or into errors that name the place and what would be right there.
//
// There are two types. A document is the content of a file: entries with positions,
// nothing resolved, no entry for an absent key. A policy.Policy results when the entries
// are applied to a base. One table of keys (keys.go) connects the two. Flags, the JSON
// schema and the text of a resolved policy derive from it as well, so that all of them
// agree.
//
// # Layers
//
// A policy consists of layers: the built-in policy "memory", what the file extends, in that
// order and each once, the file itself, the flags. A layer changes only the keys that it
// has:
//
//   - a key with one value replaces the value;
//   - procfs.write, a choice from a closed set, replaces the choice;
//   - any other list or table adds to the one below, and an empty one empties it;
//   - the last layer that lists a path decides its rights, and whether it may be missing;
//   - a test replaces the test of the same name.
//
// Some lists mean "as usual" while they are absent: the lists of path rules together,
// environment.keep, and those of [network]. The first layer that has such a list closes
// everything else, and no later layer can make it absent again (but for network.unix =
// "all"). So a layer allows what the layers below allow and what it lists, and nothing
// more.
package file

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/profiles"
)

// DefaultName is the built-in policy that applies if no other is chosen.
const DefaultName = "memory"

// maxSize bounds the size of a file, in bytes. Policies have some kilobytes.
const maxSize = 1 << 20

// Default returns the built-in policy "memory" without parsing it, since every start needs
// it. A test checks that the text of the profile means the same.
func Default() policy.Policy {
	return policy.Policy{
		Name: DefaultName,
		Procfs: policy.Procfs{
			Write: []policy.ProcfsWrite{policy.WriteComm, policy.WriteOOMScoreAdj},
		},
		IPC: policy.IPC{AbstractSockets: policy.ScopeAll},
	}
}

// Load returns the policy with a name: a file if the name contains a slash or ends in
// ".toml", otherwise a built-in policy. Variables have the values of the process's
// environment and working directory. Keys that a file leaves out are as in [Default].
//
// The error is [Errors] for mistakes in a file. It wraps the errno if a file cannot be
// read, and [os.ErrNotExist] for an unknown built-in policy.
func Load(name string) (policy.Policy, error) {
	if name == DefaultName {
		return Default(), nil
	}
	return LoadTested(name)
}

// LoadTested is [Load] with the tests of the policy "memory", which Load returns without
// parsing its text.
func LoadTested(name string) (policy.Policy, error) {
	dir, err := os.Getwd()
	if err != nil {
		dir = "" // an error only for a policy that uses it
	}
	return Loader{Env: os.Environ(), Dir: dir}.Load(name)
}

// Loader reads policies. The results depend on its fields and the files only.
type Loader struct {
	// Env are the variables for policies, NAME=VALUE. Of several with the same name the
	// last one counts.
	Env []string
	// Dir is the absolute path that ${PWD} stands for; empty if it is not known.
	Dir string
	// ReadFile reads a policy file. If it is nil, files are read from the file system.
	ReadFile func(name string) ([]byte, error)
}

// Load is the function [LoadTested] with the environment and files of the Loader. The tests
// of "memory" belong to that policy alone, although all others start from it.
func (l Loader) Load(name string) (policy.Policy, error) {
	if isBuiltin(name) {
		data, err := profiles.Read(name)
		if err != nil {
			return policy.Policy{}, fmt.Errorf(
				"policy %q: no such built-in policy%s: want %s, or a file, whose name contains a slash "+
					"or ends in .toml: %w",
				name, didYouMean(name, profiles.Names()), strings.Join(builtinNames(), ", "), os.ErrNotExist)
		}
		return l.resolve(source{name: name, builtin: true}, data, Default())
	}
	data, err := l.readFile(name)
	if err != nil {
		return policy.Policy{}, fmt.Errorf("reading policy %q: %w", name, cause(err))
	}
	return l.resolve(source{name: name}, data, Default())
}

// Parse applies the text of a policy file to base, which is not changed.
// filename is for the errors and becomes the policy's name. A file that extends
// others is applied to [Default] and those instead of base.
//
// The error, if any, is of type [Errors] and holds all that is wrong, by layer and
// in the order of the file; of errors in the TOML syntax of a file only the first.
func (l Loader) Parse(filename string, data []byte, base policy.Policy) (policy.Policy, error) {
	return l.resolve(source{name: filename}, data, base)
}

// Parse is [Loader.Parse] without an environment: no variable has a value.
func Parse(filename string, data []byte, base policy.Policy) (policy.Policy, error) {
	return Loader{}.Parse(filename, data, base)
}

func (l Loader) resolve(from source, data []byte, base policy.Policy) (policy.Policy, error) {
	s := stack{loader: l}
	s.push(from, data)
	p := base.Clone()
	if s.extends {
		p = Default()
	}
	p.Name = from.name
	for _, layer := range s.layers {
		b := &builder{policy: &p, file: layer.from.String(), name: layer.from.name, scope: scope{l.Env, l.Dir}}
		b.kind = policy.OriginFile
		if layer.from.builtin {
			b.kind = policy.OriginBuiltin
		}
		b.apply(layer.doc)
		s.errs = append(s.errs, append(layer.errs, b.errs...).sorted()...)
	}
	if len(s.errs) > 0 {
		return policy.Policy{}, s.errs
	}
	return p, nil
}

// builtinNames lists the built-in policies for a message, the default first.
func builtinNames() []string {
	others := slices.DeleteFunc(profiles.Names(), func(name string) bool { return name == DefaultName })
	return append([]string{DefaultName}, others...)
}

// isBuiltin reports whether a name has the form of a built-in policy's.
func isBuiltin(name string) bool {
	return !strings.Contains(name, "/") && !strings.HasSuffix(name, ".toml")
}

func (l Loader) readFile(name string) ([]byte, error) {
	if l.ReadFile != nil {
		return l.ReadFile(name)
	}
	return read(name)
}

// read returns the content of a file, which may be a pipe (<(command) in a shell).
func read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSize {
		return nil, fmt.Errorf("larger than %d bytes", maxSize)
	}
	return data, nil
}

// cause strips the operation and the path, which the message of the caller has.
func cause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
