package systemd

import (
	"fmt"
	"slices"
	"strings"
)

// command is one command of an ExecStart= line, systemd.service(5) "Command lines",
// as it is written: nothing is unquoted or expanded, so that what is written back
// means the same.
type command struct {
	prefixes string // of "@-:+!|", in their order
	program  string
	argv0    string // with the prefix @: what the program finds as argv[0]
	args     []string
	line     Setting // where it stands
}

const prefixLetters = "@-:+!|"

// parseCommands reads the commands of a line: there are several if they are
// separated by " ; ".
func parseCommands(line string) ([]command, error) {
	words, err := splitRaw(line)
	if err != nil {
		return nil, err
	}
	var commands []command
	begin := 0
	for i := 0; i <= len(words); i++ {
		if i < len(words) && words[i] != ";" {
			continue
		}
		if i > begin {
			c, err := newCommand(words[begin:i])
			if err != nil {
				return nil, err
			}
			commands = append(commands, c)
		}
		begin = i + 1
	}
	return commands, nil
}

func newCommand(words []string) (command, error) {
	program := strings.TrimLeft(words[0], prefixLetters)
	c := command{prefixes: words[0][:len(words[0])-len(program)], program: program, args: words[1:]}
	if program == "" {
		return c, fmt.Errorf("%q names no program", words[0])
	}
	for i := range c.prefixes { // the second one would begin the name of the program
		if strings.Contains(c.prefixes[:i], c.prefixes[i:i+1]) && c.prefixes[i] != '!' {
			return c, fmt.Errorf("%q has the prefix %q twice", words[0], c.prefixes[i:i+1])
		}
	}
	if strings.Contains(c.prefixes, "@") {
		if len(words) < 2 {
			return c, fmt.Errorf("%q: after @ argv[0] must follow", strings.Join(words, " "))
		}
		c.argv0, c.args = words[1], words[2:]
	}
	return c, nil
}

// commands are those of the unit's ExecStart= lines. Errors name the file and line.
func (u *Unit) commands() ([]command, error) {
	var all []command
	for _, line := range u.list("ExecStart") {
		commands, err := parseCommands(line.Value)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", line.File, line.Line, err)
		}
		for i := range commands {
			commands[i].line = line
		}
		all = append(all, commands...)
	}
	return all, nil
}

// splitRaw splits a line into words and leaves quotes and backslashes in them.
func splitRaw(line string) ([]string, error) {
	var words []string
	begin := -1
	quote := byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		if (c == ' ' || c == '\t') && quote == 0 {
			if begin >= 0 {
				words = append(words, line[begin:i])
			}
			begin = -1
			continue
		}
		if begin < 0 {
			begin = i
		}
		switch {
		case c == '\\':
			if i++; i == len(line) {
				return nil, fmt.Errorf("%q ends with a backslash", line)
			}
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("%q: a quote is not closed", line)
	}
	if begin >= 0 {
		words = append(words, line[begin:])
	}
	return words, nil
}

// flag is a word that memjail adds; raw: it is written as a unit file has it.
type flag struct {
	text string
	raw  bool
}

// wrap is the command started by memjail. systemd expands variables in arguments
// but not in the name of the program, which becomes an argument here.
func (c command) wrap(memjail string, flags []flag) string {
	expands := c.expands()
	words := []string{strings.ReplaceAll(c.prefixes, "@", "") + quoteWord(memjail, false), "exec"}
	for _, f := range flags {
		if f.raw {
			words = append(words, f.text)
		} else {
			words = append(words, quoteWord(f.text, expands))
		}
	}
	if c.argv0 != "" {
		words = append(words, "--argv0", c.argv0)
	}
	program := c.program
	if expands {
		program = strings.ReplaceAll(program, "$", "$$")
	}
	return strings.Join(append(append(words, "--", program), c.args...), " ")
}

// expands: whether systemd expands variables in the arguments.
func (c command) expands() bool { return !strings.Contains(c.prefixes, ":") }

// unwrap takes back what wrap did; a command that does not look like that stays.
func (c command) unwrap() command {
	end := slices.Index(c.args, "--")
	if end < 0 || end+1 == len(c.args) {
		return c
	}
	inner := command{prefixes: c.prefixes, program: c.args[end+1], args: c.args[end+2:]}
	if c.expands() {
		inner.program = strings.ReplaceAll(inner.program, "$$", "$")
	}
	if i := slices.Index(c.args[:end], "--argv0"); i >= 0 {
		inner.argv0 = c.args[i+1]
		inner.prefixes += "@"
	}
	return inner
}

// String has the prefixes in one order, which has no meaning.
func (c command) String() string {
	prefixes := []byte(c.prefixes)
	slices.Sort(prefixes)
	words := []string{string(prefixes) + c.program}
	if c.argv0 != "" {
		words = append(words, c.argv0)
	}
	return strings.Join(append(words, c.args...), " ")
}

// quoteWord writes a word such that systemd reads it as it is: specifiers and, where
// they are expanded, variables doubled.
func quoteWord(word string, expands bool) string {
	word = strings.ReplaceAll(word, "%", "%%")
	if expands {
		word = strings.ReplaceAll(word, "$", "$$")
	}
	if word != "" && !strings.ContainsAny(word, " \t\n\"'\\;") {
		return word
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(word) + `"`
}
