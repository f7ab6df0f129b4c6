package policy

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ShellWord writes a string as one word of a shell's command line, with nothing in it
// that a shell or a terminal acts upon: as it is where that is plain, in single quotes,
// or as $'...' where characters cannot be printed (bash, zsh, busybox).
func ShellWord(s string) string {
	plain, printed := s != "", true
	for _, c := range s {
		if c == utf8.RuneError || !unicode.IsPrint(c) {
			printed = false
		}
		if c >= utf8.RuneSelf || !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:,=@%", c) {
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

// TOMLString writes a string as TOML does; ok is false for one that is not UTF-8, which
// no TOML file can hold.
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

// pathRemedy is the change that names a path with a flag, or in a list of a file.
func (e *explainer) pathRemedy(flag, key, path string) {
	list, ok := quoteList(path)
	e.remedy(flag+" "+ShellWord(path), key, list)
	if !ok {
		e.answer.Remedy.Line = ""
	}
	if strings.Contains(path, "${") { // a flag takes no such path
		e.answer.Remedy.Flag, e.answer.Remedy.Text = "", "write "+e.answer.Remedy.Line
	}
}

// quoteList writes one path as the list of a file.
func quoteList(path string) (list string, ok bool) {
	text, ok := TOMLString(strings.ReplaceAll(path, "${", "$${"))
	return "[" + text + "]", ok
}
