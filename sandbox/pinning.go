package sandbox

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/closure"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/landlock"
	"github.com/memjail/memjail/sandbox/pin"
	"github.com/memjail/memjail/sandbox/program"
	"golang.org/x/sys/unix"
)

// pinning names the restriction in messages.
const pinning = "running the program from a copy of its own (memory.pin)"

// pin puts the program and its closure where nobody outside changes them. The main
// thread sees what the sandbox is going to see from then on.
func (p *Plan) pin() error {
	if !p.options.Policy.Memory.Pin {
		return nil
	}
	caps, err := kernel.ThreadCapabilities()
	if err != nil {
		return err
	}
	if !caps.Effective.Has(unix.CAP_SYS_ADMIN) || !caps.Effective.Has(unix.CAP_SYS_CHROOT) {
		return p.cannot(pinning, fmt.Errorf("it needs CAP_SYS_ADMIN and CAP_SYS_CHROOT: start it as root, or without --pin; "+
			"what an ordinary user makes, every process of the same user can change: %w", unix.EPERM))
	}
	o, err := p.pinOptions()
	if err != nil {
		return err
	}
	if err := unshareMounts(); err != nil {
		return p.cannot(pinning, err)
	}
	if p.Pinned, err = pin.Enter(o); err != nil {
		return p.pinFailed(err)
	}
	p.warnFrozen()
	if err := p.holdMountNamespace(); err != nil || p.Mounts == nil {
		return err
	}
	p.Mounts, err = landlock.ReadMountTable()
	return err
}

// PinSums returns the checksums that [Options.PinSums] compares with, for a program as
// it is now. Errors: [*CommandError], and those of reading.
func PinSums(pol policy.Policy, name string, env []string) (*pin.Sums, error) {
	var sums *pin.Sums
	err := program.With(pol.Environment, name, env, func(path string, env []string) (err error) {
		sums, err = pin.Sum(path, env)
		return err
	})
	return sums, err
}

func (p *Plan) pinOptions() (pin.Options, error) {
	program, err := filepath.Abs(p.starter.Path)
	if err != nil {
		return pin.Options{}, &CommandError{Name: p.options.Args[0], Err: err}
	}
	o := pin.Options{Program: program, Env: p.starter.Env, Sums: p.options.PinSums, Mounts: p.started}
	if o.Mounts == nil { // a best effort without Landlock
		if o.Mounts, err = landlock.ReadMountTable(); err != nil {
			return o, err
		}
	}
	if p.options.Policy.Memory.CodeFiles != policy.CodeFilesProtect {
		return o, nil
	}
	if o.Code, err = landlock.CodeRoots(); err != nil {
		return o, err
	}
	p.codeViews, err = o.Mounts.CodeViews()
	return o, err
}

// pinFailed says whose fault it is. The thread may be anywhere between two file
// systems, so that no best effort goes on from here.
func (p *Plan) pinFailed(err error) error {
	var missing *closure.Error
	if errors.As(err, &missing) {
		return &CommandError{Name: p.options.Args[0], Err: err, Hint: "memory.pin cannot say what it needs"}
	}
	return &UnenforceableError{What: pinning, Err: err}
}

// warnFrozen says where programs expect to create files and no longer can.
func (p *Plan) warnFrozen() {
	expected := slices.Concat(busyDirectories(p.options.Env), p.options.Policy.Paths.RW, p.options.Policy.Paths.RWX)
	for _, dir := range p.Pinned.Frozen {
		if dir != "/" && slices.ContainsFunc(expected, func(name string) bool { return sameFile(dir, name) }) {
			p.Warnings = append(p.Warnings, fmt.Sprintf("nothing new can be created directly in %s, because the way to the pinned program leads through it", dir))
		}
	}
}

func sameFile(a, b string) bool {
	var one, other unix.Stat_t
	return unix.Stat(a, &one) == nil && unix.Stat(b, &other) == nil && one.Dev == other.Dev && one.Ino == other.Ino
}
