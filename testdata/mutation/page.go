package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

const (
	beginMark = "<!-- mutation: written by make mutation -->\n"
	endMark   = "<!-- end of mutation -->\n"
)

var lineNumber = regexp.MustCompile(`:\d+ `)

// explanations are the reasons why changes may survive: each change in a line, as it is
// listed but without the number of its line, and the reason in the next one, indented.
func (r *runner) explanations() (map[string]string, error) {
	text, err := os.ReadFile(filepath.Join(r.top, "testdata/mutation/explained.txt"))
	if err != nil {
		return nil, err
	}
	reasons, last := map[string]string{}, ""
	for line := range strings.Lines(string(text)) {
		switch line = strings.TrimRight(line, "\n"); {
		case line == "" || line[0] == '#':
		case line[0] == '\t':
			reasons[last] = strings.TrimSpace(line)
		default:
			last = line
		}
	}
	return reasons, nil
}

// writePage writes a table of the families, and the changes that survived.
func (r *runner) writePage(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, found := bytes.Cut(text, []byte(beginMark))
	_, after, closed := bytes.Cut(rest, []byte(endMark))
	if !found || !closed {
		return fmt.Errorf("%s has no marks", file)
	}
	reasons, err := r.explanations()
	if err != nil {
		return err
	}
	var table, list strings.Builder
	table.WriteString("\n| part | changes | noticed | survived, explained | survived | no program | not tried |\n" +
		"|---|--:|--:|--:|--:|--:|--:|\n")
	for i := range families {
		f := &families[i]
		all, err := f.mutants(r.top)
		if err != nil {
			return err
		}
		counts := map[string]int{}
		for _, m := range all {
			got := r.record[m.id].Result
			if got == survived {
				got = r.survivor(&list, m, reasons)
			}
			counts[got]++
		}
		fmt.Fprintf(&table, "| %s | %d | %d | %d | %d | %d | %d |\n", f.name, len(all), counts[killed], counts["explained"],
			counts[survived], counts[invalid], counts[""])
	}
	if list.Len() == 0 {
		list.WriteString("\nNone of those that were tried survived.\n")
	}
	return os.WriteFile(file, bytes.Join([][]byte{before, []byte(beginMark), []byte(table.String()),
		[]byte("\nWhat survived:\n\n" + list.String() + "\n"), []byte(endMark), after}, nil), 0o644)
}

// survivor lists a change that survived.
func (r *runner) survivor(list *strings.Builder, m mutant, reasons map[string]string) string {
	if reason := reasons[lineNumber.ReplaceAllString(m.what, " ")]; reason != "" {
		fmt.Fprintf(list, "- %s, %s. %s\n", m.family, m.what, reason)
		return "explained"
	}
	fmt.Fprintf(list, "- **%s, %s.**\n", m.family, m.what)
	return survived
}
