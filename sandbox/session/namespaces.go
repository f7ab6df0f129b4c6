package session

import (
	"fmt"
	"os"
	"runtime"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/descriptors"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/kernel/early"
	"github.com/memjail/memjail/sandbox/limits"
	"github.com/memjail/memjail/sandbox/view"
)

// EnterNamespaces gets this process the namespaces that the policy's view needs, if it cannot
// make them itself: it executes this program again, in the same process, with the same
// arguments, and in that one it returns nil. It is called on the main thread, before anything
// of the session is prepared. The program must call [view.Accept] first in main and be linked
// to begin at memjail_entry. Where the policy or a best effort can do without, and the kernel
// refuses, it returns nil, too, and [sandbox.Prepare] says why. After an error the process must
// end.
func EnterNamespaces(pol policy.Policy, bestEffort bool) error {
	needed, must := pol.OwnMounts()
	if !needed || view.Tried() || view.Able() {
		return nil
	}
	if !must || bestEffort {
		runtime.LockOSThread()
		if err := view.Try(); err != nil {
			view.Fail(err)
			return nil
		}
	}
	if err := executeAgain(); err != nil {
		return withLimitHint(fmt.Errorf("executing memjail again in a user namespace: %w", err))
	}
	return nil
}

// executeAgain executes this program as it was started, but for argv[0].
func executeAgain() error {
	exe, err := openSelf()
	if err != nil {
		return err
	}
	defer exe.Close()
	steps := stepsAsStarted()
	argv0 := os.Args[0]
	if toRelay != nil {
		steps = append(steps, kernel.StepKeepFD(int(toRelay.Fd())))
		argv0 = relayedArg0(int(toRelay.Fd()), argv0)
	}
	argv0, state, err := view.Arg0(argv0)
	if err != nil {
		return err
	}
	defer state.Close()
	steps = append(steps, kernel.StepKeepFD(int(state.Fd())))
	exec, err := kernel.StepExecFile(int(exe.Fd()), append([]string{argv0}, os.Args[1:]...), os.Environ())
	if err != nil {
		return err
	}
	return kernel.Become(append(steps, exec))
}

// stepsAsStarted restore what this process was started with, and the runtime has changed.
func stepsAsStarted() []kernel.Step {
	ignored, _ := early.Ignored()
	mask, _ := early.Blocked()
	var steps []kernel.Step
	for _, fd := range descriptors.Closed() {
		steps = append(steps, kernel.StepCloseFD(fd))
	}
	for _, l := range limits.AtEntry() {
		steps = append(steps, kernel.StepLimit(l.Name, l.Resource, l.Value))
	}
	steps = append(steps, kernel.StepsResetSignals(kernel.SignalSet(ignored))...)
	return append(steps, kernel.StepSignalMask(kernel.SignalSet(mask)))
}
