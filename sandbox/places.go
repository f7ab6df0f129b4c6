package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/landlock"
	"golang.org/x/sys/unix"
)

// PathError reports paths of a policy that cannot be granted. It has a line for each, with
// the place where the path is written.
type PathError struct {
	lines []string
	err   error
}

func (e *PathError) Error() string { return strings.Join(e.lines, "\n") }

func (e *PathError) Unwrap() error { return e.err }

// placeRule adds to an error about a path where the policy has the path. For a missing one
// it also finds the others that are missing.
func (o *Options) placeRule(err error) error {
	var denied *landlock.DenyError
	if errors.As(err, &denied) {
		at := o.Policy.Origin("paths.deny", denied.Path)
		return &PathError{err: err, lines: []string{fmt.Sprintf("%s: paths.deny: %v", at, err)}}
	}
	var rule *landlock.RuleError
	if !errors.As(err, &rule) {
		return err
	}
	e := &PathError{err: err}
	add := func(path string, optional bool, key string, at policy.Origin) {
		missing := !optional && isMissing(path)
		switch {
		case missing && isMissing(rule.Path):
			e.lines = append(e.lines, fmt.Sprintf("%s: %s: %q does not exist: create it, or %s if it may be missing",
				at, key, cmp.Or(at.Written, path), optionally(path, key, at)))
		case path == rule.Path:
			e.lines = append(e.lines, fmt.Sprintf("%s: %s: %v", at, key, err))
		}
	}
	for _, r := range o.Policy.Paths.Rules.List() {
		add(r.Path, r.Optional, r.Key(), r.Origin)
	}
	for _, d := range o.Policy.Devices {
		add(d.Path, d.Optional, "paths.devices", d.Origin)
	}
	if dir := o.Policy.Home.Dir; dir != "" && dir == rule.Path {
		e.lines = append(e.lines, fmt.Sprintf("%s: home.dir: %v", o.Policy.Origin("home.dir", ""), err))
	}
	if len(e.lines) == 0 { // --add-exec added it, for example
		return err
	}
	return e
}

func isMissing(path string) bool {
	err := unix.Access(path, unix.F_OK)
	return err == unix.ENOENT || err == unix.ENOTDIR
}

// optionally describes how the path is written if it may be missing.
func optionally(path, key string, at policy.Origin) string {
	if at.Kind == policy.OriginFile {
		text, _ := policy.TOMLString("?" + cmp.Or(at.Written, path))
		return "write " + text
	}
	flag := "--" + strings.TrimPrefix(key, "paths.")
	if key == "paths.devices" {
		flag = "--device"
	}
	word := policy.ShellWord("?" + path)
	if at.Kind == policy.OriginFlag {
		return fmt.Sprintf("write %s %s", flag, word)
	}
	return fmt.Sprintf("add %s %s", flag, word)
}
