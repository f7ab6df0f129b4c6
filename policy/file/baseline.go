package file

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// Acceptance lets a failed check of a policy pass until a date.
type Acceptance struct {
	ID      string         `toml:"id"`     // of the result; * and ? as in a glob
	Policy  string         `toml:"policy"` // only of this policy; "" is any
	Value   string         `toml:"value"`  // only about this path, port or name; "" is any
	Reason  string         `toml:"reason"`
	Expires toml.LocalDate `toml:"expires"` // the last day on which it holds
	Line    int            `toml:"-"`
}

// Expired reports whether the acceptance has expired.
func (a *Acceptance) Expired(now time.Time) bool {
	return now.After(a.Expires.AsTime(time.Local).AddDate(0, 0, 1))
}

// Baseline is a file of acceptances for "memjail verify": findings that somebody has
// reviewed.
type Baseline struct {
	Name   string
	Accept []*Acceptance
}

// ReadBaseline reads a file. The error has all mistakes in it, each with its line.
func ReadBaseline(name string) (*Baseline, error) {
	data, err := read(name)
	if err != nil {
		return nil, fmt.Errorf("reading the baseline: %w", err)
	}
	return ParseBaseline(name, data)
}

// ParseBaseline is [ReadBaseline] for a text.
func ParseBaseline(name string, data []byte) (*Baseline, error) {
	var file struct {
		Version int           `toml:"version"`
		Accept  []*Acceptance `toml:"accept"`
	}
	decoder := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := decoder.Decode(&file); err != nil {
		return nil, baselineError(name, err)
	}
	var errs []error
	if file.Version != 1 {
		errs = append(errs, fmt.Errorf("%s:1: version is %d: want version = 1", name, file.Version))
	}
	lines := entryLines(data)
	for i, a := range file.Accept {
		if i < len(lines) {
			a.Line = lines[i]
		}
		for _, mistake := range a.mistakes() {
			errs = append(errs, fmt.Errorf("%s:%d: %s", name, a.Line, mistake))
		}
	}
	return &Baseline{Name: name, Accept: file.Accept}, errors.Join(errs...)
}

func (a *Acceptance) mistakes() []string {
	var found []string
	if a.ID == "" {
		found = append(found, `id is missing: want the id of the finding, as verify prints it in brackets`)
	} else if _, err := path.Match(a.ID, ""); err != nil {
		found = append(found, fmt.Sprintf("id = %q is not a valid pattern", a.ID))
	}
	if strings.TrimSpace(a.Reason) == "" {
		found = append(found, "reason is missing: want why the finding is acceptable")
	}
	if a.Expires == (toml.LocalDate{}) {
		found = append(found, "expires is missing: want a date (expires = 2030-01-31); what is "+
			"acceptable for good belongs in the policy")
	}
	return found
}

// entryLines returns the lines on which the entries begin.
func entryLines(data []byte) []int {
	var lines []int
	number := 0
	for line := range bytes.Lines(data) {
		number++
		if bytes.HasPrefix(bytes.ReplaceAll(bytes.TrimSpace(line), []byte(" "), nil), []byte("[[accept]]")) {
			lines = append(lines, number)
		}
	}
	return lines
}

func baselineError(name string, err error) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) {
		var errs []error
		for i := range strict.Errors {
			e := &strict.Errors[i]
			line, column := e.Position()
			errs = append(errs, fmt.Errorf(
				"%s:%d:%d: unknown key %q: want version, and in [[accept]] id, policy, value, reason, expires",
				name, line, column, strings.Join(e.Key(), ".")))
		}
		return errors.Join(errs...)
	}
	var decode *toml.DecodeError
	if errors.As(err, &decode) {
		line, column := decode.Position()
		return fmt.Errorf("%s:%d:%d: %s", name, line, column, strings.TrimPrefix(decode.Error(), "toml: "))
	}
	return fmt.Errorf("%s: %w", name, err)
}
