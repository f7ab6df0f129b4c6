package sandbox

import (
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/kernel/early"
	"github.com/memjail/memjail/sandbox/program"
	"github.com/memjail/memjail/sandbox/starter"
	"golang.org/x/sys/unix"
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
	p := &Plan{options: Options{Args: args}}
	p.starter = starter.Plan{Path: path, Argv: args, Env: env, Progress: progress, Ignored: ignoredSignals(), Mask: startMask(),
		SelfCheck: kernel.SelfCheck{Read: true, Trace: !filtered()}}
	for fd := range 3 {
		if early.Closed(fd) {
			p.starter.CloseFDs = append(p.starter.CloseFDs, fd)
		}
	}
	p.starter.Limits = []starter.Limit{{Name: "RLIMIT_NOFILE", Resource: unix.RLIMIT_NOFILE,
		Value: unix.Rlimit{Cur: early.Nofile[0], Max: early.Nofile[1]}}}
	if !keepCapabilities {
		err = p.capabilities()
	}
	return func() error {
		steps, err := p.starter.Steps()
		if err != nil {
			return err
		}
		return p.failed(kernel.Become(steps))
	}, err
}
