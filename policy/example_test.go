package policy_test

import (
	"fmt"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/file"
)

// A policy built in Go: the default one, and rules about paths.
func ExampleGrant() {
	const run, write = policy.MayRead | policy.MayExecute, policy.MayRead | policy.MayWrite
	p := file.Default()
	p.Paths.Rules = policy.OnlyThese(policy.Grant(run, "/usr", "/lib", "/lib64")...)
	p.Paths.Rules = p.Paths.Rules.With(policy.Rule{Path: "/srv/data", Rights: write, Optional: true})
	if err := p.Validate(); err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range p.Paths.Rules.List() {
		fmt.Println(r.Key(), r.Path, r.Optional)
	}
	// Output:
	// paths.rox /lib false
	// paths.rox /lib64 false
	// paths.rox /usr false
	// paths.rw /srv/data true
}

// What no policy file could hold is refused before anything is enforced.
func ExamplePolicy_Validate() {
	p := file.Default()
	p.Paths.Rules = policy.OnlyThese(policy.Grant(policy.MayRead, "etc")...)
	p.MinABI = -1
	fmt.Println(p.Validate())
	// Output:
	// invalid policy: MinABI: -1 is negative
	// invalid policy: Paths.Rules: "etc" is not an absolute path without superfluous dots and slashes
}

func ExampleDiff() {
	b := file.Default()
	b.Memory.Ptrace = policy.PtraceChildren
	b.Network.ConnectTCP = policy.OnlyThese[uint16](443)
	for _, c := range policy.Diff(file.Default(), b) {
		fmt.Printf("%s %s: %s, %s\n", c.Effect, c.Key, c.A, c.B)
	}
	// Output:
	// allows memory.ptrace: deny, children
	// refuses network.connect-tcp: as usual, only what is listed
}

func ExampleLint() {
	p := file.Default()
	p.Paths.Rules = policy.OnlyThese(policy.Grant(policy.MayRead, "/home/user")...)
	p.Paths.Metadata = policy.MetadataGranted
	for _, f := range policy.Lint(p, policy.LintFacts{Home: "/home/user"}) {
		if f.Level == policy.LevelWarning {
			fmt.Printf("%s: %s; %s\n", f.ID, f.What, f.Fix)
		}
	}
	// Output:
	// secrets-readable: paths.ro contains /home/user; list narrower paths
}
