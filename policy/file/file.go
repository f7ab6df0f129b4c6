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
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

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

// Load returns the policy of some layers, the lowest first; usually there is one. Each is
// the name of a file, if it contains a slash or ends in ".toml", or else that of a built-in
// policy or of a file in the user's or the system's directory of policies. Variables have the
// values of the process's environment and working directory. Keys that a file leaves out are
// as in [Default]. Tests that these variables do not suffice for are left out.
//
// The error is [Errors] for mistakes in a file. It wraps the errno if a file cannot be
// read, and [os.ErrNotExist] for an unknown name.
func Load(names ...string) (policy.Policy, error) {
	l := Current()
	if len(names) == 1 && names[0] == DefaultName {
		_, err := l.Find(DefaultName)
		return Default(), err
	}
	l.Untested = true
	return l.Load(names...)
}

// LoadTested is [Load] with all tests, also those of the policy "memory", which Load returns
// without parsing its text. A test whose variables have no value is an error.
func LoadTested(names ...string) (policy.Policy, error) { return Current().Load(names...) }

// Current returns a Loader with the environment and working directory of the process.
func Current() Loader {
	dir, err := os.Getwd()
	if err != nil {
		dir = "" // an error only for a policy that uses it
	}
	return Loader{Env: os.Environ(), Dir: dir}
}

// Loader reads policies. The results depend on its fields and the files only.
type Loader struct {
	// Env are the variables for policies, NAME=VALUE. Of several with the same name the
	// last one counts.
	Env []string
	// Dir is the absolute path that ${PWD} stands for; empty if it is not known.
	Dir string
	// Directories are where policies are looked up by name. If it is nil, they are the
	// user's, by XDG_CONFIG_HOME or HOME, and [SystemPolicies].
	Directories []string
	// Untested is set for a policy that is to be enforced and not tried: tests whose
	// variables have no value are left out.
	Untested bool
	// ReadFile reads a policy file. If it is nil, files are read from the file system.
	ReadFile func(name string) ([]byte, error)

	// builtinOnly is set if other layers are left out, and whether there are any.
	builtinOnly *bool
}

// Load is the function [LoadTested] with the environment and files of the Loader. The tests
// of "memory" belong to that policy alone, although all others start from it.
func (l Loader) Load(names ...string) (policy.Policy, error) {
	var texts []text
	for _, name := range names {
		if name == DefaultName && len(names) > 1 {
			continue // the lowest layer of every policy
		}
		from, data, err := l.open(name)
		if err != nil {
			return policy.Policy{}, err
		}
		texts = append(texts, text{from, data})
	}
	if len(texts) == 0 {
		return l.Load(DefaultName)
	}
	return l.resolve(Default(), texts...)
}

// Parse applies the text of a policy file to base, which is not changed.
// filename is for the errors and becomes the policy's name. A file that extends
// others is applied to [Default] and those instead of base.
//
// The error, if any, is of type [Errors] and holds all that is wrong, by layer and
// in the order of the file; of errors in the TOML syntax of a file only the first.
func (l Loader) Parse(filename string, data []byte, base policy.Policy) (policy.Policy, error) {
	return l.resolve(base, text{source{name: filename}, data})
}

// Parse is [Loader.Parse] without an environment: no variable has a value.
func Parse(filename string, data []byte, base policy.Policy) (policy.Policy, error) {
	return Loader{}.Parse(filename, data, base)
}

// Builtin returns the policy of the built-in layers alone, and reports whether there are
// others.
func (l Loader) Builtin(names ...string) (p policy.Policy, others bool, err error) {
	l.builtinOnly = &others
	p, err = l.Load(names...)
	return p, others, err
}

// text is the content of a policy file.
type text struct {
	from source
	data []byte
}

// resolve applies the layers to base, or to [Default] if one of them extends others.
func (l Loader) resolve(base policy.Policy, texts ...text) (policy.Policy, error) {
	s := stack{loader: l}
	var names []string
	for _, t := range texts {
		names = append(names, t.from.title())
		if !slices.Contains(s.seen, t.from) {
			s.push(t.from, t.data)
		}
	}
	p := base.Clone()
	if s.extends {
		p = Default()
	}
	p.Name = strings.Join(names, "+")
	for _, layer := range s.layers {
		if l.builtinOnly != nil && !layer.from.builtin {
			*l.builtinOnly = true
			continue
		}
		b := &builder{policy: &p, file: layer.from.String(), name: layer.from.name, scope: scope{l.Env, l.Dir},
			untested: l.Untested}
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

func (l Loader) readFile(name string) ([]byte, error) {
	if l.ReadFile != nil {
		return l.ReadFile(name)
	}
	return read(name)
}

// read returns the content of a file, which may be a pipe (<(command) in a shell). A FIFO that
// nobody has open for writing is an error: to open one waits for ever otherwise.
func read(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err == nil && len(data) == 0 && st.Mode()&fs.ModeNamedPipe != 0 {
		return nil, errors.New("it is a FIFO to which nobody writes")
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
