// Package profiles contains the built-in policies as commented files, which users can copy
// and change. Package policy/file decides what they mean.
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

// Read returns the text of a built-in policy ("memory"). The error wraps [fs.ErrNotExist]
// if there is no such policy.
func Read(name string) ([]byte, error) {
	// No built-in policy has such a name, and the error of embed.FS would be another one.
	if strings.Contains(name, "/") {
		return nil, fmt.Errorf("reading built-in policy %q: %w", name, fs.ErrNotExist)
	}
	data, err := files.ReadFile(name + suffix)
	if err != nil {
		return nil, fmt.Errorf("reading built-in policy %q: %w", name, fs.ErrNotExist)
	}
	return data, nil
}

// Has reports whether there is a built-in policy of that name.
func Has(name string) bool {
	if strings.Contains(name, "/") {
		return false
	}
	file, err := files.Open(name + suffix)
	if err == nil {
		err = file.Close()
	}
	return err == nil
}

// Names lists the built-in policies, sorted.
func Names() []string {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil // cannot happen with an embedded directory; a test checks it
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(path.Base(e.Name()), suffix)
	}
	return names
}

// Describe returns the purpose of a built-in policy, from the first line of its text. The
// error wraps [fs.ErrNotExist] if there is no such policy.
func Describe(name string) (string, error) {
	data, err := Read(name)
	if err != nil {
		return "", err
	}
	first, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimPrefix(first, "# "+name+": "), nil
}
