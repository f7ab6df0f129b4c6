// Package file turns what a user writes, a TOML file and flags, into a
// [policy.Policy] with only valid values, or into errors that say where and what
// would be right.
//
// There are two shapes. A document is what a file says: entries with positions,
// nothing resolved, an absent key has no entry. A policy.Policy is what results
// when the entries are applied to a base. Both are tied by one table of keys
// (keys.go), which the flags use too, so that they cannot come to mean different
// things; the JSON schema and the text of a resolved policy are made from it.
//
// # Layers
//
// A policy is made of layers: the built-in policy "memory", what the file
// extends, in that order and each once, the file itself, the flags. Each layer
// changes only what it says:
//
//   - a key with one value replaces the value;
//   - procfs.write, a choice out of a closed set, replaces the choice;
//   - any other list or table adds to the one before, and an empty one empties it;
//   - a path has the rights of the last layer that names it;
//   - a test replaces the test of the same name.
//
// Where a list that is absent means "as usual" (the four path lists together,
// environment.keep, the lists of [network]), the first layer that has it closes
// everything else; no later layer can make it absent again. So a layer allows
// what the layers below it allow and what it names, and nothing more.
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

// DefaultName is the built-in policy that holds when none is asked for.
const DefaultName = "memory"

// maxSize bounds what is read of a file, in bytes: a policy is some kilobytes.
const maxSize = 1 << 20

// Default returns the built-in policy "memory" without parsing it: it is in the
// way of every start. A test holds that the profile's text says the same.
func Default() policy.Policy {
	return policy.Policy{
		Name: DefaultName,
		Procfs: policy.Procfs{
			Write: []policy.ProcfsWrite{policy.WriteComm, policy.WriteOOMScoreAdj},
		},
		IPC: policy.IPC{AbstractSockets: policy.ScopeAll},
	}
}

// Load returns the policy of that name for a start: a file if the name contains a
// slash or ends in ".toml", else a built-in one. Variables are taken from the
// process's environment and working directory. What a file leaves out is as in
// [Default].
//
// The error is [Errors] for what a file says wrongly; it wraps the errno when the
// file cannot be read.
func Load(name string) (policy.Policy, error) {
	if name == DefaultName {
		return Default(), nil
	}
	return LoadTested(name)
}

// LoadTested is [Load] for a policy that is to be proven: "memory", which a start
// takes without its text, comes with the tests in it like every other one.
func LoadTested(name string) (policy.Policy, error) {
	dir, err := os.Getwd()
	if err != nil {
		dir = "" // a policy that uses it says that it is not known
	}
	return Loader{Env: os.Environ(), Dir: dir}.Load(name)
}

// Loader reads policies. What it does is a function of its fields and the files.
type Loader struct {
	// Env are the variables that a policy can use, NAME=VALUE; of two with one
	// name the last counts.
	Env []string
	// Dir is what ${PWD} stands for, absolute; empty is "not known".
	Dir string
	// ReadFile reads a policy file; nil reads it from the file system.
	ReadFile func(name string) ([]byte, error)
}

// Load returns the policy of that name, as the function [Load] does but for the
// question of what can be enforced. A built-in policy comes with its tests; those
// of "memory" are its own and no other policy's, although all start from it.
func (l Loader) Load(name string) (policy.Policy, error) {
	if isBuiltin(name) {
		data, err := profiles.Read(name)
		if err != nil {
			return policy.Policy{}, fmt.Errorf("policy %q: no built-in policy has this name%s; there is %s; the name of a file contains a slash or ends in .toml: %w",
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

// isBuiltin tells by its form whether a name means a built-in policy.
func isBuiltin(name string) bool {
	return !strings.Contains(name, "/") && !strings.HasSuffix(name, ".toml")
}

func (l Loader) readFile(name string) ([]byte, error) {
	if l.ReadFile != nil {
		return l.ReadFile(name)
	}
	return read(name)
}

// read returns a file's content. It may be a pipe (a shell's <(command)).
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

// cause strips the operation and the path, which the caller's message has.
func cause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
