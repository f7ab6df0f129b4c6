package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/report"
	"github.com/memjail/memjail/supervisor"
)

// summaryLines is how many kinds of attempts the summary tells at most; the log
// has all.
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

// kindKey is what makes attempts alike: the numbers of processes do not. Where there is
// no path, what the arguments were is told by the reason and by what would allow it
// alone: sockets of two families are two kinds.
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

// writeLog writes lines as the log takes them. A log that cannot be written is no
// reason to disturb the command.
func (c *collector) writeLog(lines <-chan []byte) {
	defer close(c.written)
	for line := range lines {
		c.log.Write(line)
	}
}

// close writes what still waits, for as long as that takes at most a second.
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

// add takes one refused attempt.
func (c *collector) add(e supervisor.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total++
	c.write(e)
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

// write hands the attempt to the log's writer: the caller inside waits for an
// answer meanwhile, and must not wait for the log. c.mu is held.
func (c *collector) write(e supervisor.Event) {
	if c.lines == nil {
		return
	}
	select {
	case c.lines <- c.entry(e):
	default:
		c.dropped++
	}
}

// logKind is what a log takes.
type logKind int

const (
	logJSON logKind = iota // one object a line
	logText
	logJournal
)

func (k logKind) entry() logEntry {
	if k == logText {
		return logLine
	}
	return jsonLine
}

// logEntry makes what a log takes of an attempt.
type logEntry func(supervisor.Event) []byte

// jsonLine is an attempt as a log for programs has it.
func jsonLine(e supervisor.Event) []byte {
	line, err := json.Marshal(e)
	if err != nil {
		return nil
	}
	return append(line, '\n')
}

// logLine is an attempt as a log for people has it.
func logLine(e supervisor.Event) []byte {
	return []byte(e.Time.UTC().Format(time.RFC3339Nano) + " " + describe(e) + "\n")
}

// summary prints what was refused, alike attempts once.
func (c *collector) summary(w io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total == 0 {
		return
	}
	plural := "s"
	if c.total == 1 {
		plural = ""
	}
	if c.dropped > 0 {
		fmt.Fprintf(w, "memjail: warning: %d of the refused attempts are missing in the log, which was too slow to take them\n", c.dropped)
	}
	fmt.Fprintf(w, "memjail: %d attempt%s refused:\n", c.total, plural)
	for i, k := range c.order {
		if i == summaryLines {
			fmt.Fprintf(w, "memjail:   and %d other kinds; --log FILE has them all\n", len(c.order)-i)
			return
		}
		times := ""
		if k.count > 1 {
			times = fmt.Sprintf(" (%d times)", k.count)
		}
		fmt.Fprintf(w, "memjail:   %s%s\n", describe(k.event), times)
	}
}

// untold says which refusals are told nowhere: those of calls that programs do not
// expect to be interrupted, as a call may be that the supervisor is asked about.
func untold(pol policy.Policy) string {
	calls := "clone with CLONE_NEWUSER, signals to processes outside"
	if pol.Paths.Rules.Restricted() {
		calls = "mkdir, unlink, rename, link and the like, " + calls
	}
	return "not told are refusals of " + calls + `: "memjail policy explain --write PATH" (or --call NAME) answers for them`
}

// describe says in one line who attempted what, which layer refused it and what
// would allow it. What comes from inside is quoted where it could be mistaken.
func describe(e supervisor.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s[%d] %s", safe(e.Comm), e.PID, e.Call)
	if e.Path != "" {
		fmt.Fprintf(&b, " %s", safe(e.Path))
	}
	if e.Access != "" {
		fmt.Fprintf(&b, " to %s", e.Access)
	}
	fmt.Fprintf(&b, ": %s by %s", e.Errno, e.Layer)
	if e.Reason != "" {
		fmt.Fprintf(&b, ": %s", report.Printable(e.Reason))
	}
	if e.Allow != "" {
		fmt.Fprintf(&b, "; to allow it: %s", report.Printable(e.Allow))
	} else {
		b.WriteString("; nothing allows it")
	}
	return b.String()
}

func safe(s string) string {
	if quoted := strconv.QuoteToASCII(s); quoted != `"`+s+`"` || strings.Contains(s, " ") {
		return quoted
	}
	return s
}
