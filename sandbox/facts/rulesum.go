package facts

import (
	"path"

	"github.com/memjail/memjail/sandbox/closure"
	"github.com/memjail/memjail/sandbox/landlock"
)

// RuleSum adds rules up as the kernel does. It is for reports only.
type RuleSum map[string]landlock.Rights

// NewRuleSum adds up rules by the paths that they were made for.
func NewRuleSum(rules []Rule) RuleSum {
	sum := RuleSum{}
	for _, r := range rules {
		sum[r.Path] |= r.Rights
	}
	return sum
}

// Gives reports whether a path without symbolic links has one of the rights, by a rule on
// itself or on a directory above.
func (s RuleSum) Gives(name string, any landlock.Rights) bool {
	for up := name; ; up = path.Dir(up) {
		if s[up]&any != 0 {
			return true
		}
		if up == "/" || up == "." {
			return false
		}
	}
}

// At adds up the rights on a path without symbolic links.
func (s RuleSum) At(name string) (sum landlock.Rights) {
	for up := name; ; up = path.Dir(up) {
		sum |= s[up]
		if up == "/" || up == "." {
			return sum
		}
	}
}

// NotMovable reports whether the kernel refuses to give a file a name in another directory
// because it could be used in more ways there, or because one of the directories has no rule
// for that.
func (s RuleSum) NotMovable(from, to string, directory bool) bool {
	if path.Dir(from) == path.Dir(to) {
		return false
	}
	before, after := s.At(path.Dir(from)), s.At(path.Dir(to))
	gained := after &^ s.At(from)
	if !directory {
		gained &= landlock.FileRights
	}
	return before&after&landlock.Refer == 0 || gained != 0
}

// NotExecutable looks for what keeps the kernel from starting a program: itself, or what
// runs it (interpreter, as the program names it), whose path is file.
func (s RuleSum) NotExecutable(program string) (file, interpreter string, refused bool) {
	for i, executed := range closure.Executes(program) {
		if i > 0 {
			interpreter = executed.Name
		}
		if !s.Gives(executed.File, landlock.Execute) {
			return executed.File, interpreter, true
		}
	}
	return "", "", false
}
