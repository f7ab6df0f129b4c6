package sandbox

import (
	"github.com/memjail/memjail/sandbox/descriptors"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/limits"
	"github.com/memjail/memjail/sandbox/program"
	"github.com/memjail/memjail/sandbox/starter"
)

// PrepareDrop finds the program that is to follow once this process has dropped the
// memory capability ([capability.Drop]), and returns what makes this process it: with
// signals, limits and descriptors as memjail found them, and without the capabilities by
// which memory is reached otherwise, unless they are kept. That is called on the same
// thread and returns only an error: see [Plan.Become].
func PrepareDrop(args, env []string, keepCapabilities bool) (become func() error, err error) {
	path, err := program.Find(args[0], env)
	if err != nil {
		return nil, err
	}
	progress, err := starter.NewProgress(false)
	if err != nil {
		return nil, err
	}
	o := &Options{Args: args}
	p := &parts{
		command: command{path, args, env}, progress: progress, limits: []starter.Limit{limits.OpenFiles()},
		files: &descriptors.Inherited{Close: descriptors.Closed()},
		calls: calls{selfCheck: kernel.SelfCheck{Read: true, Trace: !filtered()}},
	}
	if !keepCapabilities {
		if p.held, p.drop, err = o.capabilities(); err != nil {
			return nil, err
		}
	}
	plan := o.assemble(p, &effort{})
	return func() error {
		steps, err := plan.starter.Steps()
		if err != nil {
			return err
		}
		return plan.failed(kernel.Become(steps))
	}, nil
}
