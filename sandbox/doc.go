// Package sandbox turns a policy into a plan and starts a program under it.
//
//	plan, err := sandbox.Prepare(sandbox.Options{Policy: p, Args: []string{"make"}, Env: os.Environ()})
//	...
//	process, err := plan.Start()
//
// [Prepare] opens and decides everything: the Landlock ruleset, the seccomp
// program, environment, descriptors, limits, capabilities. [Plan.Start] launches
// the starter, which applies the plan to itself in a fixed order (package
// starter) and becomes the program. Where the policy needs a supervisor, the
// caller runs one on the listener that [Plan.WaitListener] returns: packages sandbox
// and supervisor do not import each other.
//
// If a restriction that was asked for cannot be applied, Prepare fails or the program is
// not started. With Options.BestEffort the restriction is dropped and listed instead.
package sandbox
