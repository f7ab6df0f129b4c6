package report

import (
	"strings"
	"unicode/utf8"
)

// Wrap writes the words of s in lines of at most width columns that begin with indent,
// with a line break at the end; nothing if there are no words. A word that is longer than
// that has its own line.
func Wrap(out *strings.Builder, width int, indent, s string) {
	column := 0
	for _, word := range strings.Fields(s) {
		n := utf8.RuneCountInString(word)
		switch {
		case column == 0:
			out.WriteString(indent)
			column = len(indent)
		case column+1+n > width:
			out.WriteString("\n" + indent)
			column = len(indent)
		default:
			out.WriteByte(' ')
			column++
		}
		out.WriteString(word)
		column += n
	}
	if column > 0 {
		out.WriteByte('\n')
	}
}
