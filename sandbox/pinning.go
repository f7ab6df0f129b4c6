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
const pinning = "running the program from a private copy (memory.pin)"

// pin copies the program and its closure to where nobody outside can change them.
func (o *Options) pin(v *fileSystem, c *command, e *effort) error {
	if !o.Policy.Memory.Pin {
		return nil
	}
	caps, err := kernel.ThreadCapabilities()
	if err != nil {
		return err
	}
	if !caps.Effective.Has(unix.CAP_SYS_ADMIN) || !caps.Effective.Has(unix.CAP_SYS_CHROOT) {
		return e.DropOrFail(pinning,
			fmt.Errorf("it needs CAP_SYS_ADMIN and CAP_SYS_CHROOT: start it as root, or without --pin; "+
				"every process of the same user could change a copy that an ordinary user makes: %w", unix.EPERM))
	}
	options, err := o.pinOptions(v, c)
	if err != nil {
		return err
	}
	if err := unshareMounts(); err != nil {
		return e.DropOrFail(pinning, err)
	}
	if v.pinned, err = pin.Enter(options); err != nil {
		return o.pinFailed(err)
	}
	o.warnFrozen(v.pinned, e)
	if err := v.holdMountNamespace(); err != nil || v.mounts == nil {
		return err
	}
	v.mounts, err = landlock.ReadMountTable()
	return err
}

// PinSums returns checksums for [Options.PinSums], of a program as it is now. Errors:
// [*CommandError], and those of reading.
func PinSums(pol policy.Policy, name string, env []string) (*pin.Sums, error) {
	var sums *pin.Sums
	err := program.With(pol.Environment, name, env, func(path string, env []string) (err error) {
		sums, err = pin.Sum(path, env)
		return err
	})
	return sums, err
}

func (o *Options) pinOptions(v *fileSystem, c *command) (pin.Options, error) {
	path, err := filepath.Abs(c.path)
	if err != nil {
		return pin.Options{}, &CommandError{Name: o.Args[0], Err: err}
	}
	options := pin.Options{Program: path, Env: c.env, Sums: o.PinSums, Mounts: v.mounts}
	if options.Mounts == nil { // a best effort without Landlock
		if options.Mounts, err = landlock.ReadMountTable(); err != nil {
			return options, err
		}
	}
	if o.Policy.Memory.CodeFiles != policy.CodeFilesProtect {
		return options, nil
	}
	if options.Code, err = landlock.CodeRoots(); err != nil {
		return options, err
	}
	v.codeAliases, err = options.Mounts.CodeAliases()
	return options, err
}

// pinFailed attributes the error to the command or to memjail. The thread may be anywhere
// between two file systems, so a best effort cannot continue either.
func (o *Options) pinFailed(err error) error {
	var missing *closure.Error
	if errors.As(err, &missing) {
		return &CommandError{Name: o.Args[0], Err: err, Hint: "memory.pin cannot find all that it needs"}
	}
	return &UnenforceableError{What: pinning, Err: err}
}

// warnFrozen warns of directories in which programs expect to create files and no longer
// can.
func (o *Options) warnFrozen(pinned *pin.Pinned, e *effort) {
	expected := commonWorkDirs(o.Env)
	for _, r := range o.Policy.Paths.Rules.List() {
		if r.Rights&policy.MayWrite != 0 {
			expected = append(expected, r.Path)
		}
	}
	for _, dir := range pinned.Frozen {
		if dir != "/" && slices.ContainsFunc(expected, func(name string) bool { return sameFile(dir, name) }) {
			e.Warn(fmt.Sprintf("nothing new can be created directly in %s, because the path of the "+
				"pinned program leads through it", dir))
		}
	}
}

func sameFile(a, b string) bool {
	var one, other unix.Stat_t
	return unix.Stat(a, &one) == nil && unix.Stat(b, &other) == nil && one.Dev == other.Dev && one.Ino == other.Ino
}
