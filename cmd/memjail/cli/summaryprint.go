package cli

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/learn"
	"github.com/memjail/memjail/sandbox/report"
	"github.com/memjail/memjail/supervisor"
)

// summaryLines is how many kinds of attempts the summary lists at most; the log has more.
const summaryLines = 10

// summary is what the summary needs to know besides the attempts.
type summary struct {
	out     io.Writer
	style   style
	places  learn.Places
	policy  policy.Policy
	env     []string // before the policy changes it
	command []string // what was run
}

// summary prints what was refused, alike attempts once, and what would allow it.
func (c *collector) summary(s summary) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dropped > 0 {
		s.printf("warning: %d refused attempts are missing from the log, which was too slow", c.dropped)
	}
	kinds, total := c.harmful()
	kinds = alike(kinds)
	if total > 0 {
		s.printf("%s", s.style.bold(countOf(total)+" refused:"))
	}
	for i, k := range kinds {
		switch {
		case i < summaryLines:
			s.printKind(k)
		case i == summaryLines:
			s.printf("  and %d other kinds; --log FILE has them", len(kinds)-i)
		}
	}
	if a := adviseOn(eventsOf(kinds), &s); len(kinds) > 1 || len(kinds) == 1 && !a.repeats(kinds[0].event) {
		s.printAdvice(a)
	}
	for _, k := range c.harmless() {
		e := k.event
		text := fmt.Sprintf("also refused, mostly harmless: %s%s: %s", attempt(e), k.times(), e.Harmless)
		if len(e.Remedy.Edits) > 0 && e.Remedy.Careful == "" && e.Rule != "memory.access" {
			text += "; to allow it: " + report.Printable(e.Remedy.Short())
		}
		s.printf("%s", s.style.fit(text, 2*s.style.width-len(prefix)))
	}
}

// harmless returns the kinds that programs do without, one for each reason.
func (c *collector) harmless() (kinds []*kindCount) {
	seen := map[[2]string]*kindCount{}
	for _, k := range c.order {
		if k.event.Harmless == "" {
			continue
		}
		key := [2]string{k.event.Call, k.event.Harmless}
		if first := seen[key]; first != nil {
			first.count += k.count
			continue
		}
		copied := *k
		seen[key], kinds = &copied, append(kinds, &copied)
	}
	return kinds
}

// brief prints in one line that attempts were refused, if any were that may matter.
func (c *collector) brief(s summary) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kinds, total := c.harmful()
	if total == 0 {
		return
	}
	text := countOf(total) + " refused, such as " + attempt(kinds[len(kinds)-1].event)
	if a := adviseOn(eventsOf(kinds), &s); len(a.edits) > 0 {
		text += "; to allow all of this: " + report.Printable(a.remedy().Short())
	}
	s.printf("%s; memjail run -v tells more", text)
}

// alike puts kinds together that differ only in the program, or in the name that is made in
// or removed from one directory: programs choose names of temporary files at random.
func alike(kinds []*kindCount) []*kindCount {
	var merged []*kindCount
	seen, comms := map[kindKey]*kindCount{}, map[kindKey]map[string]bool{}
	for _, k := range kinds {
		key := kindOf(k.event)
		key.comm, key.remedy = "", k.event.Remedy.String()
		use, target := k.event.Use, k.event.Target
		if target != "" && (use == supervisor.AccessMake || use == supervisor.AccessRemove) {
			key.path = path.Dir(target) + "/"
		}
		if first := seen[key]; first != nil {
			first.count += k.count
			comms[key][k.event.Comm] = true
			first.programs = len(comms[key]) - 1
			continue
		}
		comms[key] = map[string]bool{k.event.Comm: true}
		copied := *k
		seen[key], merged = &copied, append(merged, &copied)
	}
	return merged
}

func countOf(n int) string {
	if n == 1 {
		return "1 attempt"
	}
	return strconv.Itoa(n) + " attempts"
}

func eventsOf(kinds []*kindCount) []supervisor.Event {
	events := make([]supervisor.Event, len(kinds))
	for i, k := range kinds {
		events[i] = k.event
	}
	return events
}

// harmful returns the kinds that may be why a program failed, and how often they occurred.
func (c *collector) harmful() (kinds []*kindCount, total int) {
	total = c.total
	for _, k := range c.order {
		if k.event.Harmless == "" {
			kinds = append(kinds, k)
		} else {
			total -= k.count
		}
	}
	return kinds, total
}

const prefix = "memjail: "

// longestCommand is how many characters of a command are repeated at most.
const longestCommand = 100

func (s *summary) printf(format string, args ...any) {
	fmt.Fprintf(s.out, prefix+format+"\n", args...)
}

// times is how often there was an attempt of the kind, if more than once.
func (k *kindCount) times() string {
	switch {
	case k.programs > 0:
		return fmt.Sprintf(" (%d times, by %d programs)", k.count, k.programs+1)
	case k.count > 1:
		return fmt.Sprintf(" (%d times)", k.count)
	}
	return ""
}

// printKind prints a kind of attempts in two lines: what it was, and what would allow it.
func (s *summary) printKind(k *kindCount) {
	times := k.times()
	room := s.style.width - len(prefix) - len("  ") - len(times)
	s.printf("  %s%s", s.style.fit(refusal(k.event), room), times)
	r := k.event.Remedy
	text := warned(r, r.String())
	if room := s.style.width - len(prefix) - len("    "); s.style.width > 0 && len(text) > room {
		text = warned(r, r.Short()) // never cut: it is meant to be pasted
	}
	s.printf("    %s", s.style.advice(text, r))
}

// printAdvice prints what would allow all of it.
func (s *summary) printAdvice(a advice) {
	if flags := a.remedy().Short(); flags != "" {
		s.printf("to allow all of this: %s", s.style.green(report.Printable(flags)))
	}
	if len(a.guessed) > 0 {
		s.printf("that has more than what was refused: what %s usually %s", report.Printable(
			strings.Join(a.guessed, ", ")), plural(len(a.guessed), "uses", "use"))
	}
	for _, held := range a.withheld {
		s.printf("%s", s.style.yellow("but for "+safe(held.Path)+": "+report.Printable(held.Why)))
	}
	if a.home {
		s.printf("instead, %s gives CMD a home directory of its own, without such files", privateHome.Flag)
	}
	command := shellWords(s.command)
	if utf8.RuneCountInString(command) > longestCommand {
		command = "CMD"
	}
	s.printf("or have a policy written: memjail learn -o my.toml -- %s", command)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func shellWords(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = policy.ShellWord(w)
	}
	return strings.Join(quoted, " ")
}

// printDropped names the variables that CMD did not get: programs that miss them fail
// without a refused call.
func (r *runner) printDropped() {
	e := r.policy.Environment
	var unlisted, dropped []string
	for _, variable := range r.env {
		name, _, _ := strings.Cut(variable, "=")
		if _, set := e.Set[name]; set || e.Passes(name) {
			continue
		}
		if e.DroppedBy(name) != "" {
			dropped = append(dropped, name)
		} else {
			unlisted = append(unlisted, name)
		}
	}
	if home := slices.Index(unlisted, "HOME"); home > 0 { // what programs miss most
		unlisted[0], unlisted[home] = unlisted[home], unlisted[0]
		slices.Sort(unlisted[1:])
	} else {
		slices.Sort(unlisted)
	}
	slices.Sort(dropped)
	if len(unlisted) > 0 {
		r.printf("variables that CMD does not get (environment.keep): %s; --env %s keeps one",
			firstNames(unlisted), report.Printable(policy.ShellWord(unlisted[0])))
	}
	if len(dropped) > 0 {
		r.printf("variables that CMD does not get, since they look like secrets (environment.drop): %s; "+
			"--drop-env %s passes one", firstNames(dropped),
			report.Printable(policy.ShellWord(policy.PassMark+dropped[0])))
	}
}

// firstNames lists the first of some names, and how many follow.
func firstNames(names []string) string {
	shown := names[:min(len(names), summaryLines)]
	more := ""
	if len(names) > len(shown) {
		more = fmt.Sprintf(" and %d more", len(names)-len(shown))
	}
	return report.Printable(strings.Join(shown, ", ")) + more
}

// unreported says which refusals are reported nowhere; "" if there are none. all: all calls
// that can be are watched.
func unreported(pol policy.Policy, p *sandbox.Plan, all bool) string {
	var calls []string
	if p.Mode == sandbox.ModeSupervised {
		if !all {
			calls = append(calls, "signals, clone3(2), io_uring_setup(2) and uses of dropped capabilities "+
				"(-v watches these)")
		}
		if pol.Network.RestrictsUDP() {
			calls = append(calls, "messages of unconnected UDP sockets")
		}
		if pol.Paths.Rules.Restricted() && pol.Paths.View != policy.ViewShared {
			calls = append(calls, `paths that do not exist in the private view (reported under paths.view = "shared")`)
		}
	} else {
		calls = append(calls, "paths, ports, signals and files of /proc (there is no supervisor)")
	}
	if len(p.DenyFilter) > 0 {
		calls = append(calls, "[syscalls] deny")
	}
	if len(calls) == 0 {
		return ""
	}
	return "not reported are refusals of " + strings.Join(calls, ", ") + `; ask "memjail policy explain --call NAME"`
}

// describe formats in one line who attempted what, which layer refused it and what would
// allow it. What comes from inside is quoted where it could be mistaken.
func describe(e supervisor.Event) string {
	return refusal(e) + "; " + allowing(e)
}

// allowing says what would allow the attempt, and before it what that would open.
func allowing(e supervisor.Event) string {
	return warned(e.Remedy, e.Remedy.String())
}

// warned is what would allow an attempt in these words, with a warning before it.
func warned(r policy.Remedy, words string) string {
	if r.None() {
		return "nothing allows it"
	}
	text := "to allow it: " + report.Printable(words)
	if len(r.Edits) == 0 {
		text = "to allow it, " + report.Printable(words)
	}
	if r.Careful != "" {
		text = "careful (" + report.Printable(r.Careful) + "); " + text
	}
	return text
}

// attempt says who attempted what.
func attempt(e supervisor.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s[%d] %s", safe(e.Comm), e.PID, e.Call)
	if e.Path != "" {
		fmt.Fprintf(&b, " %s", safe(e.Path))
	}
	if e.Access != "" {
		fmt.Fprintf(&b, " to %s", e.Access)
	}
	return b.String()
}

// refusal says who attempted what, and which layer refused it.
func refusal(e supervisor.Event) string {
	text := fmt.Sprintf("%s: %s by %s", attempt(e), e.Errno, e.Layer)
	if e.Reason != "" {
		text += ": " + report.Printable(e.Reason)
	}
	return text
}

func safe(s string) string {
	if quoted := strconv.QuoteToASCII(s); quoted != `"`+s+`"` || strings.Contains(s, " ") {
		return quoted
	}
	return s
}
