package cli

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/supervisor"
)

func TestColoured(t *testing.T) {
	for _, test := range []struct {
		terminal bool
		env      string
		want     bool
	}{
		{true, "TERM=xterm", true}, {true, "", false}, {true, "TERM=dumb", false}, {false, "TERM=xterm", false},
		{true, "TERM=xterm NO_COLOR=1", false}, {true, "TERM=xterm NO_COLOR=", true},
		{false, "CLICOLOR_FORCE=1", true}, {false, "CLICOLOR_FORCE=0", false},
		{true, "TERM=dumb CLICOLOR_FORCE=1", true}, {false, "NO_COLOR=1 CLICOLOR_FORCE=1", false},
	} {
		if got := coloured(test.terminal, strings.Fields(test.env)); got != test.want {
			t.Errorf("terminal %v, %s: %v", test.terminal, test.env, got)
		}
	}
}

// TestSummaryWidth: a refusal takes two lines, whatever the program inside calls things. The
// first is no wider than the terminal; the second is what is to be pasted, and whole.
func TestSummaryWidth(t *testing.T) {
	for _, width := range []int{40, 80, 200} {
		for _, name := range []string{"short", strings.Repeat("long/", 60) + "end", "\x1b[31m\n\xff\u202e" +
			strings.Repeat("é", 90)} {
			e := event("sh", "openat", "/"+name)
			e.Remedy = policy.Remedy{Edits: []policy.Edit{policy.AddRule(policy.MayRead, "/"+name)}}
			e.Reason = strings.Repeat("because ", 20)
			c := newCollector(nil, logLine)
			for range 3 {
				c.add(e)
			}
			var out bytes.Buffer
			c.summary(summary{out: &out, style: style{width: width}, command: []string{"cmd"}})
			lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
			if len(lines) != 3 || utf8.RuneCountInString(lines[1]) > width || !strings.Contains(lines[1], "(3 times)") {
				t.Errorf("%d columns: %q", width, lines)
			}
			if advice := policy.ShellWord("/" + name); !strings.Contains(lines[2], advice) {
				t.Errorf("%d columns: %q is not in %q", width, advice, lines[2])
			}
			if strings.ContainsAny(out.String(), "\x1b\u202e") || !utf8.ValidString(out.String()) {
				t.Errorf("what a terminal acts upon: %q", out.String())
			}
		}
	}
}

// TestSummaryCareful: what would open secrets is said before what would open them.
func TestSummaryCareful(t *testing.T) {
	e := event("cat", "openat", "/home/u/.npmrc")
	e.Remedy = policy.Remedy{Edits: []policy.Edit{policy.AddRule(policy.MayRead, e.Path)},
		Careful: "tokens could be read"}
	for _, width := range []int{0, 40, 80} {
		var out bytes.Buffer
		c := newCollector(nil, logLine)
		c.add(e)
		c.summary(summary{out: &out, style: style{width: width}, command: []string{"cmd"}})
		warning, advice, found := strings.Cut(out.String(), "to allow it: --ro /home/u/.npmrc")
		if !found || !strings.Contains(warning, "careful (tokens could be read); ") ||
			strings.Contains(advice, "careful") {
			t.Errorf("%d columns: %s", width, out.String())
		}
	}
	if line := string(logLine(e)); !strings.Contains(line, "careful (tokens could be read); to allow it: --ro") {
		t.Error(line)
	}
}

// TestBrief is the one line of a failure off a terminal.
func TestBrief(t *testing.T) {
	var out bytes.Buffer
	c := newCollector(nil, logLine)
	s := summary{out: &out, command: []string{"cmd"}}
	if c.brief(s); out.Len() != 0 {
		t.Errorf("without attempts: %q", out.String())
	}
	harmless := event("java", "openat", "/proc/7/coredump_filter")
	harmless.Harmless = "it goes on"
	c.add(harmless)
	if c.brief(s); out.Len() != 0 {
		t.Errorf("for what is harmless: %q", out.String())
	}
	c.add(event("sh", "openat", "/proc/7/mem"))
	c.brief(s)
	want := "memjail: 1 attempt refused, such as sh[12] openat /proc/7/mem to write; " +
		"to allow all of this: --memory allow; memjail run -v tells more\n"
	if out.String() != want {
		t.Errorf("got %q\nwant %q", out.String(), want)
	}
}

// TestAlike: what several programs were refused is told once.
func TestAlike(t *testing.T) {
	c := newCollector(nil, logLine)
	for _, comm := range []string{"a", "b", "a"} {
		c.add(event(comm, "openat", "/x"))
	}
	var out bytes.Buffer
	c.summary(summary{out: &out, command: []string{"cmd"}})
	if !strings.Contains(out.String(), "(3 times, by 2 programs)") || strings.Count(out.String(), "openat") != 1 {
		t.Error(out.String())
	}
}

// TestAlikeNames: names that a program makes up in one directory are one line.
func TestAlikeNames(t *testing.T) {
	c := newCollector(nil, logLine)
	for i, name := range []string{"/tmp/v1", "/tmp/v2", "/tmp/v3", "/srv/v1"} {
		e := event([]string{"a", "b", "b", "a"}[i], "mkdir", name)
		e.Target, e.Use = name, supervisor.AccessMake
		c.add(e)
	}
	var out bytes.Buffer
	c.summary(summary{out: &out, command: []string{"cmd"}})
	if !strings.Contains(out.String(), "mkdir /tmp/v1") ||
		!strings.Contains(out.String(), "(3 times, by 2 programs)") || strings.Count(out.String(), "mkdir") != 2 {
		t.Error(out.String())
	}
}
