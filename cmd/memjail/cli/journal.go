package cli

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/report"
	"github.com/memjail/memjail/sandbox/session"
	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

// journalLog is the journal as a value of --log.
const journalLog = "journal"

const journalSocket = "/run/systemd/journal/socket"

// journal is a connection to the systemd journal, with counts of what was logged. A nil
// one logs nothing.
type journal struct {
	fd     int
	policy string

	mu         sync.Mutex
	seen       map[kindKey]int
	since      time.Time // when what was seen was forgotten the last time
	suppressed int       // attempts of further kinds than are remembered
	dropped    int       // entries that the journal did not take
	sent       time.Time // the last entry
}

// logAgainAfter is how long attempts that are alike are counted together.
const logAgainAfter = time.Hour

func newJournal(fd int, policyName string) *journal {
	return &journal{fd: fd, policy: policyName, seen: map[kindKey]int{}, since: time.Now()}
}

// openJournal connects to the journal while that is still allowed: a supervisor's own
// filter refuses to make sockets.
func openJournal(policyName string) (*journal, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == nil {
		if err = connectJournal(fd); err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("connecting to the systemd journal %q: %w", journalSocket, err)
	}
	return newJournal(fd, policyName), nil
}

func connectJournal(fd int) error { return unix.Connect(fd, &unix.SockaddrUnix{Name: journalSocket}) }

// toJournal reports whether the journal gets standard error anyway, systemd.exec(5)
// "JOURNAL_STREAM".
func toJournal(env []string) bool {
	var st unix.Stat_t
	return unix.Fstat(2, &st) == nil && slices.Contains(env, fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev, st.Ino))
}

// useJournal logs events to the journal if no other place was asked for and standard error
// goes there too. The error describes why they cannot be logged.
func (r *runner) useJournal(env []string) (err error) {
	if r.options.logFile != "" || r.policy.Report.Denials == policy.DenialsOff || !toJournal(env) {
		return nil
	}
	r.journal, err = openJournal(r.policy.Name)
	return err
}

// handover duplicates the connection for another process; nil: there is none.
func (j *journal) handover() *os.File {
	if j == nil {
		return nil
	}
	return session.DupFile(j.fd)
}

// sendFromHelper has a separate process send an entry, if there is one. The journal
// remembers who a sender is, so a process that becomes another program sends nothing.
func (j *journal) sendFromHelper(entry []byte) error {
	if j == nil {
		return nil
	}
	socket := j.handover()
	if socket == nil {
		return fmt.Errorf("logging the start to the journal: %w", unix.EMFILE)
	}
	defer socket.Close()
	return session.SendFromHelper(socket, entry)
}

// refused logs a refused attempt: of those alike the first within the hour, the tenth, the
// hundredth and so on.
func (j *journal) refused(e supervisor.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if time.Since(j.since) > logAgainAfter {
		clear(j.seen)
		j.since, j.suppressed = time.Now(), 0
	}
	key := kindOf(e)
	if _, known := j.seen[key]; !known && len(j.seen) >= maxKinds {
		j.suppressed++
		if powerOfTen(j.suppressed) {
			j.send(suppressedEntry(j.policy, j.suppressed))
		}
		return
	}
	j.seen[key]++
	if n := j.seen[key]; powerOfTen(n) {
		j.send(refusedEntry(j.policy, e, n))
	}
}

func powerOfTen(n int) bool {
	for n > 1 && n%10 == 0 {
		n /= 10
	}
	return n == 1
}

// log sends an entry that is no refusal, if there is one.
func (j *journal) log(entry []byte) {
	if j == nil || len(entry) == 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.send(entry)
}

// send sends an entry, after the number of those that were dropped before it. j.mu is held.
func (j *journal) send(entry []byte) {
	if j.dropped > 0 && j.write(droppedEntry(j.policy, j.dropped)) == nil {
		j.dropped = 0
	}
	if j.dropped > 0 || j.write(entry) != nil {
		j.dropped++
	}
}

// write never waits: a caller inside waits for an answer meanwhile.
func (j *journal) write(entry []byte) error {
	err := sendNow(j.fd, entry)
	// The journal has made its socket again, and the one that this was connected to has no
	// reader any more.
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOTCONN) {
		if err = connectJournal(j.fd); err == nil {
			err = sendNow(j.fd, entry)
		}
	}
	if err == nil {
		j.sent = time.Now()
	}
	return err
}

func sendNow(fd int, entry []byte) error {
	for {
		if err := unix.Send(fd, entry, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL); err != unix.EINTR {
			return err
		}
	}
}

// close logs how many entries were dropped. It waits up to 200 ms for the journal to take
// what was sent, and 10 ms for it to look at the sender: it would not know the unit of one
// that has ended.
func (j *journal) close() {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.dropped > 0 {
		j.write(droppedEntry(j.policy, j.dropped))
	}
	if j.sent.IsZero() {
		return
	}
	for deadline := time.Now().Add(200 * time.Millisecond); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if left, err := unix.IoctlGetInt(j.fd, unix.TIOCOUTQ); err != nil || left == 0 {
			time.Sleep(time.Until(j.sent.Add(journalLook)))
			return
		}
	}
}

// journalLook is how long after an entry the journal may look at its sender.
const journalLook = 10 * time.Millisecond

// refusedEntry describes an attempt that was made n times.
func refusedEntry(policyName string, e supervisor.Event, n int) fields {
	text := describe(e)
	if n > 1 {
		text += fmt.Sprintf(" (%d times)", n)
	}
	f := newFields(messageRefused, priorityWarning, "refused", text, policyName)
	f.add("MEMJAIL_CALL", e.Call)
	f.add("MEMJAIL_PATH", e.Path)
	f.add("MEMJAIL_ACCESS", e.Access)
	f.add("MEMJAIL_LAYER", string(e.Layer))
	f.add("MEMJAIL_ERRNO", e.Errno)
	f.add("MEMJAIL_REASON", e.Reason)
	f.add("MEMJAIL_RULE", e.Rule)
	for _, edit := range e.Remedy.Edits {
		f.add("MEMJAIL_FLAG", edit.CommandLine())
		f.add("MEMJAIL_KEY", edit.Key)
		f.add("MEMJAIL_VALUE", edit.Value)
	}
	f.add("MEMJAIL_NOTE", e.Remedy.Note)
	f.add("MEMJAIL_CAREFUL", e.Remedy.Careful)
	f.add("MEMJAIL_HARMLESS", e.Harmless)
	f.add("MEMJAIL_COMM", e.Comm)
	f.add("MEMJAIL_PID", strconv.Itoa(e.PID))
	f.add("MEMJAIL_TID", strconv.Itoa(e.TID))
	f.add("MEMJAIL_COUNT", strconv.Itoa(n))
	if e.Predicted {
		f.add("MEMJAIL_PREDICTED", "1")
	}
	return f
}

// suppressedEntry counts attempts that are not logged one by one any more: the sandbox
// chooses how many kinds there are.
func suppressedEntry(policyName string, n int) fields {
	text := fmt.Sprintf("%d kinds of refused attempts were logged within the hour; attempts of further "+
		"kinds: %d so far", maxKinds, n)
	f := newFields(messageLost, priorityWarning, "lost", text, policyName)
	f.add("MEMJAIL_COUNT", strconv.Itoa(n))
	return f
}

func droppedEntry(policyName string, n int) fields {
	f := newFields(messageLost, priorityWarning, "lost",
		fmt.Sprintf("the journal did not take %d entries, which were dropped", n), policyName)
	f.add("MEMJAIL_COUNT", strconv.Itoa(n))
	return f
}

// startEntry describes a command that is about to start.
func startEntry(policyName, command, shape string) fields {
	text := fmt.Sprintf("%s starts under the policy %s: %s", safe(command), safe(policyName), shape)
	f := newFields(messageStart, priorityInfo, "start", text, policyName)
	f.add("MEMJAIL_COMMAND", command)
	return f
}

func mountEntry(policyName string, m *session.MountError) fields {
	f := newFields(messageMount, priorityWarning, "mount", report.Printable(m.Error()), policyName)
	rule := "on-mount"
	if m.Lost != "" {
		rule = "paths.on-deny-lost"
	}
	f.add("MEMJAIL_RULE", rule)
	f.add("MEMJAIL_PID", strconv.Itoa(m.PID))
	return f
}

func warningEntry(policyName, text string) fields {
	return newFields(messageWarning, priorityWarning, "warning", text, policyName)
}

func supervisorEndEntry(policyName string, pid int) fields {
	f := newFields(messageSupervisorEnd, priorityError, "supervisor-end", session.ErrSupervisorKilled.Error(),
		policyName)
	f.add("MEMJAIL_RULE", "on-supervisor-exit")
	f.add("MEMJAIL_PID", strconv.Itoa(pid))
	return f
}
