package file

import (
	"fmt"
	"strings"
)

// scope has the values of the variables of a policy. It is passed in, so that resolving a
// policy is a function of its arguments.
type scope struct {
	env []string // NAME=VALUE; of two with one name the last counts
	dir string   // the working directory; "" if it is not known
}

// The variables with a short name; any other is ${env:NAME}.
var variableNames = []string{"HOME", "PWD", "USER", "XDG_RUNTIME_DIR"}

const envPrefix = "env:"

// variableError is why a text cannot be expanded.
type variableError struct {
	reason string
	// unset is set if a variable is not set or empty, which is fine in an optional path.
	unset bool
}

// lookup returns the value of a variable, given by the text between the braces.
func (s scope) lookup(name string) (string, *variableError) {
	if name == "PWD" {
		if s.dir == "" {
			return "", &variableError{"${PWD}, the working directory, has no path (it was removed, or " +
				"it is in another mount namespace " +
				"or outside the root directory): change to a directory by its path first (cd /path/to/it)", true}
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
			return "", &variableError{fmt.Sprintf(
				"unknown variable ${%s}%s: want ${HOME}, ${PWD}, ${USER}, ${XDG_RUNTIME_DIR} or ${env:NAME}",
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
	return "", &variableError{fmt.Sprintf("${%s} is not set in the environment: set it, or name the path", name), true}
}

// expand replaces ${NAME} by the value of the variable, and $${ by ${. Values are not
// expanded again.
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
			return "", &variableError{"${ has no closing }: write $${ for a literal ${", false}
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

// unexpanded is the inverse of [scope.expand].
func unexpanded(text string) string { return strings.ReplaceAll(text, "${", "$${") }

// expandPath is expand for a path, where a leading "~/" is ${HOME}/. An empty variable is an
// error, since the path would name something else entirely.
func (s scope) expandPath(text string) (string, *variableError) {
	if rest, ok := strings.CutPrefix(text, "~"); ok && (rest == "" || rest[0] == '/') {
		text = "${HOME}" + rest
	}
	return s.expand(text, true)
}

// computed reports whether a text depends on the environment.
func computed(text string) bool { return strings.Contains(text, "${") || strings.HasPrefix(text, "~") }
