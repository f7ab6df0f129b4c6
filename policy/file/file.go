// Package file turns what a user writes, a TOML file and flags, into a
// [policy.Policy] with only valid values, or into errors that say where and what
// would be right.
//
// There are two shapes. A document is what a file says: entries with positions,
// nothing resolved, an absent key has no entry. A policy.Policy is what results
// when the entries are applied to a base. Both are tied by one table of keys
// (keys.go), which the flags use too, so that they cannot come to mean different
// things.
//
// A key that is given replaces the base's value, lists included; a flag for paths
// or variables adds to the policy's lists.
package file

import (
	"errors"
	"fmt"
	"io"
	"os"
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

// Load returns the policy of that name: a file if the name contains a slash or
// ends in ".toml", else a built-in one. What a file leaves out is as in
// [Default].
//
// The error is [Errors] for what a file says wrongly; it wraps the errno when the
// file cannot be read.
func Load(name string) (policy.Policy, error) {
	if !strings.Contains(name, "/") && !strings.HasSuffix(name, ".toml") {
		return builtin(name)
	}
	data, err := read(name)
	if err != nil {
		return policy.Policy{}, fmt.Errorf("reading policy %q: %w", name, cause(err))
	}
	return Parse(name, data, Default())
}

// Parse applies the text of a policy file to base, which is not changed.
// filename is for the errors and becomes the policy's name. A file that extends a
// built-in policy is applied to that one instead of base.
//
// The error, if any, is of type [Errors] and holds all that is wrong, in the
// order of the file; of errors in the TOML syntax only the first.
func Parse(filename string, data []byte, base policy.Policy) (policy.Policy, error) {
	doc, errs := readDocument(filename, data)
	if len(errs) > 0 && doc == nil {
		return policy.Policy{}, errs
	}
	p := base.Clone()
	if ext, ok := doc.entry("extends"); ok {
		if from, err := builtin(singleName(ext.value)); err == nil {
			p = from
		}
	}
	p.Name = filename

	b := &builder{policy: &p, file: filename}
	for _, k := range keys {
		if e, ok := doc.entry(k.name); ok {
			b.key = k
			k.set(b, e.value)
		}
	}
	b.finishFile(doc)
	errs = append(errs, b.errs...)
	if len(errs) > 0 {
		return policy.Policy{}, errs.sorted()
	}
	return p, nil
}

// builtin returns the built-in policy of that name.
func builtin(name string) (policy.Policy, error) {
	if name == DefaultName {
		return Default(), nil
	}
	data, err := profiles.Read(name)
	if err != nil {
		return policy.Policy{}, fmt.Errorf("policy %q: no built-in policy has this name%s; there is %s; the name of a file contains a slash or ends in .toml: %w",
			name, didYouMean(name, profiles.Names()), strings.Join(profiles.Names(), ", "), os.ErrNotExist)
	}
	return Parse(name, data, Default())
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
