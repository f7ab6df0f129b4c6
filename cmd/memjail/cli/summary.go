package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/learn"
	"github.com/memjail/memjail/sandbox/report"
	"github.com/memjail/memjail/supervisor"
)

// summaryLines is how many kinds of attempts the summary lists at most; the log has more.
const summaryLines = 10

// maxKinds bounds what is remembered: the sandbox chooses how many there are.
const maxKinds = 4096

// collector gathers refused attempts: each goes to the log as it happens, and
// those alike make one line of the summary.
type collector struct {
	mu      sync.Mutex
	log     *os.File
	entry   logEntry
	journal *journal
	kinds   map[kindKey]*kindCount
	order   []*kindCount
	total   int

	lines   chan []byte // to the log's writer; nil: no log
	written chan struct{}
	dropped int
}

// kindKey is what makes attempts alike; process numbers do not. Without a path, only the
// reason and what would allow the attempt tell its arguments: sockets of two families are
// two kinds.
type kindKey struct {
	comm, call, path, access, errno, reason, allow string
}

func kindOf(e supervisor.Event) kindKey {
	k := kindKey{comm: e.Comm, call: e.Call, path: alikePath(e), access: e.Access, errno: e.Errno}
	if e.Path == "" {
		k.reason, k.allow = e.Reason, e.Allow
	}
	return k
}

type kindCount struct {
	event supervisor.Event
	count int
}

// logQueue is how many lines may wait for a log that is slow to take them.
const logQueue = 4096

func newCollector(log *os.File, entry logEntry) *collector {
	c := &collector{log: log, entry: entry, kinds: map[kindKey]*kindCount{}}
	if log != nil {
		c.lines, c.written = make(chan []byte, logQueue), make(chan struct{})
		go c.writeLog(c.lines)
	}
	return c
}

// writeLog writes lines as the log takes them. A log that cannot be written does not
// disturb the command.
func (c *collector) writeLog(lines <-chan []byte) {
	defer close(c.written)
	for line := range lines {
		c.log.Write(line)
	}
}

// close writes the lines that still wait, for a second at most.
func (c *collector) close() {
	if c.lines == nil {
		return
	}
	c.mu.Lock()
	close(c.lines)
	c.lines = nil
	c.mu.Unlock()
	select {
	case <-c.written:
	case <-time.After(time.Second):
	}
}

// add counts and logs one refused attempt.
func (c *collector) add(e supervisor.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total++
	c.write(c.entry(e))
	if c.journal != nil {
		c.journal.refused(e)
	}
	key := kindOf(e)
	k := c.kinds[key]
	if k == nil {
		if len(c.kinds) >= maxKinds {
			return
		}
		k = &kindCount{event: e}
		c.kinds[key] = k
		c.order = append(c.order, k)
	}
	k.count++
}

// alikePath makes paths that differ only in a process's number alike.
func alikePath(e supervisor.Event) string {
	parts := strings.Split(e.Path, "/")
	for i, part := range parts {
		if _, err := strconv.Atoi(part); err == nil {
			parts[i] = "N"
		}
	}
	return strings.Join(parts, "/")
}

// warn logs a warning.
func (c *collector) warn(text string, kind logKind) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write(kind.warning(text))
}

// write queues a line for the log's writer: the caller inside waits for an answer
// meanwhile, and must not wait for the log. c.mu is held.
func (c *collector) write(line []byte) {
	if c.lines == nil || len(line) == 0 {
		return
	}
	select {
	case c.lines <- line:
	default:
		c.dropped++
	}
}

// logKind is the format of a log.
type logKind int

const (
	logJSON logKind = iota // one object per line
	logText
	logJournal
)

// entry returns what formats the attempts of one supervisor.
func (k logKind) entry() logEntry {
	return (&logLimiter{kind: k, most: logMost, kinds: map[kindKey]int{}}).entry
}

// line formats one attempt.
func (k logKind) line(e supervisor.Event) []byte {
	if k == logText {
		return logLine(e)
	}
	return jsonLine(e)
}

// logEntry formats an attempt for a log; empty: it is not logged.
type logEntry func(supervisor.Event) []byte

// jsonLine formats an attempt for a log that programs read.
func jsonLine(e supervisor.Event) []byte {
	line, err := json.Marshal(e)
	if err != nil {
		return nil
	}
	return append(line, '\n')
}

// logLine formats an attempt for a log that people read.
func logLine(e supervisor.Event) []byte {
	return []byte(e.Time.UTC().Format(time.RFC3339Nano) + " " + describe(e) + "\n")
}

// summary prints what was refused, alike attempts once, and what would allow it. command
// is what was run.
func (c *collector) summary(w io.Writer, places learn.Places, command []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dropped > 0 {
		fmt.Fprintf(w, "memjail: warning: %d refused attempts are missing from the log, which was too slow\n",
			c.dropped)
	}
	kinds, total := c.harmful()
	if total > 0 {
		plural := "s"
		if total == 1 {
			plural = ""
		}
		fmt.Fprintf(w, "memjail: %d attempt%s refused:\n", total, plural)
	}
	events := make([]supervisor.Event, len(kinds))
	for i, k := range kinds {
		events[i] = k.event
		switch {
		case i < summaryLines:
			c.printKind(w, k, places)
		case i == summaryLines:
			fmt.Fprintf(w, "memjail:   and %d other kinds; --log FILE has them\n", len(kinds)-i)
		}
	}
	if a := adviseOn(events, places); len(kinds) > 1 || len(kinds) == 1 && !a.repeats(kinds[0].event) {
		printAdvice(w, a, command)
	}
	for _, k := range c.order {
		if why := harmless(k.event); why != "" {
			allow := ""
			if k.event.Allow != "" && k.event.Rule != "memory.access" {
				allow = "; to allow it: " + report.Printable(k.event.Allow)
			}
			fmt.Fprintf(w, "memjail: also refused, mostly harmless: %s: %s%s\n", attempt(k.event), why, allow)
		}
	}
}

// harmful returns the kinds that may be why a program failed, and how often they occurred.
func (c *collector) harmful() (kinds []*kindCount, total int) {
	total = c.total
	for _, k := range c.order {
		if harmless(k.event) == "" {
			kinds = append(kinds, k)
		} else {
			total -= k.count
		}
	}
	return kinds, total
}

// printKind prints a kind of attempts in two lines: what it was, and what would allow it.
func (c *collector) printKind(w io.Writer, k *kindCount, places learn.Places) {
	times := ""
	if k.count > 1 {
		times = fmt.Sprintf(" (%d times)", k.count)
	}
	fmt.Fprintf(w, "memjail:   %s%s\n", refusal(k.event), times)
	allow := "nothing allows it"
	if k.event.Allow != "" {
		allow = "to allow it: " + report.Printable(k.event.Allow)
		if why := careful(k.event, places); why != "" {
			allow = "careful (" + why + "); " + allow
		}
	}
	fmt.Fprintf(w, "memjail:     %s\n", allow)
}

// printAdvice prints what would allow all of it.
func printAdvice(w io.Writer, a advice, command []string) {
	if len(a.flags) > 0 {
		fmt.Fprintf(w, "memjail: to allow all of this: %s\n", strings.Join(a.flags, " "))
	}
	for _, held := range a.withheld {
		fmt.Fprintf(w, "memjail: but for %s: %s\n", safe(held.Path), report.Printable(held.Why))
	}
	fmt.Fprintf(w, "memjail: or have a policy written: memjail learn -o my.toml -- %s\n", shellWords(command))
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

// unreported says which refusals are reported nowhere.
func unreported(pol policy.Policy) string {
	calls := "signals to processes outside"
	if len(pol.Syscalls.Deny) > 0 {
		calls += ", the calls of [syscalls] deny"
	}
	if !pol.Paths.Rules.Restricted() {
		calls += ", names made and removed in protected directories"
	}
	return "not reported are refusals of " + calls +
		`: "memjail policy explain --call NAME" (or --write PATH) answers for them`
}

// describe formats in one line who attempted what, which layer refused it and what would
// allow it. What comes from inside is quoted where it could be mistaken.
func describe(e supervisor.Event) string {
	if e.Allow == "" {
		return refusal(e) + "; nothing allows it"
	}
	return refusal(e) + "; to allow it: " + report.Printable(e.Allow)
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
