package oci

import (
	"fmt"
	"slices"
)

// neededCalls are the system calls without which memjail cannot restrict anything.
var neededCalls = []string{"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "seccomp",
	"prctl"}

// profile is what matters of linux.seccomp.
type profile struct {
	DefaultAction string `json:"defaultAction"`
	Syscalls      []struct {
		Names  []string `json:"names"`
		Action string   `json:"action"`
		Args   []any    `json:"args"`
	} `json:"syscalls"`
}

// refusing are the actions with which a call does not happen.
var refusing = []string{"SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP",
	"SCMP_ACT_ERRNO"}

// refuses reports whether a profile refuses a call whatever its arguments are.
func (p *profile) refuses(call string) bool {
	refused := slices.Contains(refusing, p.DefaultAction)
	for _, rule := range p.Syscalls {
		if !slices.Contains(rule.Names, call) {
			continue
		}
		if !slices.Contains(refusing, rule.Action) {
			return false
		}
		refused = refused || len(rule.Args) == 0
	}
	return refused
}

// checkSeccomp returns an error if the container's own seccomp profile leaves memjail
// nothing to work with: then the container is not created, instead of ending at its start.
func (s *Spec) checkSeccomp() error {
	if s.fields["linux"] == nil {
		return nil
	}
	linux, err := readObject("config.json: linux", s.fields["linux"], "seccomp")
	if err != nil {
		return err
	}
	var p profile
	if err := linux.get("seccomp", &p); err != nil {
		return fmt.Errorf("config.json: linux.%w", err)
	}
	for _, call := range neededCalls {
		if p.refuses(call) {
			return fmt.Errorf("the container's seccomp profile refuses %s, which memjail needs: allow it there", call)
		}
	}
	return nil
}
