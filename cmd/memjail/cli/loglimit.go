package cli

import (
	"fmt"
	"sync"
	"time"

	"github.com/memjail/memjail/sandbox/report"
	"github.com/memjail/memjail/supervisor"
)

const (
	// logAlike is how many attempts that are alike a log has at most. A test suite makes some
	// hundreds; a program that tries the same in a loop makes thousands in a second.
	logAlike = 1000
	// logMost is how many bytes of attempts one supervisor writes to a log. What is inside
	// may have no right to write anywhere, and must not fill a disk this way.
	logMost = 64 << 20
)

// logLimiter formats attempts for a log until it has enough of them.
type logLimiter struct {
	kind logKind
	most int // bytes

	mu    sync.Mutex
	kinds map[kindKey]int
	size  int
	full  bool
}

// entry returns what the log gets about an attempt: a line, a line about many of them, or
// nothing.
func (l *logLimiter) entry(e supervisor.Event) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.full {
		return nil
	}
	key := kindOf(e)
	count, known := l.kinds[key]
	count++
	if known || len(l.kinds) < maxKinds {
		l.kinds[key] = count
	}
	var line []byte
	switch {
	case count < logAlike:
		line = l.kind.line(e)
	case count == logAlike:
		line = append(l.kind.line(e), l.kind.warning("further attempts like the last one are not logged")...)
	case powerOfTen(count):
		line = l.kind.warning(fmt.Sprintf("%d attempts so far like this one: %s", count, attempt(e)))
	}
	if l.size += len(line); l.size > l.most {
		l.full = true
		return l.kind.warning(fmt.Sprintf("no further attempts are logged: there are %d MiB of them", l.most>>20))
	}
	return line
}

// warning formats a warning for a log.
func (k logKind) warning(text string) []byte {
	now := time.Now().UTC()
	if k == logText {
		return []byte(now.Format(time.RFC3339Nano) + " warning: " + text + "\n")
	}
	line, err := report.JSONLine(struct {
		Time    time.Time `json:"time"`
		Warning string    `json:"warning"`
	}{now, text})
	if err != nil {
		return nil
	}
	return line
}
