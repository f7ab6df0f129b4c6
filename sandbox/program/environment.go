package program

import (
	"fmt"
	"sort"
	"strings"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

// Environment applies a policy's [environment] to env: what is not kept or is dropped
// goes, what is set stands last. Errors: EINVAL, a variable that cannot be set.
func Environment(e policy.Environment, env []string) ([]string, error) {
	var out []string
	for _, entry := range env {
		name, _, _ := strings.Cut(entry, "=")
		if _, replaced := e.Set[name]; !replaced && e.Passes(name) {
			out = append(out, entry)
		}
	}
	names := make([]string, 0, len(e.Set))
	for name := range e.Set {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(e.Set[name], "\x00") {
			return nil, fmt.Errorf("setting the environment variable %q: %w", name, unix.EINVAL)
		}
		out = append(out, name+"="+e.Set[name])
	}
	return out, nil
}

// Getenv finds a variable in an environment; the last entry counts.
func Getenv(env []string, name string) string {
	for i := len(env) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(env[i], name+"="); ok {
			return value
		}
	}
	return ""
}
