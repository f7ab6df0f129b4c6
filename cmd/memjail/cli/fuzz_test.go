package cli

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/file"
	"github.com/memjail/memjail/supervisor"
	"github.com/spf13/pflag"
)

// eventOf is an attempt in which whatever a program inside can choose is one of the texts.
func eventOf(comm, path, target, argument string) supervisor.Event {
	e := supervisor.Event{Time: time.Unix(1e9, 0), Policy: "mine", PID: 7, TID: 8, Comm: comm, Call: "openat",
		Path: path, Target: target, Access: "read", Layer: supervisor.Landlock, Errno: "EACCES", Reason: "for " + path,
		Rule: "paths.ro", Remedy: policy.Remedy{Note: "see " + target}}
	if argument != "" {
		e.Remedy.Edits = []policy.Edit{policy.AddRule(policy.MayRead, "/"+argument),
			policy.SetKey("memory.access", argument)}
	}
	return e
}

// oneTextLine complains unless the text is one line with nothing in it that steers a terminal.
func oneTextLine(t *testing.T, what string, text []byte) {
	t.Helper()
	line, ended := bytes.CutSuffix(text, []byte("\n"))
	if !ended || !utf8.Valid(line) || bytes.ContainsFunc(line, func(c rune) bool { return !strconv.IsPrint(c) }) {
		t.Errorf("%s is %q", what, text)
	}
}

// FuzzLog holds that whatever names a program inside chooses, a log has one line of text for
// an attempt, in JSON with the names as they are, and so have the summary and the journal's
// message; the journal gets the names as fields and no field more.
func FuzzLog(f *testing.F) {
	f.Fuzz(func(t *testing.T, comm, path, target, argument string) {
		e := eventOf(comm, path, target, argument)
		oneTextLine(t, "a line of text", logText.line(e))
		oneTextLine(t, "a warning", logText.warning(attempt(e)))
		oneTextLine(t, "a line of JSON", logJSON.line(e))
		oneTextLine(t, "a warning in JSON", logJSON.warning(path))
		var read supervisor.Event
		if err := json.Unmarshal(logJSON.line(e), &read); err != nil || read.PID != 7 ||
			read.Path != strings.ToValidUTF8(path, "\ufffd") && utf8.ValidString(path) {
			t.Errorf("read back: %+v, %v", read, err)
		}
		c := newCollector(nil, logText.entry())
		c.add(e)
		c.add(eventOf(path, comm, argument, target))
		var out bytes.Buffer
		s := summary{out: &out, policy: policy.Policy{}, command: []string{comm, path}}
		c.summary(s)
		c.brief(s)
		for line := range bytes.Lines(out.Bytes()) {
			oneTextLine(t, "a line of the summary", line)
			if !bytes.HasPrefix(line, []byte(prefix)) {
				t.Errorf("a line begins otherwise: %q", line)
			}
		}
		journalTakes(t, refusedEntry(path, e, 10), map[string]string{"MEMJAIL_PATH": path, "MEMJAIL_COMM": comm,
			"MEMJAIL_POLICY": path, "MEMJAIL_RULE": "paths.ro"})
		journalTakes(t, startEntry(path, comm, "shape"), map[string]string{"MEMJAIL_COMMAND": comm})
	})
}

// journalTakes reads an entry as the journal does, which takes a field of one name several
// times, and compares those that are wanted.
func journalTakes(t *testing.T, entry fields, want map[string]string) {
	t.Helper()
	got, known := map[string]string{}, "MESSAGE MESSAGE_ID PRIORITY SYSLOG_IDENTIFIER "
	for text := string(entry); text != ""; {
		line, rest, _ := strings.Cut(text, "\n")
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			if len(rest) < 9 || binary.LittleEndian.Uint64([]byte(rest)) > uint64(len(rest)-9) {
				t.Fatalf("%q is cut short", rest)
			}
			n := binary.LittleEndian.Uint64([]byte(rest))
			value, rest = rest[8:8+n], rest[8+n+1:]
		}
		if !strings.HasPrefix(name, "MEMJAIL_") && !strings.Contains(known, name+" ") || name == "" {
			t.Errorf("a field is called %q", name)
		}
		got[name], text = value, rest
	}
	for name, value := range want {
		if len(value) <= longestValue && got[name] != value {
			t.Errorf("%s is %q, want %q", name, got[name], value)
		}
	}
	oneTextLine(t, "the journal's message", []byte(got["MESSAGE"]+"\n"))
}

// FuzzFlags holds that flags of any text result in errors, each in one line, or in a policy;
// and that handed to another memjail they are the same flags.
func FuzzFlags(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		parse := func(args []string) (*policyFlags, error) {
			p := &policyFlags{}
			set := pflag.NewFlagSet("run", pflag.ContinueOnError)
			set.SetOutput(io.Discard)
			p.declare(set)
			return p, set.Parse(args)
		}
		p, err := parse(strings.Split(text, "\x00"))
		if err != nil {
			return
		}
		again, err := parse(p.args())
		if err != nil || !reflect.DeepEqual(again.overrides, p.overrides) {
			t.Fatalf("%q: handed over as %q, %v", text, p.args(), err)
		}
		pol, err := (file.Loader{Dir: "/srv", Env: []string{"HOME=/home/u"}}).Apply(file.Default(), p.overrides)
		if err != nil {
			if list, ok := err.(file.Errors); !ok || len(list) == 0 {
				t.Fatalf("%T without content: %v", err, err)
			}
			return
		}
		if _, err := (file.Loader{}).Parse("./p.toml", file.Render(pol), file.Default()); err != nil {
			t.Errorf("%q: as a file it cannot be read: %v\n%s", text, err, file.Render(pol))
		}
	})
}
