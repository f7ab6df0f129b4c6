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

// Printable returns a text that may contain anything as one line that is harmless to a
// terminal, to parsers of lines, and to annotations: characters that are not printable,
// and bytes that are not UTF-8, are escaped as in a Go string. Everything that memjail
// prints and has not written itself passes through here.
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

// printableValue applies Printable to strings.
func printableValue(v any) any {
	if s, ok := v.(string); ok {
		return Printable(s)
	}
	return v
}

// EncodeJSON writes a value as indented JSON. Characters that are not printable are
// escaped as JSON does it, so that strings keep their values, except for bytes that are
// not UTF-8.
func EncodeJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(w, escapeUnprintable(b.String()))
	return err
}

// JSONLine returns a value as JSON in one line, which ends with a line break, and escapes
// characters as [EncodeJSON] does. A log is looked at in a terminal, too.
func JSONLine(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return append([]byte(escapeUnprintable(string(text))), '\n'), nil
}

// escapeUnprintable escapes in a text of JSON what the encoder has not: DEL, and what is not
// ASCII. They can only be in strings.
func escapeUnprintable(text string) string {
	odd := func(c rune) bool { return c >= '\x7f' && !strconv.IsPrint(c) }
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
