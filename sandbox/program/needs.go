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
		return &Error{Name: name, Err: err, Hint: "--add-exec cannot say what it needs"}
	}
	add(paths, &paths.ROX, needs.Run, policy.MayRead|policy.MayExecute)
	add(paths, &paths.RO, needs.Read, policy.MayRead)
	return nil
}

// add names files in a list, but those that a rule names with as much already.
func add(paths *policy.Paths, list *[]string, files []string, rights policy.Rights) {
	rules := paths.Rules()
	for _, file := range files {
		enough := func(r policy.PathRule) bool { return r.Path == file && r.Rights&rights == rights }
		if !slices.ContainsFunc(rules, enough) {
			*list = append(*list, file)
		}
	}
	slices.Sort(*list)
}
