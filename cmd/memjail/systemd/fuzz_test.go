package systemd

import (
	"strings"
	"testing"
)

// FuzzParse holds that a unit file of any content gives an error that names its
// line, or settings that stand in it, in its order.
func FuzzParse(f *testing.F) {
	f.Add("[Service]\nExecStart=/bin/a \\\n# in between\n  b\nUser=x\n")
	f.Add("[Unit]\r\nDescription=a\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		settings, err := parse("u", text)
		if err != nil {
			if settings != nil || !strings.HasPrefix(err.Error(), "u:") {
				t.Fatalf("%d settings, and %v", len(settings), err)
			}
			return
		}
		line := 0
		for _, s := range settings {
			if s.Section == "" || s.Line <= line || s.Line > strings.Count(text, "\n")+1 {
				t.Fatalf("after line %d: %+v", line, s)
			}
			line = s.Line
		}
	})
}

// FuzzCommands holds that a command that memjail starts is read back as the one that it was,
// and what memjail adds as one word each, whatever is in it.
func FuzzCommands(f *testing.F) {
	f.Fuzz(func(t *testing.T, line, added string) {
		commands, err := parseCommands(line)
		if err != nil || strings.ContainsAny(line+added, "\n\x00") {
			return
		}
		for _, c := range commands {
			added := "--rw=" + added
			wrapped := c.wrap("/usr/bin/mem jail", []flag{{text: added}})
			again, err := parseCommands(wrapped)
			if err != nil || len(again) != 1 {
				t.Fatalf("%q is wrapped as %q: %d commands, %v", line, wrapped, len(again), err)
			}
			if back := again[0].unwrap(); back.String() != c.String() {
				t.Errorf("%q is wrapped as %q, which is %q again, not %q", line, wrapped, back, c)
			}
			if got := again[0].args[1]; got != quoteWord(added, c.expands()) {
				t.Errorf("%q is written as %q, which is read as %q", added, wrapped, got)
			}
		}
	})
}
