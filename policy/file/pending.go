package file

import "github.com/memjail/memjail/policy"

// pending are the keys that a policy can have and that nothing enforces yet, with
// the test for a value that would have to be. A restriction that was asked for
// and cannot be applied stops a start; it is never left out silently.
var pending = []struct {
	key   string
	asked func(*policy.Policy) bool
}{
	{"procfs.processes", func(p *policy.Policy) bool { return p.Procfs.Processes != policy.ProcessesOwn }},
	{"paths.metadata", func(p *policy.Policy) bool { return p.Paths.Metadata != policy.MetadataAllow }},
	{"network.connect-tcp", func(p *policy.Policy) bool { return p.Network.RestrictConnect }},
	{"network.bind-tcp", func(p *policy.Policy) bool { return p.Network.RestrictBind }},
	{"network.unix", func(p *policy.Policy) bool { return p.Network.RestrictUnix }},
	{limitsTable, func(p *policy.Policy) bool { return len(p.Limits) > 0 }},
	{"syscalls.deny", func(p *policy.Policy) bool { return len(p.Syscalls.Deny) > 0 }},
	{"syscalls.abi", func(p *policy.Policy) bool { return p.Syscalls.ABI != policy.SyscallABIAll }},
}

// Enforceable tells whether all that a policy says is enforced by this version.
// The error is [Errors], with the place of each value that is not.
func Enforceable(p policy.Policy) error {
	var errs Errors
	for _, k := range pending {
		if !k.asked(&p) {
			continue
		}
		at := p.Origins.Of(k.key, "")
		source := at.Source
		if at.Kind == policy.OriginBuiltin {
			source = "built-in " + source
		}
		if at.Kind == policy.OriginDefault {
			source = p.Name
		}
		errs = append(errs, &Error{Source: source, Position: Position{at.Line, at.Column}, Key: k.key,
			Reason: "this version checks the key and cannot enforce it: remove it"})
	}
	if len(errs) == 0 {
		return nil
	}
	return errs
}
