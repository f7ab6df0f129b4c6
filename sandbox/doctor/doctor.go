// Package doctor finds out what the kernel can enforce, and which of its settings weaken the
// protection of memory, on this machine in general and for memjail.
//
// It changes nothing: each probe reads a file or makes a call that fails or has no effect,
// one of them in a child. A probe has three answers: yes, no (with the kernel version that is
// needed) and could not tell.
package doctor

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/memjail/memjail/sandbox/capability"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/kernel/early"
	"github.com/memjail/memjail/sandbox/view"
)

// Verdict is how serious a finding is.
type Verdict uint8

const (
	// OK: nothing to be done.
	OK Verdict = iota
	// Unknown: it could not be found out; Why is the reason.
	Unknown
	// Warn: something is weaker than it could be. Why states whether memjail closes it
	// inside or is itself weaker for it.
	Warn
	// Bad: memjail cannot keep its promise here, or does not start.
	Bad
)

var verdictNames = [...]string{OK: "ok", Unknown: "unknown", Warn: "warn", Bad: "bad"}

func (v Verdict) String() string { return verdictNames[v] }

// MarshalText gives JSON the verdict's name.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// Finding is one fact about the machine.
type Finding struct {
	ID      string  `json:"id"`    // stable, for scripts: "landlock", "yama"
	Title   string  `json:"title"` // what was looked at
	Value   string  `json:"value"` // what was found
	Verdict Verdict `json:"verdict"`
	Why     string  `json:"why,omitempty"` // what it means
	Fix     string  `json:"fix,omitempty"` // what would make it ok
}

// Kernel is what no file shows. An error means that it could not be found out, unless the
// method's comment says otherwise.
type Kernel interface {
	// LandlockABI: ENOSYS, none was built in; EOPNOTSUPP, disabled at boot.
	LandlockABI() (int, error)
	// LandlockErrata is the mask of fixes; EINVAL, the kernel does not report it.
	LandlockErrata() (int, error)
	// UserNotif: seccomp user notification, 5.0.
	UserNotif() (bool, error)
	// WaitKillableRecv: notifications that only fatal signals interrupt, 5.19.
	WaitKillableRecv() (bool, error)
	// PIDFD: descriptors for processes, 5.3.
	PIDFD() (bool, error)
	// TryReadChild reads the memory of a child; an error means that it cannot.
	TryReadChild() error
	// MemoryCapability: root has installed it.
	MemoryCapability() (bool, error)
	// PrivateView: nil if this process can give a sandbox a private view; otherwise the step
	// that fails.
	PrivateView() error
}

// Machine is what is examined.
type Machine struct {
	Root   fs.FS // has proc, sys, boot and the rest of the root directory
	Kernel Kernel
	// Program is the memjail that examines.
	Program Program
}

// Here is the machine that the program runs on.
func Here() Machine {
	_, entry := early.Ignored()
	return Machine{Root: os.DirFS("/"), Kernel: running{}, Program: Program{Dynamic: kernel.DynamicallyLinked(),
		Entry: entry}}
}

// running asks the kernel that runs.
type running struct{}

func (running) LandlockABI() (int, error)    { return kernel.LandlockABI() }
func (running) LandlockErrata() (int, error) { return kernel.LandlockErrata() }
func (running) UserNotif() (bool, error)     { return kernel.UserNotifSupported() }
func (running) WaitKillableRecv() (bool, error) {
	return kernel.FilterFlagSupported(kernel.FilterWaitKillableRecv)
}

func (running) TryReadChild() error { return kernel.TryReadChild() }

func (running) MemoryCapability() (bool, error) { return capability.Installed() }

func (running) PrivateView() error { return view.Possible() }

func (running) PIDFD() (bool, error) {
	f, err := kernel.OpenPIDFD(os.Getpid())
	if err != nil {
		return false, answerless(err)
	}
	f.Close()
	return true, nil
}

// Examine returns all findings, in reading order. The last one, ShapeID, is the shape that a
// sandbox would have.
func Examine(m Machine) []Finding {
	f := gather(m)
	all := []Finding{
		f.kernelRelease(), f.landlock(), f.errata(),
		f.userNotif(), f.waitKillable(), f.syncWakeUp(), f.quickAnswers(), f.pidfd(), f.childReading(),
		f.memoryCapability(),
		f.yama(), f.forceOverride(),
	}
	for _, s := range settings {
		all = append(all, f.setting(s))
	}
	return append(all,
		f.userNamespaces(), f.privateViews(), f.lockdown(), f.corePattern(), f.coreLimit(), f.suidDumpable(),
		f.procMounts(), f.traceMounts(),
		f.privileges(), f.filters(), f.container(), f.program(), f.shape())
}

// Worst is the gravest verdict among the findings.
func Worst(findings []Finding) Verdict {
	worst := OK
	for _, f := range findings {
		worst = max(worst, f.Verdict)
	}
	return worst
}

// text reads a file of the machine without the white space around it.
func (m Machine) text(name string) (string, error) {
	data, err := fs.ReadFile(m.Root, name)
	return strings.TrimSpace(string(data)), cause(err)
}

// cause strips what the finding says already.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// version is a kernel's version, as far as features depend on it.
type version struct{ major, minor int }

// parseVersion reads the beginning of a release such as 6.1.0-56-amd64.
func parseVersion(release string) (v version, ok bool) {
	major, rest, _ := strings.Cut(release, ".")
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	var err1, err2 error
	v.major, err1 = strconv.Atoi(major)
	v.minor, err2 = strconv.Atoi(rest[:end])
	return v, err1 == nil && err2 == nil
}

func (v version) atLeast(major, minor int) bool {
	return v.major > major || v.major == major && v.minor >= minor
}
