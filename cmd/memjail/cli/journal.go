package cli

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

// The systemd journal takes entries of fields in datagrams, in the protocol of
// https://systemd.io/JOURNAL_NATIVE_PROTOCOL/. The journal package of go-systemd
// opens its socket with the first entry, which a supervisor's own filter refuses, and
// brings package net along, which every start would pay for.

// The ids of memjail's entries, sd_id128_t, one for each kind: see docs/systemd.md.
const (
	messageStart   = "89c35b536118440bb994104ba365dda2"
	messageRefused = "b8915c57fd9f41edbfe87367e09bbd44"
	messageMount   = "102b5613e4a64e53b08e623c9690ea76"
)

// journalLog is the journal as a value of --log.
const journalLog = "journal"

const journalSocket = "/run/systemd/journal/socket"

// The priorities of entries, syslog(3).
const (
	priorityWarning = "4"
	priorityInfo    = "6"
)

// logKind is what a log takes.
type logKind int

const (
	logJSON logKind = iota // one object a line
	logText
	logJournal
)

func (k logKind) entry(policyName string) logEntry {
	switch k {
	case logText:
		return logLine
	case logJournal:
		return newJournal(policyName).refused
	default:
		return jsonLine
	}
}

// openJournal connects to the journal. Nobody waits for it: what it does not take is
// lost.
func openJournal() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == nil {
		if err = unix.Connect(fd, &unix.SockaddrUnix{Name: journalSocket}); err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("connecting to the systemd journal %q: %w", journalSocket, err)
	}
	return os.NewFile(uintptr(fd), journalLog), nil
}

// waitTaken waits, for a fifth of a second at most, until the journal has taken what it
// was sent, and for the moment in which it looks at the sender: of one that has ended
// it would not know the unit.
func waitTaken(fd int) {
	const look = 10 * time.Millisecond
	for deadline := time.Now().Add(200 * time.Millisecond); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if left, err := unix.IoctlGetInt(fd, unix.TIOCOUTQ); err != nil || left == 0 {
			time.Sleep(look)
			return
		}
	}
}

// useJournal has refusals told to the journal where that is what gets standard error
// anyway, systemd.exec(5) "JOURNAL_STREAM". The error says why they cannot be.
func (o *runOptions) useJournal(env []string) error {
	if o.logFile != "" || o.report == "off" || !toJournal(env) {
		return nil
	}
	probe, err := openJournal()
	if err != nil {
		return err
	}
	o.logFile = journalLog
	return probe.Close()
}

func toJournal(env []string) bool {
	var st unix.Stat_t
	if unix.Fstat(2, &st) != nil {
		return false
	}
	own := fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev, st.Ino)
	for _, v := range env {
		if v == own {
			return true
		}
	}
	return false
}

// journal makes the entries about refused attempts: of those alike the first, the
// tenth, the hundredth and so on.
type journal struct {
	policy string
	mu     sync.Mutex
	seen   map[kindKey]int
}

func newJournal(policyName string) *journal {
	return &journal{policy: policyName, seen: map[kindKey]int{}}
}

// count says how often an attempt was made, and whether this time is told.
func (j *journal) count(e supervisor.Event) (n int, told bool) {
	key := kindOf(e)
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, known := j.seen[key]; !known && len(j.seen) >= maxKinds {
		return 0, false
	}
	j.seen[key]++
	n = j.seen[key]
	for n%10 == 0 {
		n /= 10
	}
	return j.seen[key], n == 1
}

func (j *journal) refused(e supervisor.Event) []byte {
	n, told := j.count(e)
	if !told {
		return nil
	}
	text := describe(e)
	if n > 1 {
		text += fmt.Sprintf(" (%d times)", n)
	}
	f := newFields(messageRefused, priorityWarning, "refused", text)
	f.add("MEMJAIL_POLICY", j.policy)
	f.add("MEMJAIL_CALL", e.Call)
	f.add("MEMJAIL_PATH", e.Path)
	f.add("MEMJAIL_ACCESS", e.Access)
	f.add("MEMJAIL_LAYER", string(e.Layer))
	f.add("MEMJAIL_ERRNO", e.Errno)
	f.add("MEMJAIL_REASON", e.Reason)
	f.add("MEMJAIL_RULE", e.Rule)
	f.add("MEMJAIL_ALLOW", e.Allow)
	f.add("MEMJAIL_COMM", e.Comm)
	f.add("MEMJAIL_PID", strconv.Itoa(e.PID))
	f.add("MEMJAIL_TID", strconv.Itoa(e.TID))
	f.add("MEMJAIL_COUNT", strconv.Itoa(n))
	if e.Predicted {
		f.add("MEMJAIL_PREDICTED", "1")
	}
	return f
}

// startEntry says that a command is about to begin.
func startEntry(policyName, command, shape string) []byte {
	f := newFields(messageStart, priorityInfo, "start", fmt.Sprintf("%s starts under the policy %s: %s", safe(command), policyName, shape))
	f.add("MEMJAIL_POLICY", policyName)
	f.add("MEMJAIL_COMMAND", command)
	return f
}

func mountEntry(config successorConfig, text string) []byte {
	f := newFields(messageMount, priorityWarning, "mount", text)
	f.add("MEMJAIL_POLICY", config.Policy.Name)
	f.add("MEMJAIL_RULE", "on-mount")
	f.add("MEMJAIL_PID", strconv.Itoa(config.PID))
	return f
}

// fields is an entry as it is sent.
type fields []byte

func newFields(id, priority, event, text string) fields {
	var f fields
	f.add("MESSAGE", text)
	f.add("MESSAGE_ID", id)
	f.add("PRIORITY", priority)
	f.add("SYSLOG_IDENTIFIER", "memjail")
	f.add("MEMJAIL_EVENT", event)
	return f
}

// add adds a field that has a value. A value with a line break goes with its length
// before it, so that what comes from the sandbox cannot make a field of its own.
func (f *fields) add(name, value string) {
	switch {
	case value == "":
		return
	case strings.ContainsRune(value, '\n'):
		*f = append(append(*f, name...), '\n')
		*f = append(binary.LittleEndian.AppendUint64(*f, uint64(len(value))), value...)
	default:
		*f = append(append(append(*f, name...), '='), value...)
	}
	*f = append(*f, '\n')
}
