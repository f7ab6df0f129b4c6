// Package profiles holds the built-in policies as the files they are: each is
// commented and can be copied as the start of a policy of one's own. What they
// mean is decided by package policy/file.
package profiles

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

//go:embed *.toml
var files embed.FS

const suffix = ".toml"

// Read returns the text of the built-in policy of that name ("memory"). The
// error wraps [fs.ErrNotExist] when there is none.
func Read(name string) ([]byte, error) {
	// A name with a separator could not be a built-in one, and embed.FS would
	// answer it with an error that does not say so.
	if strings.Contains(name, "/") {
		return nil, fmt.Errorf("reading built-in policy %q: %w", name, fs.ErrNotExist)
	}
	data, err := files.ReadFile(name + suffix)
	if err != nil {
		return nil, fmt.Errorf("reading built-in policy %q: %w", name, fs.ErrNotExist)
	}
	return data, nil
}

// Names lists the built-in policies, sorted.
func Names() []string {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil // an embedded directory always reads; a test holds that it is not empty
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(path.Base(e.Name()), suffix)
	}
	return names
}

// Describe returns what the built-in policy of that name is for, in one line: the
// first of its text. The error wraps [fs.ErrNotExist] when there is none.
func Describe(name string) (string, error) {
	data, err := Read(name)
	if err != nil {
		return "", err
	}
	first, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimPrefix(first, "# "+name+": "), nil
}
