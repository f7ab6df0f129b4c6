package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// format reads the outcome of each test from a suite's log, or from the files that it left
// in its directory.
type format func(dir string, log []byte, add func(test, outcome string)) error

// results returns the outcome of each test. A test of which a part failed has failed.
func (s suite) results(dir, file string, ended error) (map[string]string, error) {
	log, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	tests := map[string]string{}
	err = s.read(dir, log, func(test, outcome string) {
		if tests[test] != "fail" {
			tests[test] = outcome
		}
	})
	if err == nil && len(tests) < 10 {
		err = fmt.Errorf("%d tests have run: %v", len(tests), ended)
	}
	return tests, err
}

// goEvents reads what `go test -json` prints.
func goEvents(_ string, log []byte, add func(test, outcome string)) error {
	for line := range bytes.Lines(log) {
		var e struct{ Action, Package, Test string }
		if json.Unmarshal(line, &e) != nil || e.Test == "" {
			continue // what the compiler says
		}
		if e.Action == "pass" || e.Action == "fail" || e.Action == "skip" {
			add(e.Package+" "+e.Test, e.Action)
		}
	}
	return nil
}

// junit reads the *.xml files of a directory.
func junit(dir string, _ []byte, add func(test, outcome string)) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.xml"))
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := junitCases(text, add); err != nil && len(text) > 0 {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

func junitCases(text []byte, add func(test, outcome string)) error {
	d := xml.NewDecoder(bytes.NewReader(text))
	for {
		token, err := d.Token()
		if token == nil {
			return nil
		} else if err != nil {
			return err
		}
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != "testcase" {
			continue
		}
		var c struct {
			Name    string    `xml:"name,attr"`
			Class   string    `xml:"classname,attr"`
			Failure *struct{} `xml:"failure"`
			Error   *struct{} `xml:"error"`
			Skipped *struct{} `xml:"skipped"`
		}
		if err := d.DecodeElement(&c, &start); err != nil {
			return err
		}
		outcome := "pass"
		if c.Failure != nil || c.Error != nil {
			outcome = "fail"
		} else if c.Skipped != nil {
			outcome = "skip"
		}
		add(strings.TrimPrefix(c.Class+" "+c.Name, " "), outcome)
	}
}

// lines reads lines that a pattern matches: the groups "test" and "outcome".
func lines(pattern string, outcomes map[string]string) format {
	re := regexp.MustCompile(pattern)
	return func(_ string, log []byte, add func(test, outcome string)) error {
		part := ""
		s := bufio.NewScanner(bytes.NewReader(log))
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			line := s.Text()
			if name, ok := strings.CutPrefix(line, "== "); ok { // the scripts' own headings
				part = name + " "
				continue
			}
			m := re.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			test, outcome := m[re.SubexpIndex("test")], outcomes[m[re.SubexpIndex("outcome")]]
			if strings.Contains(test, "# skip") || strings.Contains(test, "# SKIP") {
				test, outcome = strings.TrimSpace(test[:strings.Index(strings.ToLower(test), "# skip")]), "skip"
			}
			add(part+test, outcome)
		}
		return s.Err()
	}
}

var (
	libtest = lines(`^test (?P<test>\S+)(?: - [a-z ]+)? \.\.\. (?P<outcome>ok|FAILED|ignored)`,
		map[string]string{"ok": "pass", "FAILED": "fail", "ignored": "skip"})
	tap = lines(`^(?P<outcome>ok|not ok) \d+ -? ?(?P<test>.*)$`, map[string]string{"ok": "pass", "not ok": "fail"})
	// https://busybox.net: testsuite/README
	busyboxLines = lines(`^(?P<outcome>PASS|FAIL|SKIPPED|UNTESTED): (?P<test>.*)$`,
		map[string]string{"PASS": "pass", "FAIL": "fail", "SKIPPED": "skip", "UNTESTED": "skip"})
	redisLines = lines(`^\[(?P<outcome>ok|err|ignore|skip)\]: (?P<test>.*?)(?: \(\d+ ms\))?(?: in tests/.*)?$`,
		map[string]string{"ok": "pass", "err": "fail", "ignore": "skip", "skip": "skip"})
)

// comparison is how a suite's tests came out on both sides.
type comparison struct {
	tests, same, unstable int
	different             []string            // TEST: OUTSIDE, inside INSIDE
	known                 map[string][]string // by reason
	unknown               []string
}

// compare compares two runs on each side.
func compare(s suite, outside, inside [2]outcome) comparison {
	c := comparison{known: map[string][]string{}}
	all := maps.Clone(outside[0].tests)
	maps.Copy(all, inside[0].tests)
	for _, test := range slices.Sorted(maps.Keys(all)) {
		c.tests++
		out, in := outside[0].tests[test], inside[0].tests[test]
		switch {
		case in == out || in == outside[1].tests[test]:
			c.same++
			continue
		case out != outside[1].tests[test] || in != inside[1].tests[test]:
			c.unstable++
			continue
		}
		line := fmt.Sprintf("%s: %s, inside %s", test, orNone(out), orNone(in))
		c.different = append(c.different, line)
		if why := reasonOf(s.name, test); why != "" {
			c.known[why] = append(c.known[why], test)
		} else {
			c.unknown = append(c.unknown, line)
		}
	}
	return c
}

func orNone(outcome string) string {
	if outcome == "" {
		return "not run"
	}
	return outcome
}

func reasonOf(suite, test string) string {
	for _, r := range known[suite] {
		if regexp.MustCompile(r.tests).MatchString(test) {
			return r.why
		}
	}
	return ""
}

func (r row) print() {
	fmt.Printf("%s %s, %s, %s: %d tests, %d same, %d unstable, %d known differences, %d others, %.2f x\n",
		r.suite, r.version, r.as, r.with, r.tests, r.same, r.unstable, len(r.different)-len(r.unknown), len(r.unknown),
		r.slower)
	for _, line := range r.unknown {
		fmt.Printf("\t%s\n", line)
	}
}

const (
	pageBegin = "<!-- corpus: written by make corpus -->\n"
	pageEnd   = "<!-- end of corpus -->\n"
)

// writePage writes the table between its marks in a page. Rows of what has not run this time
// stay as they are.
func writePage(file string, rows []row) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), pageBegin)
	old, after, found := strings.Cut(rest, pageEnd)
	if !ok || !found {
		return errors.New(file + " has no marks for the table")
	}
	all := map[string]string{} // the rows, by suite, account and command
	key := func(suite, as, with string) string { return suite + " " + as + " " + with }
	for line := range strings.Lines(old) {
		if f := strings.Split(line, "|"); len(f) > 4 {
			name, _, _ := strings.Cut(strings.TrimSpace(f[1]), " ")
			all[key(name, strings.TrimSpace(f[2]), strings.Trim(f[3], " `"))] = line
		}
	}
	for _, r := range rows {
		all[key(r.suite, r.as, r.with)] = fmt.Sprintf("| %s %s | %s | `%s` | %d | %d | %d | %d | %.2f |\n", r.suite, r.version,
			r.as, r.with, r.tests, r.same, r.unstable, len(r.different), r.slower)
	}
	var b strings.Builder
	b.WriteString("\n| suite | as | under | tests | same | unstable | different | time |\n" +
		"|---|---|---|--:|--:|--:|--:|--:|\n")
	for _, s := range suites {
		for _, as := range []string{"root", "user"} {
			for _, with := range []string{"run", "exec"} {
				b.WriteString(all[key(s.name, as, with)])
			}
		}
	}
	b.WriteString("\nThe differences and their reasons:\n\n")
	for _, s := range suites {
		for _, k := range known[s.name] {
			fmt.Fprintf(&b, "- %s, `%s`: %s\n", s.name, k.tests, k.why)
		}
	}
	b.WriteString("\n")
	return os.WriteFile(file, []byte(before+pageBegin+b.String()+pageEnd+after), 0o644)
}
