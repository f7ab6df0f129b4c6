package cli

import (
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/program"
	"golang.org/x/sys/unix"
)

// style is how text for people looks on a terminal. The zero one is that of a file.
type style struct {
	width  int // in columns; 0: not limited
	colour bool
}

// styleOf returns the style of what is written to f.
func styleOf(f *os.File, env []string) style {
	on := terminal(f)
	s := style{colour: coloured(on, env)}
	if columns, err := strconv.Atoi(program.Getenv(env, "COLUMNS")); err == nil && columns > 0 {
		s.width = columns
	} else if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); on && err == nil {
		s.width = int(size.Col)
	}
	if !on || s.width < leastWidth {
		s.width = 0
	}
	return s
}

// leastWidth is the narrowest terminal for which lines are shortened.
const leastWidth = 40

// coloured reports whether colours are wanted: https://no-color.org,
// https://bixense.com/clicolors.
func coloured(terminal bool, env []string) bool {
	if program.Getenv(env, "NO_COLOR") != "" {
		return false
	}
	if force := program.Getenv(env, "CLICOLOR_FORCE"); force != "" && force != "0" {
		return true
	}
	kind := program.Getenv(env, "TERM")
	return terminal && kind != "" && kind != "dumb"
}

func (s style) paint(code, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) bold(text string) string   { return s.paint("1", text) }
func (s style) green(text string) string  { return s.paint("32", text) }
func (s style) yellow(text string) string { return s.paint("33", text) }

// advice paints what would allow something: it is yellow if that is dangerous.
func (s style) advice(text string, r policy.Remedy) string {
	switch {
	case r.Careful != "":
		return s.yellow(text)
	case r.None():
		return text
	}
	return s.green(text)
}

// fit cuts a text that is longer than width columns, and marks the cut. Lines are cut
// only for a terminal.
func (s style) fit(text string, width int) string {
	const mark = "..."
	if s.width == 0 || utf8.RuneCountInString(text) <= width {
		return text
	}
	var b strings.Builder
	for i, c := range []rune(text) {
		if i == max(width-len(mark), 0) {
			break
		}
		b.WriteRune(c)
	}
	return b.String() + mark
}
