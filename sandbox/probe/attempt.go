package probe

import (
	"fmt"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

// Target is whose memory an attempt is after.
type Target string

const (
	Self    Target = "self"    // the attacker's own process
	Thread  Target = "thread"  // the same, named by another thread's number
	Child   Target = "child"   // the attacker's child
	Parent  Target = "parent"  // the attacker's parent, inside
	Sibling Target = "sibling" // another child of the attacker's parent, inside
	Outside Target = "outside" // a process outside the sandbox, same user
	System  Target = "system"  // no process: a file, a device, the kernel
	Monitor Target = "monitor" // the process that supervises the sandbox
)

// Effect is what an attempt brings about.
type Effect string

const (
	Read      Effect = "read"       // the canary
	Write     Effect = "write"      // the canary
	WriteRO   Effect = "write-ro"   // a canary on a page that is mapped read-only
	WriteCode Effect = "write-code" // a page that is mapped executable, or its file
	Obtain    Effect = "obtain"     // a means: a descriptor, a namespace, a tracer's seat
	Disturb   Effect = "disturb"    // the victim, without its memory: a signal, a limit
)

// ABI is the system call interface an attempt uses.
type ABI string

const (
	Native ABI = "native"
	I386   ABI = "i386" // int $0x80 from a 64-bit process
)

// Promise is what memjail's default policy says about an attempt.
type Promise string

const (
	// PromiseClosed: it must not get through.
	PromiseClosed Promise = "closed"
	// PromiseOpen: it gets through on purpose; Attempt.Why is the reason.
	PromiseOpen Promise = "open"
)

// Attempt is an entry of the catalogue. The package documentation describes how one is
// written and in which process each function runs.
type Attempt struct {
	Route    string // "proc-mem"
	Spelling string // "openat2", "symlink"
	Target   Target
	Effect   Effect
	ABI      ABI // "" is [Native]
	// Explain describes in one line how it works.
	Explain string
	// Reference is where the route is documented: a manual page, a kernel document,
	// a CVE.
	Reference string
	Promise   Promise // "" is [PromiseClosed]
	// Why is the reason why the default policy leaves it open.
	Why string
	// Seconds is the time it may take, 0 for [DefaultTimeout].
	Seconds int
	// Needs returns what the machine lacks for the attempt to mean anything, or "".
	Needs func() string
	// As is whom the launcher is started as, nil: whoever runs the suite. Another user
	// needs root, and attempts of the same one share a launcher. Victims are root's then.
	As *User
	// Setup runs outside, before the sandbox is started, with the rights of whoever runs
	// the suite. What it makes is in the Setup's directories, or mounted in the run's
	// private mount namespace. Its error is the reason why nothing can be proven. undo,
	// which may be nil, takes everything back.
	Setup func(s *Setup) (undo func(), err error)
	// SetupLate runs outside too, but while the sandbox is at work, right before the
	// attempt; undo runs right after it and must not be nil.
	SetupLate func(s *Setup) (undo func(), err error)
	// Attack is the attempt itself, in the attacker.
	Attack func(s *Env, v Victim) Outcome
	// Check reports afterwards whether the effect came about, for attempts whose effect
	// is not on a victim's canary. It runs where the attempt was made from, inside. nil
	// judges the canary.
	Check func(s *Env, v Victim, o Outcome) bool
	// Judge reports whether the effect came about, by the victim's own word, for attempts
	// whose effect is on something else of the victim than its canary. gone: the victim
	// does not answer.
	Judge func(after State, gone bool) bool
	// Layer is the layer of memjail that refuses it, where memjail's log does not show
	// that and the errno would mislead.
	Layer string
	// ByCapability: where the memory capability has been dropped, it is what refuses the
	// attempt with EACCES. That is so for opens of procfs for reading, and for memfds that
	// are executed; Landlock refuses writes before it.
	ByCapability bool
	// ClosedBy reports whether a policy closes an attempt that the default policy leaves open:
	// what gets through then is a hole. nil: none does.
	ClosedBy func(p policy.Policy) bool
	// Permits returns which setting of a policy opens the attempt on purpose, or "".
	Permits func(p policy.Policy) string
}

// Name is the attempt's stable name: route/spelling/target/effect, with the ABI at
// the end where it is not the native one.
func (a *Attempt) Name() string {
	parts := []string{a.Route, a.Spelling, string(a.Target), string(a.Effect)}
	if a.Spelling == "" {
		parts = slices.Delete(parts, 1, 2)
	}
	if a.ABI != Native && a.ABI != "" {
		parts = append(parts, string(a.ABI))
	}
	return strings.Join(parts, "/")
}

// Outcome is an attacker's report of its attempt. It is only believed where it can be
// checked. [Got], [Did] and [Refused] make one.
type Outcome struct {
	// Data is what was read where the canary should be.
	Data []byte `json:"data,omitempty"`
	// Done: the attacker believes that it got through.
	Done bool `json:"done"`
	// Errno is what refused it.
	Errno unix.Errno `json:"errno,omitempty"`
	// Step names the call that was refused: "open", "PTRACE_ATTACH".
	Step string `json:"step,omitempty"`
	// Detail is anything else that a reader of the report needs.
	Detail string `json:"detail,omitempty"`
	// Unready: the attempt could not be made, for a reason that is not the sandbox's.
	Unready bool `json:"unready,omitempty"`
}

// Got is the outcome of a reading that returned data.
func Got(data []byte) Outcome { return Outcome{Data: slices.Clone(data), Done: true} }

// Did is the outcome of an attempt that seems to have got through.
func Did(format string, args ...any) Outcome {
	return Outcome{Done: true, Detail: fmt.Sprintf(format, args...)}
}

// Refused is the outcome of a step that failed.
func Refused(step string, err error) Outcome {
	o := Outcome{Step: step, Detail: fmt.Sprint(err)}
	if errno, ok := errnoOf(err); ok {
		o.Errno = errno
	}
	return o
}
