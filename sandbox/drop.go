package sandbox

import (
	"github.com/memjail/memjail/sandbox/descriptors"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/limits"
	"github.com/memjail/memjail/sandbox/program"
	"github.com/memjail/memjail/sandbox/starter"
)

// PrepareDrop finds the program to execute after this process has dropped the memory
// capability ([capability.Drop]). It returns a function that executes the program in this
// process, with signals, limits and descriptors as memjail inherited them, and without the
// capabilities of capabilities(7) that open memory, unless keepCapabilities is set. The
// function is called on the same thread and returns only if it fails: see [Plan.Become].
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
