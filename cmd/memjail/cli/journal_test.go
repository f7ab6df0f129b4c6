package cli

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
	"github.com/memjail/memjail/sandbox/session"
	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

// parseEntry reads an entry as the journal does.
func parseEntry(t *testing.T, entry []byte) map[string]string {
	t.Helper()
	fields := map[string]string{}
	for text := string(entry); text != ""; {
		line, rest, ok := strings.Cut(text, "\n")
		if !ok {
			t.Fatalf("%q does not end", text)
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			n := binary.LittleEndian.Uint64([]byte(rest))
			value, rest = rest[8:8+n], rest[8+n+1:]
		}
		if _, twice := fields[name]; twice {
			t.Errorf("%s stands twice", name)
		}
		fields[name], text = value, rest
	}
	return fields
}

// fakeJournal is a journal that takes what it is sent when the test wants it to.
type fakeJournal struct{ fd int }

func newFakeJournal(t *testing.T) (*journal, fakeJournal) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(pair[0])
		unix.Close(pair[1])
	})
	return newJournal(pair[0], "mine"), fakeJournal{pair[1]}
}

// take returns the entries that wait.
func (f fakeJournal) take(t *testing.T) []map[string]string {
	t.Helper()
	var entries []map[string]string
	for room := make([]byte, 1<<20); ; {
		n, _, err := unix.Recvfrom(f.fd, room, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return entries
		}
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, parseEntry(t, room[:n]))
	}
}

// TestJournalEntry: what comes from the sandbox is a value and nothing else.
func TestJournalEntry(t *testing.T) {
	e := supervisor.Event{PID: 7, TID: 8, Comm: "a\nPRIORITY=0", Call: "openat",
		Path: "/a\nMEMJAIL_RULE=forged\n\x00", Access: "read",
		Layer: supervisor.Landlock, Errno: "EACCES", Reason: "reason", Rule: "paths.ro",
		Remedy:    policy.Remedy{Edits: []policy.Edit{policy.AddRule(policy.MayRead, "/a")}},
		Predicted: true}
	fields := parseEntry(t, refusedEntry("mine", e, 1))
	for name, want := range map[string]string{
		"MESSAGE_ID": messageRefused, "PRIORITY": "4", "SYSLOG_IDENTIFIER": "memjail",
		"MEMJAIL_EVENT": "refused", "MEMJAIL_POLICY": "mine",
		"MEMJAIL_RULE": "paths.ro", "MEMJAIL_PATH": e.Path, "MEMJAIL_COMM": e.Comm, "MEMJAIL_PID": "7",
		"MEMJAIL_TID": "8", "MEMJAIL_CALL": "openat",
		"MEMJAIL_ACCESS": "read", "MEMJAIL_LAYER": "landlock", "MEMJAIL_ERRNO": "EACCES",
		"MEMJAIL_FLAG": "--ro /a", "MEMJAIL_KEY": "paths.ro", "MEMJAIL_VALUE": `["/a"]`, "MEMJAIL_REASON": "reason",
		"MEMJAIL_COUNT": "1", "MEMJAIL_PREDICTED": "1", "MESSAGE": describe(e),
	} {
		if fields[name] != want {
			t.Errorf("%s is %q, want %q", name, fields[name], want)
		}
		delete(fields, name)
	}
	if len(fields) > 0 {
		t.Errorf("further fields: %q", fields)
	}
}

// TestJournalMessages: every kind has an id of its own, and a line for people that is
// one line of text, whatever the sandbox chose.
func TestJournalMessages(t *testing.T) {
	const odd = "a\n\x1b[31m\xff b"
	ids := map[string]string{}
	for _, entry := range []fields{
		refusedEntry(odd, supervisor.Event{Comm: odd, Path: "/" + odd, Call: "openat", Reason: "for /" + odd,
			Remedy: policy.Remedy{Edits: []policy.Edit{policy.AddRule(policy.MayRead, "/"+odd)}}}, 10),
		suppressedEntry(odd, 1), startEntry(odd, odd, "shape"),
		mountEntry(odd, &session.MountError{PID: 7, Mount: mountinfo.Mount{FSType: "proc", Point: "/" + odd}}),
		supervisorEndEntry(odd, 7),
	} {
		f := parseEntry(t, entry)
		if other, taken := ids[f["MESSAGE_ID"]]; taken || len(f["MESSAGE_ID"]) != 32 {
			t.Errorf("%s has the id %s, which is %q's", f["MEMJAIL_EVENT"], f["MESSAGE_ID"], other)
		}
		ids[f["MESSAGE_ID"]] = f["MEMJAIL_EVENT"]
		if strings.ContainsFunc(f["MESSAGE"], func(c rune) bool { return !strconv.IsPrint(c) || c == utf8.RuneError }) {
			t.Errorf("%s: %q", f["MEMJAIL_EVENT"], f["MESSAGE"])
		}
		if f["MEMJAIL_POLICY"] != odd {
			t.Errorf("%s is under %q", f["MEMJAIL_EVENT"], f["MEMJAIL_POLICY"])
		}
	}
}

// TestJournalDocs: the page for services has every id and every field.
func TestJournalDocs(t *testing.T) {
	page, err := os.ReadFile("../../../docs/systemd.md")
	if err != nil {
		t.Fatal(err)
	}
	e := supervisor.Event{Comm: "a", Call: "a", Path: "a", Access: "a", Layer: "a", Errno: "a", Reason: "a",
		Rule: "a", Predicted: true, Harmless: "a",
		Remedy: policy.Remedy{Note: "a", Careful: "a", Edits: []policy.Edit{policy.AddRule(policy.MayRead, "/a")}}}
	for _, entry := range []fields{
		refusedEntry("a", e, 1), suppressedEntry("a", 1), droppedEntry("a", 1), startEntry("a", "a", "a"),
		mountEntry("a", &session.MountError{PID: 7}), supervisorEndEntry("a", 7),
	} {
		f := parseEntry(t, entry)
		row := fmt.Sprintf("| `%s` | `%s` | %s |", f["MESSAGE_ID"], f["MEMJAIL_EVENT"], f["PRIORITY"])
		if !strings.Contains(string(page), row) {
			t.Errorf("the page does not have %s", row)
		}
		for name := range f {
			if strings.HasPrefix(name, "MEMJAIL_") && !strings.Contains(string(page), "`"+name+"`") {
				t.Errorf("the page does not have %s", name)
			}
		}
	}
}

// TestJournalLongValues: a value that is too long is cut between two characters, and
// the entry fits into what a socket takes.
func TestJournalLongValues(t *testing.T) {
	for shift := range 4 {
		long := strings.Repeat("x", shift) + strings.Repeat("\U0001f600", 5000)
		have := parseEntry(t, refusedEntry("", supervisor.Event{Path: long, Reason: long, Remedy: longRemedy(long)},
			1))["MEMJAIL_PATH"]
		const cutMark = "..."
		kept, marked := strings.CutSuffix(have, cutMark)
		if !marked || len(have) > longestValue || len(have) < longestValue-4-len(cutMark) ||
			!strings.HasPrefix(long, kept) || strings.ToValidUTF8(kept, "") != kept {
			t.Errorf("%d: %d bytes, ending in %q", shift, len(have), have[len(have)-8:])
		}
	}
	if have := session.Shorten(strings.Repeat("\x80", 2*longestValue),
		longestValue); len(have) > longestValue || len(have) < longestValue-2*4 {
		t.Errorf("what is no text is cut to %d bytes", len(have))
	}
	j, f := newFakeJournal(t)
	long := strings.Repeat("\n", 1<<20)
	j.refused(supervisor.Event{Comm: long, Call: long, Path: long, Access: long, Errno: long, Reason: long,
		Remedy: longRemedy(long)})
	if len(f.take(t)) != 1 {
		t.Error("an entry of long values was not sent")
	}
}

// TestJournalRepeats: attempts that are alike do not fill the journal; after an hour
// they are told again.
func TestJournalRepeats(t *testing.T) {
	j, f := newFakeJournal(t)
	told := func(attempts int) string {
		var counts []string
		for i := range attempts {
			j.refused(supervisor.Event{Path: fmt.Sprintf("/proc/%d/mem", i)})
			for _, entry := range f.take(t) {
				counts = append(counts, entry["MEMJAIL_COUNT"])
			}
		}
		return strings.Join(counts, " ")
	}
	if have := told(1234); have != "1 10 100 1000" {
		t.Error(have)
	}
	j.since = j.since.Add(-logAgainAfter)
	if have := told(12); have != "1 10" {
		t.Errorf("an hour later: %s", have)
	}
}

// TestJournalKinds: what is remembered has an end, and what is told no more is counted.
func TestJournalKinds(t *testing.T) {
	j, f := newFakeJournal(t)
	told := map[string]int{}
	var last map[string]string
	for i := range maxKinds + 100 {
		j.refused(supervisor.Event{Path: fmt.Sprintf("/x%d", i)})
		for _, entry := range f.take(t) {
			last = entry
			told[entry["MEMJAIL_EVENT"]]++
		}
	}
	if told["refused"] != maxKinds || told["lost"] != 3 || last["MESSAGE_ID"] != messageLost ||
		last["MEMJAIL_COUNT"] != "100" || len(j.seen) > maxKinds {
		t.Errorf("told %v, at last %v; %d kinds are remembered", told, last, len(j.seen))
	}
}

// TestJournalFull: a journal that takes nothing keeps nobody waiting, and hears how
// much it has missed.
func TestJournalFull(t *testing.T) {
	j, f := newFakeJournal(t)
	const all = 1000
	began := time.Now()
	for i := range all {
		j.refused(supervisor.Event{Path: fmt.Sprintf("/x%d", i)})
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	taken := f.take(t)
	if len(taken) == 0 || len(taken) == all {
		t.Fatalf("the journal had room for %d entries", len(taken))
	}
	j.log(startEntry("", "next", ""))
	entries := f.take(t)
	want := fmt.Sprint(all - len(taken))
	if len(entries) != 2 || entries[0]["MESSAGE_ID"] != messageLost || entries[0]["MEMJAIL_COUNT"] != want ||
		entries[1]["MEMJAIL_COMMAND"] != "next" {
		t.Errorf("afterwards, with %s lost: %v", want, entries)
	}
	for i := range all {
		j.refused(supervisor.Event{Path: fmt.Sprintf("/y%d", i)})
	}
	f.take(t)
	j.close()
	if entries := f.take(t); len(entries) != 1 || entries[0]["MESSAGE_ID"] != messageLost {
		t.Errorf("at the end: %v", entries)
	}
}

// TestJournalIsStandardError: only the stream that JOURNAL_STREAM means counts.
func TestJournalIsStandardError(t *testing.T) {
	var st unix.Stat_t
	if err := unix.Fstat(2, &st); err != nil {
		t.Fatal(err)
	}
	for env, want := range map[string]bool{
		fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev, st.Ino): true, fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev,
			st.Ino+1): false,
		"JOURNAL_STREAM=": false, fmt.Sprintf("STREAM=%d:%d", st.Dev, st.Ino): false,
	} {
		if have := toJournal([]string{"A=b", env}); have != want {
			t.Errorf("%s: %v", env, have)
		}
	}
}

// TestReportShort: a refusal that is too long for a pipe is cut, not left out.
func TestReportShort(t *testing.T) {
	for _, entry := range []logEntry{logLine, jsonLine} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		long := "/" + strings.Repeat("\x01", 4094)
		session.ReportLines(w, entry)(supervisor.Event{Comm: strings.Repeat("\x01", 15), Path: long,
			Reason: long, Remedy: longRemedy(long), Access: "execute", Layer: "landlock",
			Rule: "network.connect-tcp", Call: "restart_syscall", Errno: "ENOTRECOVERABLE", PID: 1 << 22,
			TID: 1 << 22, Time: time.Now(), Predicted: true})
		w.Close()
		line := make([]byte, 1<<16)
		n, err := r.Read(line)
		r.Close()
		if err != nil || line[n-1] != '\n' || n > session.LongestLine ||
			!strings.Contains(string(line[:n]), "execute") {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func longRemedy(long string) policy.Remedy {
	return policy.Remedy{Note: long, Careful: long, Edits: []policy.Edit{policy.AddRule(policy.MayRead, long)}}
}
