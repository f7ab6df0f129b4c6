// Package profiles contains the built-in policies as commented files, which users can copy
// and change. Package policy/file decides what they mean.
package profiles

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

//go:embed *.toml service/*.toml
var files embed.FS

const suffix = ".toml"

// Read returns the text of a built-in policy ("memory"). The error wraps [fs.ErrNotExist]
// if there is no such policy.
func Read(name string) ([]byte, error) {
	data, err := files.ReadFile(name + suffix)
	if err != nil {
		return nil, fmt.Errorf("reading built-in policy %q: %w", name, fs.ErrNotExist)
	}
	return data, nil
}

// Has reports whether there is a built-in policy of that name.
func Has(name string) bool {
	file, err := files.Open(name + suffix)
	if err == nil {
		err = file.Close()
	}
	return err == nil
}

// Names lists the built-in policies, sorted, those for certain services ("service/nginx")
// among them.
func Names() []string {
	var names []string
	for _, pattern := range []string{"*" + suffix, services + "*" + suffix} {
		found, _ := fs.Glob(files, pattern) // the patterns are well-formed
		for _, name := range found {
			names = append(names, strings.TrimSuffix(name, suffix))
		}
	}
	slices.Sort(names)
	return names
}

// services begins the names of policies for certain services.
const services = "service/"

// IsService reports whether a name is that of a built-in policy for a certain service.
func IsService(name string) bool {
	return strings.HasPrefix(name, services) && Has(name)
}

// ForUnit returns the name of the built-in policy for a unit of systemd, or "": the one that
// has the unit's name, or its template's, in its line "# Units:".
func ForUnit(unit string) string {
	if before, after, ok := strings.Cut(unit, "@"); ok {
		unit = before + "@" + path.Ext(after)
	}
	for _, name := range Names() {
		if IsService(name) && slices.Contains(strings.Fields(strings.Join(header(name, "Units"), " ")), unit) {
			return name
		}
	}
	return ""
}

// Created returns the files that a service creates in directories that its policy does not
// let it write, by the lines "# Created:". They have to exist before it starts.
func Created(name string) []string { return header(name, "Created") }

// With returns settings of [Service] that a unit needs for its policy, by the lines "# With:".
func With(name string) []string { return header(name, "With") }

// header returns the values of the lines "# KEY: VALUE" of a policy.
func header(name, key string) []string {
	text, err := Read(name)
	if err != nil {
		return nil
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "# "+key+": "); ok {
			lines = append(lines, strings.TrimSpace(value))
		}
	}
	return lines
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
