package program

import (
	"path/filepath"
	"slices"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/closure"
)

// AddNeeds adds rules for what a program, given by a path, needs to start: its interpreter
// and libraries. name is the program's as its user wrote it. Error: [*Error].
func AddNeeds(paths *policy.Paths, name, path string, env []string) error {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return &Error{Name: name, Err: err}
	}
	needs, err := closure.Of(absolute, env)
	if err != nil {
		return &Error{Name: name, Err: err, Hint: "--add-exec cannot find all that it needs"}
	}
	paths.Rules = paths.Rules.With(slices.Concat(
		policy.Grant(policy.MayRead|policy.MayExecute, needs.Run...), policy.Grant(policy.MayRead, needs.Read...))...)
	return nil
}
