package cli

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/memjail/memjail/sandbox/report"
	"github.com/memjail/memjail/supervisor"
)

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
	comm, call, path, access, errno, reason, remedy string
}

func kindOf(e supervisor.Event) kindKey {
	k := kindKey{comm: e.Comm, call: e.Call, path: alikePath(e), access: e.Access, errno: e.Errno}
	if e.Path == "" {
		k.reason, k.remedy = e.Reason, e.Remedy.String()
	}
	return k
}

type kindCount struct {
	event supervisor.Event
	count int
	// programs are how many others did the same, where these are put together.
	programs int
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
	line, err := report.JSONLine(e)
	if err != nil {
		return nil
	}
	return line
}

// logLine formats an attempt for a log that people read.
func logLine(e supervisor.Event) []byte {
	return []byte(e.Time.UTC().Format(time.RFC3339Nano) + " " + describe(e) + "\n")
}
