package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/session"
	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

func TestExitStatus(t *testing.T) {
	for _, test := range []struct {
		err  error
		want int
	}{
		{usagef("x"), exitFailed},
		{errors.New("x"), exitFailed},
		{&sandbox.UnenforceableError{What: "x", Err: unix.ENOSYS}, exitFailed},
		{&sandbox.DescriptorError{FD: 3, What: "x"}, exitFailed},
		{&sandbox.CommandError{Name: "x", Err: fs.ErrNotExist}, exitNotFound},
		{&sandbox.CommandError{Name: "x", Err: unix.ENOENT}, exitNotFound},
		{&sandbox.CommandError{Name: "x", Err: unix.EACCES}, exitCannotExec},
		{&sandbox.CommandError{Name: "x", Err: unix.ENOEXEC}, exitCannotExec},
	} {
		if got := exitStatus(test.err); got != test.want {
			t.Errorf("%v: %d, want %d", test.err, got, test.want)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "no command; try"},
		{[]string{"ls"}, `did you mean "memjail run -- ls"?`},
		{[]string{"run"}, "no command was given"},
		{[]string{"run", "--nope"}, "unknown flag: --nope"},
		{[]string{"run", "--log-format", "xml", "true"}, "want text or json"},
		{[]string{"run", "--log-format", "json", "true"}, "needs --log"},
		{[]string{"run", "--wait-rest", "--kill-rest", "true"}, "cannot be used together"},
		{[]string{"run", "-q", "-v", "true"}, "cannot be used together"},
		{[]string{"run", "--status-fd", "987", "true"}, "not an open descriptor"},
		{[]string{"run", "--log", "/nonexistent/log", "true"}, "no such file or directory"},
		{[]string{"run", "-p", "nope", "true"}, `"nope"`},
		{[]string{"run", "--allow", "ptrace=maybe", "true"}, "deny, children or allow"},
	} {
		var out, stderr bytes.Buffer
		status := Main(append([]string{"memjail"}, test.args...), nil, &out, &stderr)
		if status != exitFailed || !strings.Contains(stderr.String(), test.want) ||
			strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%q: status %d, %q; want one line with %q", test.args, status, stderr.String(), test.want)
		}
	}
}

func event(comm, call, path string) supervisor.Event {
	return supervisor.Event{Time: time.Unix(0, 0), PID: 12, TID: 13, Comm: comm, Call: call, Path: path,
		Access: "write",
		Layer:  supervisor.Landlock, Errno: "EACCES", Reason: "the memory of its own process",
		Remedy: policy.Remedy{Edits: []policy.Edit{policy.SetMemory(policy.AccessAllow)}}}
}

// TestSummaryWithoutPaths: one line must not advise for what only looks alike.
func TestSummaryWithoutPaths(t *testing.T) {
	c := newCollector(nil, logLine)
	for _, family := range []string{"netlink", "inet", "netlink"} {
		e := event("curl", "socket", "")
		e.Remedy = policy.Remedy{Edits: []policy.Edit{policy.AddFamily(family)}}
		c.add(e)
	}
	var out bytes.Buffer
	c.summary(summary{out: &out, command: []string{"cmd"}})
	for _, want := range []string{"to allow it: --network netlink (in a policy: network.families = [\"netlink\"])\n",
		"to allow it: --network inet (",
		"to allow all of this: --network netlink --network inet\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no line ends with %q:\n%s", want, out.String())
		}
	}
}

func TestSummary(t *testing.T) {
	c := newCollector(nil, logLine)
	var out bytes.Buffer
	if c.summary(summary{out: &out, command: []string{"cmd"}}); out.Len() != 0 {
		t.Errorf("without attempts: %q", out.String())
	}
	for range 3 {
		c.add(event("a b\n", "openat", "/proc/7/mem"))
	}
	c.add(event("a b\n", "openat", "/proc/8/mem"))
	c.summary(summary{out: &out, command: []string{"cmd"}})
	want := "memjail: 4 attempts refused:\n" +
		`memjail:   "a b\n"[12] openat /proc/7/mem to write: EACCES by landlock: the memory of its own process (4 times)` + "\nmemjail:     to allow it: --memory allow (in a policy: memory.access = \"allow\")\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	for i := range summaryLines + 2 {
		c.add(event("x", "openat", "/"+strings.Repeat("p", i+1)))
	}
	out.Reset()
	c.summary(summary{out: &out, command: []string{"cmd"}})
	if lines := strings.Split(out.String(), "\n"); len(lines) != 2*summaryLines+5 ||
		!strings.Contains(lines[2*summaryLines+1], "and 3 other kinds") {
		t.Errorf("a long summary:\n%s", out.String())
	}
}

// TestDescribe: what comes from inside makes no line of its own and nothing that a
// terminal acts upon, also where an explanation names it.
func TestDescribe(t *testing.T) {
	for odd, want := range map[string]string{"a\nb": `a\nb`, "\x1b[31m\xff\u202e": `\x1b[31m\xff\u202e`,
		"a b \"é\"": "a b \"é\""} {
		e := event("sh", "openat", "/"+odd)
		e.Reason, e.Remedy = "for /"+odd, policy.Remedy{Note: "write /" + odd}
		have := describe(e)
		if !strings.HasSuffix(have, ": for /"+want+"; to allow it, write /"+want) ||
			strings.ContainsAny(have, "\n\x1b") {
			t.Errorf("%q", have)
		}
	}
}

func TestLog(t *testing.T) {
	for asJSON, entry := range map[bool]logEntry{false: logLine, true: jsonLine} {
		path := filepath.Join(t.TempDir(), "log")
		file, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		c := newCollector(file, entry)
		c.add(event("sh", "openat", "/proc/7/mem\n"))
		c.close()
		line, _ := os.ReadFile(path)
		if bytes.Count(line, []byte("\n")) != 1 {
			t.Errorf("json %v: not one line: %q", asJSON, line)
		}
		var back supervisor.Event
		if asJSON && (json.Unmarshal(line, &back) != nil || back.Path != "/proc/7/mem\n" ||
			back.Layer != supervisor.Landlock) {
			t.Errorf("the object does not read back: %s", line)
		}
	}
}

// TestLogIsBounded: a program that tries the same again and again, or ever new things, does
// not fill the log; what it tries besides is still there. A warning is a line of the log's
// format.
func TestLogIsBounded(t *testing.T) {
	for _, kind := range []logKind{logText, logJSON} {
		const most = 1 << 20
		entry := (&logLimiter{kind: kind, most: most, kinds: map[kindKey]int{}}).entry
		var lines []string
		add := func(e supervisor.Event) {
			if text := string(entry(e)); text != "" {
				lines = append(lines, strings.Split(strings.TrimSuffix(text, "\n"), "\n")...)
			}
		}
		for range logAlike - 1 {
			add(event("sh", "openat", "/a"))
		}
		if len(lines) != logAlike-1 {
			t.Fatalf("control: %d attempts make %d lines", logAlike-1, len(lines))
		}
		for range 10*logAlike + 1 {
			add(event("sh", "openat", "/a"))
		}
		add(event("sh", "openat", "/b"))
		const warnings = 2 // that there are no more lines, and how many there were
		if want := logAlike + warnings + 1; len(lines) != want || !strings.Contains(lines[want-1], "/b") {
			t.Errorf("%d lines, want %d; the last is %s", len(lines), want, lines[len(lines)-1])
		}
		long, size := strings.Repeat("x", 2000), 0
		for i := range 2 * most / len(long) {
			text := entry(event("sh", "openat", long+"/x"+strconv.Itoa(i)))
			if size += len(text); len(text) > 0 {
				lines = append(lines, string(text))
			}
		}
		last := lines[len(lines)-1]
		if size > most+4096 || size < most/2 || !strings.Contains(last, "no further attempts are logged") {
			t.Errorf("%d bytes, the last line is %s", size, last)
		}
		if kind == logJSON && !json.Valid([]byte(last)) {
			t.Errorf("the last line is no JSON: %s", last)
		}
	}
}

func TestStatusLine(t *testing.T) {
	for _, test := range []struct {
		status session.Status
		err    error
		want   string
	}{
		{session.Status{PID: 5, Exit: 7}, nil, `{"who":"command","pid":5,"exit":7}`},
		{session.Status{PID: 5, Signal: unix.SIGTERM}, nil, `{"who":"command","pid":5,"signal":15}`},
		{session.Status{}, usagef("a \"b\"\x01"), `{"who":"memjail","exit":125,"error":"a \"b\"\u0001"}`},
	} {
		if got := statusLine(test.status, test.err); got != test.want+"\n" {
			t.Errorf("got %s want %s", got, test.want)
		}
	}
}

func TestSplitWords(t *testing.T) {
	for line, want := range map[string][]string{
		"bwrap --dev-bind / /":        {"bwrap", "--dev-bind", "/", "/"},
		`  a 'b  c' "d\"e" f\ g ''  `: {"a", "b  c", `d"e`, "f g", ""},
		`'it''s'`:                     {"its"},
		`'\'`:                         {`\`},
	} {
		if got, err := splitWords(line); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q", line, got, err, want)
		}
	}
	for _, line := range []string{"", "  ", `a "b`, `a \`} {
		if got, err := splitWords(line); err == nil {
			t.Errorf("%q: %q, want an error", line, got)
		}
	}
}

// TestRoot: each command says what it does, for manual pages and completions.
func TestRoot(t *testing.T) {
	root := Root()
	if n := len(root.Commands()); n < len(commands) {
		t.Errorf("%d commands of %d", n, len(commands))
	}
	for _, c := range root.Commands() {
		if c.Short == "" {
			t.Errorf("%s does not say what it does", c.CommandPath())
		}
	}
}
