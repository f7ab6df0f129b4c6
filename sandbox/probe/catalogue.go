package probe

import (
	"fmt"
	"path"
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
	// Closed: it must not get through.
	Closed Promise = "closed"
	// Open: it gets through on purpose; Attempt.Why says why.
	Open Promise = "open"
)

// Attempt is an entry of the catalogue.
type Attempt struct {
	Route    string // "proc-mem"
	Spelling string // "openat2", "symlink"
	Target   Target
	Effect   Effect
	ABI      ABI
	// Explain says in one line how it works.
	Explain string
	// Reference is where the route is documented: a manual page, a kernel document,
	// a CVE.
	Reference string
	Promise   Promise
	// Why says why the default policy leaves it open.
	Why string
	// Seconds is the time it may take, 0 for the usual five.
	Seconds int
	// Needs says what the machine lacks for the attempt to mean anything, or "".
	Needs func() string
	// Prepare runs outside, before the sandbox is started, with the rights of
	// whoever runs the suite; what it makes is in the Stage's directories, or mounted
	// in the run's private mount namespace. Its error is why nothing can be proven.
	// undo, which may be nil, takes everything back.
	Prepare func(s *Stage) (undo func(), err error)
	// Late runs outside too, but while the sandbox is at work, right before the
	// attempt; undo runs right after it.
	Late func(s *Stage) (undo func(), err error)
	// Attack is the attempt itself, in the attacker.
	Attack func(s *Scene, v Victim) Outcome
	// Check, for attempts whose effect is not on a victim's canary, says afterwards
	// (in the director) whether it came about; nil judges the canary.
	Check func(s *Scene, v Victim, o Outcome) bool
	// Ask, for attempts whose effect is on something else of the victim than its
	// canary, judges by what the victim says afterwards; gone: it does not answer.
	Ask func(after State, gone bool) bool
	// Layer is what of memjail refuses it, where neither its log nor the errno tells.
	Layer string
	// Permits says which setting of a policy opens the attempt on purpose, or "".
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

// Outcome is what an attacker says about its attempt. It is only believed where it
// can be checked.
type Outcome struct {
	// Data is what was read where the canary should be.
	Data []byte `json:"data,omitempty"`
	// Done: the attacker believes that it got through.
	Done bool `json:"done"`
	// Errno is what refused it.
	Errno unix.Errno `json:"errno,omitempty"`
	// Step names the call that was refused: "open", "PTRACE_ATTACH".
	Step string `json:"step,omitempty"`
	// Detail is anything worth telling.
	Detail string `json:"detail,omitempty"`
	// Unready: the suite could not even begin; it says nothing about the sandbox.
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

// Catalogue returns all attempts, in the order of their names' routes as
// documented.
func Catalogue() []Attempt {
	var all []Attempt
	for _, family := range families {
		all = append(all, complete(family())...)
	}
	return all
}

// complete fills in what attempts leave out because it is usual.
func complete(all []Attempt) []Attempt {
	for i := range all {
		if all[i].ABI == "" {
			all[i].ABI = Native
		}
		if all[i].Promise == "" {
			all[i].Promise = Closed
		}
	}
	return all
}

// families are the parts of the catalogue.
var families = slices.Concat([]func() []Attempt{procMemAttempts}, callFamilies, []func() []Attempt{fileAttempts})

// Select returns the attempts whose names match one of the patterns; a pattern is
// as for path.Match, in which "*" does not cross a slash, or a prefix that ends in
// "/...". No pattern selects all.
func Select(all []Attempt, patterns []string) ([]Attempt, error) {
	if len(patterns) == 0 {
		return all, nil
	}
	var chosen []Attempt
	for _, a := range all {
		for _, p := range patterns {
			matched, err := matches(p, a.Name())
			if err != nil {
				return nil, fmt.Errorf("pattern %q: %w", p, err)
			}
			if matched {
				chosen = append(chosen, a)
				break
			}
		}
	}
	return chosen, nil
}

func matches(pattern, name string) (bool, error) {
	if prefix, ok := strings.CutSuffix(pattern, "/..."); ok {
		return name == prefix || strings.HasPrefix(name, prefix+"/"), nil
	}
	return path.Match(pattern, name)
}
