package sandbox

import (
	"path/filepath"
	"slices"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/closure"
)

// addExec adds rules for what the program needs to come to run. The policy is the
// plan's own from then on.
func (p *Plan) addExec(program string, env []string) error {
	if !p.options.Policy.Paths.Present {
		return nil
	}
	absolute, err := filepath.Abs(program)
	if err != nil {
		return &CommandError{Name: p.options.Args[0], Err: err}
	}
	needs, err := closure.Of(absolute, env)
	if err != nil {
		return &CommandError{Name: p.options.Args[0], Err: err, Hint: "--add-exec cannot say what it needs"}
	}
	p.options.Policy = p.options.Policy.Clone()
	paths := &p.options.Policy.Paths
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
