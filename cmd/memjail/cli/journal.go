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

// journal is a connection to the systemd journal and what has been told there. A nil
// one tells nobody.
type journal struct {
	fd     int
	policy string

	mu     sync.Mutex
	seen   map[kindKey]int
	since  time.Time // when what was seen was forgotten the last time
	untold int       // attempts of further kinds than are remembered
	lost   int       // entries that the journal did not take
	sent   time.Time // the last entry
}

// tellAgain is how long attempts that are alike are counted together.
const tellAgain = time.Hour

func newJournal(fd int, policyName string) *journal {
	return &journal{fd: fd, policy: policyName, seen: map[kindKey]int{}, since: time.Now()}
}

// openJournal connects to the journal, while that is still allowed: a supervisor's own
// filter lets nobody make sockets.
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

// toJournal tells whether the journal gets standard error anyway, systemd.exec(5)
// "JOURNAL_STREAM".
func toJournal(env []string) bool {
	var st unix.Stat_t
	return unix.Fstat(2, &st) == nil && slices.Contains(env, fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev, st.Ino))
}

// useJournal has events told to the journal if nobody asked for another place and
// standard error goes there, too. The error says why they cannot be.
func (r *runner) useJournal(env []string) (err error) {
	if r.options.logFile != "" || r.policy.Report.Denials == policy.DenialsOff || !toJournal(env) {
		return nil
	}
	r.journal, err = openJournal(r.policy.Name)
	return err
}

// handover is the connection for another process; nil: there is none.
func (j *journal) handover() *os.File {
	if j == nil {
		return nil
	}
	return session.DupFile(j.fd)
}

// sendFromHelper has a process of its own send an entry, if there is one. The journal
// remembers who a sender is, so what is going to become another program tells nothing.
func (j *journal) sendFromHelper(entry []byte) error {
	if j == nil {
		return nil
	}
	socket := j.handover()
	if socket == nil {
		return fmt.Errorf("telling the journal of the start: %w", unix.EMFILE)
	}
	defer socket.Close()
	return session.SendFromHelper(socket, entry)
}

// refused tells of a refused attempt: of those alike the first within the hour, the
// tenth, the hundredth and so on.
func (j *journal) refused(e supervisor.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if time.Since(j.since) > tellAgain {
		clear(j.seen)
		j.since, j.untold = time.Now(), 0
	}
	key := kindOf(e)
	if _, known := j.seen[key]; !known && len(j.seen) >= maxKinds {
		j.untold++
		if powerOfTen(j.untold) {
			j.send(untoldEntry(j.policy, j.untold))
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

// tell sends an entry that is no refusal, if there is one.
func (j *journal) tell(entry []byte) {
	if j == nil || len(entry) == 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.send(entry)
}

// send sends an entry, after word of those that were lost before it. j.mu is held.
func (j *journal) send(entry []byte) {
	if j.lost > 0 && j.write(lostEntry(j.policy, j.lost)) == nil {
		j.lost = 0
	}
	if j.lost > 0 || j.write(entry) != nil {
		j.lost++
	}
}

// write never waits: somebody inside waits for an answer meanwhile.
func (j *journal) write(entry []byte) error {
	err := sendNow(j.fd, entry)
	// The journal's socket was made anew, and nobody reads the one that this was
	// connected to.
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

// close says what was lost at last. It waits, for a fifth of a second at most, until
// the journal has taken what it was sent, and for the moment in which that looks at
// the sender: of one that has ended it would not know the unit.
func (j *journal) close() {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.lost > 0 {
		j.write(lostEntry(j.policy, j.lost))
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

// refusedEntry tells of an attempt that was made n times.
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

// untoldEntry tells of attempts that are told no more one by one: the sandbox chooses
// how many kinds there are.
func untoldEntry(policyName string, n int) fields {
	text := fmt.Sprintf("%d kinds of refused attempts have been told within the hour; attempts of further kinds: %d so far", maxKinds, n)
	f := newFields(messageLost, priorityWarning, "lost", text, policyName)
	f.add("MEMJAIL_COUNT", strconv.Itoa(n))
	return f
}

func lostEntry(policyName string, n int) fields {
	f := newFields(messageLost, priorityWarning, "lost", fmt.Sprintf("the journal did not take %d entries, which are lost", n), policyName)
	f.add("MEMJAIL_COUNT", strconv.Itoa(n))
	return f
}

// startEntry says that a command is about to begin.
func startEntry(policyName, command, shape string) fields {
	text := fmt.Sprintf("%s starts under the policy %s: %s", safe(command), safe(policyName), shape)
	f := newFields(messageStart, priorityInfo, "start", text, policyName)
	f.add("MEMJAIL_COMMAND", command)
	return f
}

func mountEntry(policyName string, m *session.MountError) fields {
	f := newFields(messageMount, priorityWarning, "mount", report.Printable(m.Error()), policyName)
	f.add("MEMJAIL_RULE", "on-mount")
	f.add("MEMJAIL_PID", strconv.Itoa(m.PID))
	return f
}

func warningEntry(policyName, text string) fields {
	return newFields(messageWarning, priorityWarning, "warning", text, policyName)
}

func supervisorEndEntry(policyName string, pid int) fields {
	f := newFields(messageSupervisorEnd, priorityError, "supervisor-end", session.ErrSupervisorKilled.Error(), policyName)
	f.add("MEMJAIL_RULE", "on-supervisor-exit")
	f.add("MEMJAIL_PID", strconv.Itoa(pid))
	return f
}
