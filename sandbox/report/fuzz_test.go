package report

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzWrite holds that reports of any texts are well formed, have no line more than with
// ordinary texts and nothing that steers a terminal, and that JSON keeps the texts.
func FuzzWrite(f *testing.F) {
	lines := map[Format]int{}
	f.Fuzz(func(t *testing.T, text string) {
		for _, format := range Formats() {
			if lines[format] == 0 {
				lines[format] = strings.Count(written(t, suiteOf("x"), format), "\n")
			}
			got := written(t, suiteOf(text), format)
			odd := func(c rune) bool { return c != '\n' && !strconv.IsPrint(c) }
			n := strings.Count(got, "\n")
			if text != "" && n != lines[format] && format != TAP || !utf8.ValidString(got) ||
				strings.ContainsFunc(got, odd) {
				t.Errorf("%s: %d lines, want %d: %q", format, n, lines[format], got)
			}
			switch format {
			case JUnit:
				if err := xml.Unmarshal([]byte(got), new(struct{})); err != nil && err != io.EOF {
					t.Errorf("%v: %s", err, got)
				}
			case SARIF:
				if !json.Valid([]byte(got)) {
					t.Errorf("no JSON: %s", got)
				}
			}
		}
		line, err := JSONLine([]string{text})
		var back []string
		if err != nil || json.Unmarshal(line, &back) != nil || utf8.ValidString(text) && back[0] != text ||
			strings.ContainsFunc(string(line[:len(line)-1]), func(c rune) bool { return !strconv.IsPrint(c) }) {
			t.Errorf("%q as JSON is %q, %v", text, line, err)
		}
	})
}
