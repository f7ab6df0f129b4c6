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
