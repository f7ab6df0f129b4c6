package policy

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ShellWord quotes a string as one word of a shell's command line, without anything that a
// shell or a terminal interprets: unquoted if that is safe, in single quotes, or as $'...'
// if it has characters that cannot be printed (bash, zsh, busybox).
func ShellWord(s string) string {
	plain, printed := s != "", true
	for _, c := range s {
		if c == utf8.RuneError || !unicode.IsPrint(c) {
			printed = false
		}
		if c >= utf8.RuneSelf ||
			!strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:,=@%", c) {
			plain = false
		}
	}
	switch {
	case plain:
		return s
	case printed:
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	var b strings.Builder
	b.WriteString("$'")
	for len(s) > 0 {
		c, size := utf8.DecodeRuneInString(s)
		switch {
		case c == '\'' || c == '\\':
			b.WriteString("\\" + s[:size])
		case c != utf8.RuneError && unicode.IsPrint(c):
			b.WriteString(s[:size])
		default:
			for _, octet := range []byte(s[:size]) {
				fmt.Fprintf(&b, "\\%03o", octet)
			}
		}
		s = s[size:]
	}
	return b.String() + "'"
}

// TOMLString quotes a string for a TOML file; ok is false for a string that is not UTF-8,
// which no TOML file can hold.
func TOMLString(s string) (text string, ok bool) {
	if !utf8.ValidString(s) {
		return "", false
	}
	var b strings.Builder
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b.WriteString("\\" + string(c))
		case unicode.IsPrint(c):
			b.WriteRune(c)
		default:
			fmt.Fprintf(&b, "\\U%08X", c)
		}
	}
	return `"` + b.String() + `"`, true
}

// quoteList returns the list of a file that consists of one path.
func quoteList(path string) (list string, ok bool) {
	text, ok := TOMLString(strings.ReplaceAll(path, "${", "$${"))
	return "[" + text + "]", ok
}
