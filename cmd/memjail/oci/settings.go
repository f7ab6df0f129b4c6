package oci

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// SettingsFile is where the administrator's settings are.
const SettingsFile = "/etc/memjail/oci.toml"

// The annotations by which a container chooses, among what the settings list.
const (
	annotationPrefix = "io.memjail."
	AnnotationPolicy = annotationPrefix + "policy"
	AnnotationMemory = annotationPrefix + "memory"
)

// Settings are the administrator's.
type Settings struct {
	// Runtime is a name that is looked up in PATH, or an absolute path. If it is empty, the
	// first of DefaultRuntimes that is found is taken.
	Runtime string `toml:"runtime"`
	// Program is the memjail that containers get; empty means this one.
	Program string `toml:"program"`
	// Policy is the one of containers that choose none: a built-in policy or an absolute path.
	Policy string `toml:"policy"`
	// Policies are those that a container may choose.
	Policies []string `toml:"policies"`
	// Memory are the values of memory.access that a container may choose.
	Memory []string `toml:"memory"`
}

// DefaultRuntimes are looked for in this order.
var DefaultRuntimes = []string{"runc", "crun"}

// DefaultSettings are in force without a file.
func DefaultSettings() Settings {
	return Settings{Policy: "memory", Memory: []string{"deny"}}
}

// ParseSettings reads the text of a file of settings.
func ParseSettings(name string, data []byte) (Settings, error) {
	s := DefaultSettings()
	if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&s); err != nil {
		return s, settingsError(name, err)
	}
	for _, p := range append([]string{s.Policy}, s.Policies...) {
		if err := CheckPolicyName(p); err != nil {
			return s, fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, m := range s.Memory {
		if !slices.Contains([]string{"deny", "no-write", "allow"}, m) {
			return s, fmt.Errorf("%s: memory: %q: want deny, no-write or allow", name, m)
		}
	}
	for key, p := range map[string]string{"runtime": s.Runtime, "program": s.Program} {
		if strings.Contains(p, "/") && !path.IsAbs(p) || key == "program" && p != "" && !path.IsAbs(p) {
			return s, fmt.Errorf("%s: %s: %q is not an absolute path", name, key, p)
		}
	}
	return s, nil
}

// settingsError gives errors of the TOML file their lines.
func settingsError(name string, err error) error {
	var strict *toml.StrictMissingError
	var syntax *toml.DecodeError
	switch {
	case errors.As(err, &strict):
		var errs []error
		for i := range strict.Errors {
			line, column := strict.Errors[i].Position()
			errs = append(errs, fmt.Errorf("%s:%d:%d: unknown key %q: want runtime, program, policy, policies, memory",
				name, line, column, strings.Join(strict.Errors[i].Key(), ".")))
		}
		return errors.Join(errs...)
	case errors.As(err, &syntax):
		line, column := syntax.Position()
		return fmt.Errorf("%s:%d:%d: %s", name, line, column, strings.TrimPrefix(syntax.Error(), "toml: "))
	}
	return fmt.Errorf("%s: %w", name, err)
}

// CheckPolicyName returns an error for a policy that could mean another one for each caller.
func CheckPolicyName(name string) error {
	switch isFile := strings.Contains(name, "/") || strings.HasSuffix(name, ".toml"); {
	case name == "":
		return errors.New("the name of a policy is empty")
	case isFile && (!path.IsAbs(name) || path.Clean(name) != name):
		return fmt.Errorf("policy %q: want a built-in policy, or a clean absolute path", name)
	}
	return nil
}

// Choose returns the policy and the value of memory.access ("" is the policy's own) of a
// container with certain annotations.
func (s Settings) Choose(annotations map[string]string) (policy, memory string, err error) {
	policy = s.Policy
	for name, value := range annotations {
		if !strings.HasPrefix(name, annotationPrefix) {
			continue
		}
		var allowed []string
		switch name {
		case AnnotationPolicy:
			policy, allowed = value, append([]string{s.Policy}, s.Policies...)
		case AnnotationMemory:
			memory, allowed = value, s.Memory
		default:
			return "", "", fmt.Errorf("unknown annotation %s: want %s or %s", name, AnnotationPolicy, AnnotationMemory)
		}
		if !slices.Contains(allowed, value) {
			return "", "", fmt.Errorf("annotation %s: %q is not among what the administrator allows: %s", name, value,
				strings.Join(allowed, ", "))
		}
	}
	return policy, memory, nil
}
