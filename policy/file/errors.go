package file

import (
	"fmt"
	"slices"
	"strings"
)

// Position is a place in a file. Both numbers start at 1; the column counts bytes. The zero
// value is no place.
type Position struct {
	Line, Column int
}

// Error is a mistake in a policy file or a flag.
type Error struct {
	// Source is the name of the file, or the flag as given: "--allow ptrace=maybe".
	Source string
	// Position is the place in a file, zero for a flag.
	Position Position
	// Key is the key of a file, "memory.ptrace". It is empty if the mistake is not in the
	// value of a key.
	Key string
	// Value is the wrong value as written. It may be empty.
	Value string
	// Reason is what is wrong, and what would be right.
	Reason string
}

// Error returns FILE:LINE:COLUMN: KEY: VALUE: REASON for a file and FLAG: REASON for a flag,
// without the parts that are empty.
func (e *Error) Error() string {
	var s strings.Builder
	s.WriteString(e.Source)
	if e.Position != (Position{}) {
		fmt.Fprintf(&s, ":%d:%d", e.Position.Line, e.Position.Column)
	}
	for _, part := range []string{e.Key, e.Value, e.Reason} {
		if part != "" {
			s.WriteString(": ")
			s.WriteString(part)
		}
	}
	return s.String()
}

// Errors are all mistakes in a file, in its order, or in the flags. As a returned error it
// is not empty.
type Errors []*Error

// Error returns one error per line.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns each error, for errors.As.
func (es Errors) Unwrap() []error {
	all := make([]error, len(es))
	for i, e := range es {
		all[i] = e
	}
	return all
}

func (es Errors) sorted() Errors {
	slices.SortStableFunc(es, func(a, b *Error) int {
		if d := a.Position.Line - b.Position.Line; d != 0 {
			return d
		}
		return a.Position.Column - b.Position.Column
	})
	return es
}

// oneOf joins alternatives: "deny, children or allow".
func oneOf(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// DidYouMean returns ` (did you mean "CANDIDATE"?)` with the candidate that was probably meant,
// or "".
func DidYouMean(name string, candidates []string) string { return didYouMean(name, candidates) }

// didYouMean returns the end of a message that suggests the most likely candidate, or "". A
// candidate with the same last part (memory.processes for procfs.processes) is likelier
// than one with a similar spelling.
func didYouMean(name string, candidates []string) string {
	best, distance := "", 1+min(max(2, len(name)/5), 6)
	same := 0
	for _, c := range candidates {
		if lastPart(c) == lastPart(name) {
			best, same = c, same+1
		}
	}
	if same != 1 {
		best = ""
		for _, c := range candidates {
			d := editDistance(name, c)
			if d < distance || d == distance && best != "" && subsequence(name, c) && !subsequence(name, best) {
				best, distance = c, d
			}
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// subsequence reports whether whole has all bytes of part in their order: who leaves out a
// letter is likelier than who takes a wrong one.
func subsequence(part, whole string) bool {
	for i := range len(whole) {
		if part != "" && whole[i] == part[0] {
			part = part[1:]
		}
	}
	return part == ""
}

func lastPart(name string) string {
	return name[strings.LastIndexByte(name, '.')+1:]
}

// editDistance returns the Levenshtein distance: the insertions, deletions and replacements
// of bytes that turn a into b. Long names are not compared; they are no misspelled keys.
func editDistance(a, b string) int {
	const tooLong = 64
	if len(a) > tooLong || len(b) > tooLong {
		return tooLong
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
