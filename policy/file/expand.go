package file

import (
	"fmt"
	"strings"
)

// scope is what the variables of a policy are taken from. It is given, not asked
// for, so that resolving a policy is a function of its arguments.
type scope struct {
	env []string // NAME=VALUE; of two with one name the last counts
	dir string   // the working directory; "" if nobody said
}

// The variables that have a name of their own; any other is ${env:NAME}.
var variableNames = []string{"HOME", "PWD", "USER", "XDG_RUNTIME_DIR"}

const envPrefix = "env:"

// variableError says why a text cannot be expanded.
type variableError struct {
	reason string
	// unset tells that the only fault is a variable that is not set or empty: an
	// optional path may have it.
	unset bool
}

// lookup finds a variable by what stands between the braces.
func (s scope) lookup(name string) (string, *variableError) {
	if name == "PWD" {
		if s.dir == "" {
			return "", &variableError{"${PWD} is the working directory, to which no path leads from here (it was removed, or it lies " +
				"in another mount namespace or outside the root directory): change to the directory to work in by a path (cd /path/to/it)", true}
		}
		return s.dir, nil
	}
	variable, isEnv := strings.CutPrefix(name, envPrefix)
	if !isEnv {
		known := false
		for _, v := range variableNames {
			known = known || v == name
		}
		if !known {
			return "", &variableError{fmt.Sprintf("unknown variable ${%s}%s: want ${HOME}, ${PWD}, ${USER}, ${XDG_RUNTIME_DIR} or ${env:NAME}",
				name, didYouMean(name, variableNames)), false}
		}
	}
	if isEnv && checkVariable(variable) != "" {
		return "", &variableError{fmt.Sprintf("${%s}: %s", name, checkVariable(variable)), false}
	}
	for i := len(s.env) - 1; i >= 0; i-- {
		if text, ok := strings.CutPrefix(s.env[i], variable+"="); ok {
			return text, nil
		}
	}
	return "", &variableError{fmt.Sprintf("${%s} is not set in the environment", name), true}
}

// expand replaces ${NAME} by what the variable holds; $${ stands for ${ itself.
// What a variable holds is not expanded again.
func (s scope) expand(text string, emptyFails bool) (string, *variableError) {
	if !strings.Contains(text, "${") {
		return text, nil
	}
	var b strings.Builder
	for text != "" {
		at := strings.Index(text, "${")
		if at < 0 {
			b.WriteString(text)
			break
		}
		if at > 0 && text[at-1] == '$' {
			b.WriteString(text[:at-1] + "${")
			text = text[at+2:]
			continue
		}
		b.WriteString(text[:at])
		name, rest, closed := strings.Cut(text[at+2:], "}")
		if !closed {
			return "", &variableError{"${ has no closing }: write $${ for the characters themselves", false}
		}
		held, err := s.lookup(name)
		if err == nil && held == "" && emptyFails {
			err = &variableError{fmt.Sprintf("${%s} is empty", name), true}
		}
		if err != nil {
			return "", err
		}
		b.WriteString(held)
		text = rest
	}
	return b.String(), nil
}

// unexpanded is the text that [scope.expand] turns into its argument.
func unexpanded(text string) string { return strings.ReplaceAll(text, "${", "$${") }

// expandPath is expand for a path, in which a leading "~/" is ${HOME}/. A path
// whose variable is empty would name something else entirely, so that is refused.
func (s scope) expandPath(text string) (string, *variableError) {
	if rest, ok := strings.CutPrefix(text, "~"); ok && (rest == "" || rest[0] == '/') {
		text = "${HOME}" + rest
	}
	return s.expand(text, true)
}

// computed tells whether the text means different things in different places.
func computed(text string) bool { return strings.Contains(text, "${") || strings.HasPrefix(text, "~") }
