package doctor

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
	"golang.org/x/sys/unix"
)

// answerless turns an errno that says "no" into none: the call is not known.
func answerless(err error) error {
	if errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}

// answer is whether there is a feature, or why that could not be found out.
type answer struct {
	yes bool
	err error
}

// facts are what several findings depend on, found out once.
type facts struct {
	Machine
	release string
	version version // zero if the release could not be read
	dated   bool    // version means something

	abi    int // of Landlock; 0 if there is none
	abiErr error

	capability    bool
	capabilityErr error

	notif, killable, pidfds answer
	// children says why a child of this process cannot be read.
	children error

	status map[string]string // /proc/self/status; nil if it could not be read
	mounts []mountinfo.Mount
	// mountsErr says why there are none.
	mountsErr error
}

func gather(m Machine) *facts {
	f := &facts{Machine: m}
	f.release, _ = m.text("proc/sys/kernel/osrelease")
	f.version, f.dated = parseVersion(f.release)
	f.abi, f.abiErr = m.Kernel.LandlockABI()
	f.capability, f.capabilityErr = m.Kernel.MemoryCapability()
	f.notif.yes, f.notif.err = m.Kernel.UserNotif()
	f.killable.yes, f.killable.err = m.Kernel.WaitKillableRecv()
	f.pidfds.yes, f.pidfds.err = m.Kernel.PIDFD()
	f.children = m.Kernel.TryReadChild()
	if text, err := m.text("proc/self/status"); err == nil {
		f.status = parseStatus(text)
	}
	if text, err := m.text("proc/self/mountinfo"); err == nil {
		f.mounts = parseMounts(text)
	} else {
		f.mountsErr = err
	}
	return f
}

// yesNo makes a finding of a feature that a probe asked for.
func (a answer) yesNo(f Finding, since, without string) Finding {
	switch {
	case a.err != nil:
		f.Value, f.Verdict = "could not tell", Unknown
		f.Why = fmt.Sprintf("The probe failed with %q; a seccomp filter may have refused it.", a.err)
	case a.yes:
		f.Value = "yes"
	default:
		f.Value, f.Verdict = "no", Warn
		f.Why, f.Fix = without, "Linux "+since+" or later"
	}
	return f
}

// byRelease makes a finding of a feature that cannot be asked for without using
// it. Distributions bring changes back to older releases, hence the wording.
func (f *facts) byRelease(g Finding, major, minor int, without string) Finding {
	switch {
	case !f.dated:
		g.Value, g.Verdict, g.Why = "could not tell", Unknown, "The kernel's release could not be read."
	case f.version.atLeast(major, minor):
		g.Value = "yes, by the release"
	default:
		g.Value, g.Verdict = "no, by the release", Warn
		g.Why, g.Fix = without, fmt.Sprintf("Linux %d.%d or later", major, minor)
	}
	return g
}

func (f *facts) kernelRelease() Finding {
	g := Finding{ID: "kernel", Title: "kernel release", Value: f.release}
	switch {
	case !f.dated:
		g.Value, g.Verdict, g.Why = "could not tell", Unknown, "/proc/sys/kernel/osrelease could not be read."
	case !f.version.atLeast(6, 12): // what that costs, the probes below know better
		g.Verdict, g.Why = Warn, "Later kernels enforce more: see the lines below."
		g.Fix = "Linux 6.12 or later"
	}
	return g
}

// abiSteps are the Landlock versions that the promise depends on, newest first.
var abiSteps = []struct {
	abi          int
	since, below string
}{
	{6, "6.12", "The kernel cannot keep signals inside the sandbox: signals that make a process outside " +
		"dump its memory are refused by number instead."},
	{3, "6.2", "truncate(2) by path is refused everywhere."},
}

func (f *facts) landlock() Finding {
	g := Finding{ID: "landlock", Title: "Landlock ABI", Value: strconv.Itoa(f.abi)}
	switch {
	case errors.Is(f.abiErr, unix.ENOSYS):
		g.Value, g.Verdict = "none", Bad
		g.Why = "The kernel has no Landlock; nothing keeps /proc/PID/mem closed."
		g.Fix = "Linux 5.13 or later, built with CONFIG_SECURITY_LANDLOCK"
	case errors.Is(f.abiErr, unix.EOPNOTSUPP):
		g.Value, g.Verdict = "disabled", Bad
		g.Why = "Landlock is built in but was left out at boot; nothing keeps /proc/PID/mem closed."
		g.Fix = "add landlock to the list of the boot parameter lsm="
	case f.abiErr != nil:
		g.Value, g.Verdict = "could not tell", Unknown
		g.Why = fmt.Sprintf("The probe failed with %q; a seccomp filter may have refused it.", f.abiErr)
	default:
		for _, s := range abiSteps {
			if f.abi < s.abi {
				g.Verdict, g.Fix = Warn, "Linux "+abiSteps[0].since+" or later"
				g.Why = strings.TrimSpace(g.Why + " " + s.below)
			}
		}
	}
	return g
}

func (f *facts) memoryCapability() Finding {
	g := Finding{ID: "capability", Title: "memory capability", Value: "not installed"}
	switch {
	case f.capabilityErr != nil:
		g.Value, g.Verdict = "could not tell", Unknown
		g.Why = fmt.Sprintf("The probe failed with %q; a seccomp filter may have refused it.", f.capabilityErr)
	case f.capability:
		g.Value = "installed"
		g.Why = "The kernel itself decides what may be read of /proc, without a supervisor."
	}
	return g
}

// The fixes of Landlock that are numbered; see the section on errata in
// Documentation/userspace-api/landlock.rst. Number 3 concerns the promise.
const (
	errataKnown            = 4
	erratumDisconnectedDir = 3
)

func (f *facts) errata() Finding {
	g := Finding{ID: "landlock-errata", Title: "Landlock errata fixed"}
	mask, err := f.Kernel.LandlockErrata()
	if err != nil {
		g.Value, g.Verdict = "could not tell", Unknown
		g.Why = "The kernel does not report its errata; Linux 6.15 does, and some older kernels with a backport."
		if f.abiErr != nil {
			g.Why = "Landlock does not answer."
		}
		return g
	}
	var fixed []string
	for n := 1; n <= errataKnown; n++ {
		if mask&(1<<(n-1)) != 0 {
			fixed = append(fixed, strconv.Itoa(n))
		}
	}
	g.Value = fmt.Sprintf("%s (mask %#x)", strings.Join(fixed, " "), mask)
	if len(fixed) == 0 {
		g.Value = "none"
	}
	if mask&(1<<(erratumDisconnectedDir-1)) == 0 {
		g.Verdict, g.Fix = Warn, "the newest release of the kernel's series"
		g.Why = "Erratum 3 (CVE-2025-68736): a directory that was moved out of its bind mount can have " +
			"more rights than the rules grant."
	}
	return g
}

func (f *facts) userNotif() Finding {
	return f.notif.yesNo(Finding{ID: "seccomp-notify", Title: "seccomp user notification"}, "5.0",
		"There can be no supervisor: all of /proc is closed inside, even its harmless files.")
}

func (f *facts) waitKillable() Finding {
	return f.killable.yesNo(Finding{ID: "wait-killable-recv", Title: "seccomp WAIT_KILLABLE_RECV"}, "5.19",
		"There can be no supervisor, because a timer's signals could keep a call from ever ending: all "+
			"of /proc is closed inside, even its harmless files.")
}

func (f *facts) syncWakeUp() Finding {
	return f.byRelease(Finding{ID: "sync-wake-up", Title: "seccomp FD_SYNC_WAKE_UP"}, 6, 6,
		"Opening a file inside costs up to ten times as much without it.")
}

// quickAnswers is about a race of WAIT_KILLABLE_RECV, which Linux 6.18 has the fix of.
func (f *facts) quickAnswers() Finding {
	g := f.byRelease(Finding{ID: "quick-answers", Title: "seccomp keeps quick answers"}, 6, 18,
		"A signal that arrives while a quick answer is on its way can make the call run twice, unless "+
			"the distribution has backported the fix from 6.18.")
	if g.Fix != "" {
		g.Fix = "Linux 6.18, or a stable release of an older series that has the fix"
	}
	return g
}

// childReading is about reading what a target hands to the kernel, tried on a child.
func (f *facts) childReading() Finding {
	g := Finding{ID: "read-children", Title: "reading a child's memory", Value: "yes"}
	switch {
	case f.foreignProcfs():
		g.Value, g.Verdict, g.Why = "could not tell", Unknown, "/proc does not show this process by its process ID."
	case f.children != nil:
		g.Value, g.Verdict = "no", Warn
		g.Why = fmt.Sprintf("A supervisor cannot read which file is opened, so all of /proc is closed "+
			"inside, even its harmless files (%v).", f.children)
		g.Fix = "allow process_vm_readv in the container's seccomp profile"
		if !f.sameIDs() {
			g.Fix = "start memjail with equal real and effective user and group IDs"
		}
	}
	return g
}

func (f *facts) pidfd() Finding {
	return f.pidfds.yesNo(Finding{ID: "pidfd", Title: "process descriptors (pidfd)"}, "5.3",
		"A process can be identified only by its process ID, which may be reused: there can be no supervisor.")
}
