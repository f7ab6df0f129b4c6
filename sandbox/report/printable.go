package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Printable is a text that may hold anything as one line that steers no terminal and
// ends no line, element or annotation: what is not printable, and what is not UTF-8, is
// written as in a Go string. All that is printed of what was not written by memjail
// passes through here.
func Printable(s string) string {
	if !strings.ContainsFunc(s, func(c rune) bool { return !strconv.IsPrint(c) || c == utf8.RuneError }) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		c, size := utf8.DecodeRuneInString(s)
		if strconv.IsPrint(c) && c != utf8.RuneError {
			b.WriteString(s[:size])
		} else {
			quoted := strconv.Quote(s[:size])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[size:]
	}
	return b.String()
}

// printableValue is Printable of what is a text.
func printableValue(v any) any {
	if s, ok := v.(string); ok {
		return Printable(s)
	}
	return v
}

// EncodeJSON writes a value as JSON for people to read, too. Strings stay what they are,
// but for what is not UTF-8: what is not printable is escaped as JSON does it.
func EncodeJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	// The encoder has escaped what is ASCII and not printable; the rest of that kind is
	// in strings alone.
	_, err := io.WriteString(w, escapeUnprintable(b.String()))
	return err
}

func escapeUnprintable(text string) string {
	odd := func(c rune) bool { return c >= utf8.RuneSelf && !strconv.IsPrint(c) }
	if !strings.ContainsFunc(text, odd) {
		return text
	}
	var b strings.Builder
	for _, c := range text {
		if !odd(c) {
			b.WriteRune(c)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, c) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}
