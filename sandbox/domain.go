package sandbox

import (
	"errors"
	"fmt"
	"os"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/kernel/fault"
	"github.com/memjail/memjail/sandbox/landlock"
	"github.com/memjail/memjail/sandbox/program"
	"golang.org/x/sys/unix"
)

// system is what the kernel offers and what is mounted.
type system struct {
	// abi is the version of the kernel's Landlock ABI; 0 means that Landlock is missing.
	abi int
	// mounts is the mount table before the sandbox gets mounts of its own; nil without
	// Landlock.
	mounts *landlock.MountTable
}

// inspectSystem asks the kernel for its Landlock ABI and reads the mount table, before the
// sandbox gets mounts of its own.
func (o *Options) inspectSystem(e *effort) (system, error) {
	abi, err := kernel.LandlockABI()
	if err != nil {
		const what = "the landlock domain, without which no file of /proc can be closed"
		return system{}, e.DropOrFail(what, whyNoLandlock(err))
	}
	if limit := o.LandlockABI; limit > 0 {
		abi = min(abi, limit)
	}
	mounts, err := landlock.ReadMountTable()
	return system{abi, mounts}, err
}

// whyNoLandlock explains the kernel's answer and what would make Landlock available.
func whyNoLandlock(err error) error {
	switch {
	case errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("this kernel has no Landlock (Linux 5.13 or later has it, built with "+
			"CONFIG_SECURITY_LANDLOCK): %w", unix.ENOSYS)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("this kernel has Landlock, but it was left out at boot (add landlock to the "+
			"boot parameter lsm=): %w", unix.EOPNOTSUPP)
	}
	return err
}

// domain is the Landlock part of a plan.
type domain struct {
	// rules are the rules of the ruleset; both are nil without Landlock.
	rules   *landlock.Plan
	ruleset *os.File
	// outer is the ruleset of the guard's domain, which encloses the sandbox's. guard is the
	// guard of a program that is started as a child. Both are nil if no guard was asked for.
	outer *os.File
	guard *kernel.DomainGuard
	// privileged is [kernel.Privileged] of this process.
	privileged bool
}

func (d *domain) close() error {
	var errs []error
	if d.rules != nil {
		errs = append(errs, d.rules.Close())
	}
	for _, ruleset := range []*os.File{d.ruleset, d.outer} {
		if ruleset != nil {
			errs = append(errs, ruleset.Close())
		}
	}
	return errors.Join(errs...)
}

// signalsStayInside reports whether the kernel refuses signals from inside to processes
// outside (Landlock's signal scope, ABI 6).
func (d *domain) signalsStayInside() bool {
	return d.ruleset != nil && d.rules.Scoped&landlock.ScopeSignal != 0
}

// restrictFiles makes the ruleset. The domain has to be closed even if there is an error.
func (o *Options) restrictFiles(s system, p *parts, e *effort) (d domain, err error) {
	if err := o.checkNetwork(s.abi, p.view.private != nil, e); err != nil || s.abi == 0 {
		return d, err
	}
	granted := o.Policy
	if p.capability.dropped() {
		granted.Memory.Access = policy.AccessNoWrite // the memory capability decides about reads
	}
	if fault.Injected(fault.Carve) {
		granted.Memory.Access = policy.AccessAllow
	}
	if d.privileged, err = kernel.Privileged(); err != nil {
		return d, err
	}
	d.rules, err = landlock.NewPlan(landlock.Request{
		Policy: granted, ABI: landlock.ForVersion(s.abi), Mounts: p.view.mounts, Privileged: d.privileged,
		WorkDirs: commonWorkDirs(o.Env), CodeAliases: p.view.codeAliases, Held: p.files.Held,
		Covered: p.view.covered,
	})
	if err != nil {
		return d, o.placeRule(err)
	}
	e.warnings = append(e.warnings, d.rules.Warnings...)
	if d.ruleset, err = d.rules.Ruleset(); err != nil {
		return d, e.DropOrFail("the landlock domain", err)
	}
	return d, o.addGuard(&d, e)
}

// addGuard makes the guard's ruleset and, for a program that is started as a child, the
// guard itself.
func (o *Options) addGuard(d *domain, e *effort) (err error) {
	if !o.Guard || !d.signalsStayInside() {
		return nil
	}
	if d.outer, err = d.rules.SignalScopeRuleset(); err != nil {
		return e.DropOrFail("the guard's landlock domain", err)
	}
	if o.Detached {
		return nil
	}
	d.guard, err = kernel.NewDomainGuard()
	return err
}

// commonWorkDirs are the directories in which programs expect to create files.
func commonWorkDirs(env []string) []string {
	busy := []string{"/tmp"}
	if wd, err := os.Getwd(); err == nil {
		busy = append(busy, wd)
	}
	if home := program.Getenv(env, "HOME"); home != "" {
		busy = append(busy, home)
	}
	return busy
}
