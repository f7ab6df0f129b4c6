package cli

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/memjail/memjail/supervisor"
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

// TestJournalEntry: what comes from the sandbox is a value and nothing else.
func TestJournalEntry(t *testing.T) {
	e := supervisor.Event{PID: 7, TID: 8, Comm: "a\nPRIORITY=0", Call: "openat", Path: "/a\nMEMJAIL_RULE=forged\n\x00", Access: "read",
		Layer: supervisor.Landlock, Errno: "EACCES", Reason: "reason", Rule: "paths.ro", Allow: "--ro /a", Predicted: true}
	fields := parseEntry(t, newJournal("mine").refused(e))
	for name, want := range map[string]string{
		"MESSAGE_ID": messageRefused, "PRIORITY": "4", "SYSLOG_IDENTIFIER": "memjail", "MEMJAIL_EVENT": "refused", "MEMJAIL_POLICY": "mine",
		"MEMJAIL_RULE": "paths.ro", "MEMJAIL_PATH": e.Path, "MEMJAIL_COMM": e.Comm, "MEMJAIL_PID": "7", "MEMJAIL_TID": "8", "MEMJAIL_CALL": "openat",
		"MEMJAIL_ACCESS": "read", "MEMJAIL_LAYER": "landlock", "MEMJAIL_ERRNO": "EACCES", "MEMJAIL_ALLOW": "--ro /a", "MEMJAIL_REASON": "reason",
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

// TestJournalRepeats: attempts that are alike do not fill the journal.
func TestJournalRepeats(t *testing.T) {
	j := newJournal("")
	var told []string
	for i := range 1234 {
		if entry := j.refused(supervisor.Event{Path: fmt.Sprintf("/proc/%d/mem", i)}); entry != nil {
			told = append(told, parseEntry(t, entry)["MEMJAIL_COUNT"])
		}
	}
	if have := strings.Join(told, " "); have != "1 10 100 1000" {
		t.Error(have)
	}
	for i := range 2 * maxKinds {
		j.refused(supervisor.Event{Path: fmt.Sprintf("/x%d", i)})
	}
	if len(j.seen) > maxKinds {
		t.Errorf("%d kinds are remembered", len(j.seen))
	}
}
