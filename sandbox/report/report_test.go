package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// hostile has what is more than text to a terminal or to a reader of some format, and
// what is no text at all.
const hostile = "x\x1b]0;title\x07\x1b[2J\x00\nok 9 - forged\n::error::forged\r\n  " +
	"...\n]]></failure><script>&\"' # TODO %0A::set-output\u202e\u2028\xff\xc3"

// suiteOf has a case of each outcome, and the text wherever there can be one.
func suiteOf(text string) *Suite {
	s := &Suite{Tool: "memjail test", Version: text, Title: text, Started: time.Unix(1e9, 0), Seconds: 1.5,
		Properties: []Property{{"launcher", text}, {"uid", 7}}, Rules: []Rule{{text, text, text, "lint.md#x"}}}
	for outcome := Held; outcome <= Noted; outcome++ {
		s.Cases = append(s.Cases, Case{Group: text, Class: text, Name: text, Rule: text, Outcome: outcome,
			Message: text, Detail: text, Reason: text,
			Fields: []Field{{"message", text}}, File: text, Line: 3, Column: 4,
			Fingerprints: map[string]string{"a/v1": text}})
	}
	return s
}

func written(t *testing.T, s *Suite, f Format) string {
	t.Helper()
	var out bytes.Buffer
	if err := s.Write(&out, f); err != nil {
		t.Fatalf("%s: %v", f, err)
	}
	return out.String()
}

// TestHostile: whatever names, paths and output hold, every format is as well formed as
// with ordinary texts, and has no line more.
func TestHostile(t *testing.T) {
	for _, f := range Formats() {
		got, plain := written(t, suiteOf(hostile), f), written(t, suiteOf("x"), f)
		if strings.Count(got, "\n") != strings.Count(plain, "\n") {
			t.Errorf("%s has other lines than with ordinary texts:\n%s", f, got)
		}
		if !utf8.ValidString(got) || strings.ContainsAny(got, "\x1b\x07\x00\r\u202e\u2028") {
			t.Errorf("%s: what steers came through: %q", f, got)
		}
		for _, forged := range []string{"\nok 9", "\n::error::", "\n  ...\n]]", "<script>"} {
			if strings.Contains(got, forged) && (forged != "<script>" || f == JUnit) {
				t.Errorf("%s: %q came through:\n%s", f, forged, got)
			}
		}
	}
	if _, err := xmlTokens(written(t, suiteOf(hostile), JUnit)); err != nil {
		t.Errorf("junit: %v", err)
	}
	if !json.Valid([]byte(written(t, suiteOf(hostile), SARIF))) {
		t.Error("sarif: no JSON")
	}
}

// TestHostileControl: the texts do come through a writer that lets them.
func TestHostileControl(t *testing.T) {
	if Printable(hostile) == hostile || strings.Count(hostile, "\n") < 3 || utf8.ValidString(hostile) {
		t.Error("the hostile text is an ordinary one")
	}
	if _, err := xmlTokens("<a>" + hostile + "</a>"); err == nil {
		t.Error("it is well-formed XML as it is")
	}
}

func xmlTokens(text string) (int, error) {
	d := xml.NewDecoder(strings.NewReader(text))
	for n := 0; ; n++ {
		if _, err := d.Token(); err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
}

func TestPrintable(t *testing.T) {
	for s, want := range map[string]string{
		"": "", "plain ä 日本": "plain ä 日本", "a\nb": `a\nb`, "\x1b[0m": `\x1b[0m`, "\xff": `\xff`,
		"a\u202eb": `a\u202eb`, `back\slash "q"`: `back\slash "q"`,
		"\ufffd": "\ufffd", "\x7f": `\x7f`,
	} {
		if got := Printable(s); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}

// TestEncodeJSON: what is written steers nothing, and is read as what it was.
func TestEncodeJSON(t *testing.T) {
	const text = "a\x1b\u202eb\U000e0001\n日本\u2028<&>"
	var out bytes.Buffer
	if err := EncodeJSON(&out, []string{text}); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out.String(), "\x1b\u202e\U000e0001\u2028") ||
		!strings.Contains(out.String(), "日本") || !strings.Contains(out.String(), "<&>") {
		t.Errorf("%q", out.String())
	}
	var read []string
	if err := json.Unmarshal(out.Bytes(), &read); err != nil || len(read) != 1 || read[0] != text {
		t.Errorf("%q, %v", read, err)
	}
}

// TestCounts: JUnit's numbers are those of its cases.
func TestCounts(t *testing.T) {
	var read struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Skipped  int `xml:"skipped,attr"`
		Suites   []struct {
			Tests      int `xml:"tests,attr"`
			Properties []struct {
				Name  string `xml:"name,attr"`
				Value string `xml:"value,attr"`
			} `xml:"properties>property"`
			Cases []struct {
				Out string `xml:"system-out"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal([]byte(written(t, suiteOf("x"), JUnit)), &read); err != nil {
		t.Fatal(err)
	}
	if read.Tests != 5 || read.Failures != 1 || read.Skipped != 1 || len(read.Suites) != 1 ||
		len(read.Suites[0].Cases) != 5 || len(read.Suites[0].Properties) != 2 {
		t.Errorf("%+v", read)
	}
}

// TestTAP: the directives are those of the outcomes.
func TestTAP(t *testing.T) {
	text := written(t, suiteOf("x"), TAP)
	for _, want := range []string{"1..5\n", "\nok 1 - x\n", "\nnot ok 2 - x\n", "\nnot ok 3 - x # TODO x\n",
		"\nok 4 - x # SKIP not proven: x\n", "\nok 5 - x\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// TestGitHub: one command a line, and none for what held.
func TestGitHub(t *testing.T) {
	command := regexp.MustCompile(`^::(error|warning|notice) title=x%3A%2C%25,file=x%3A%2C%25,line=3,col=4::.*x:,%25`)
	lines := strings.Split(strings.TrimSuffix(written(t, suiteOf("x:,%"), GitHub), "\n"), "\n")
	if len(lines) != 4 {
		t.Errorf("%d commands, want one for each outcome but Held", len(lines))
	}
	for _, line := range lines {
		if !command.MatchString(line) {
			t.Errorf("%q", line)
		}
	}
}

// TestOnPurpose: what is accepted by the rules themselves is nothing to be looked at.
func TestOnPurpose(t *testing.T) {
	s := suiteOf("x")
	s.Cases = s.Cases[Accepted : Accepted+1]
	seen := strings.Count(written(t, s, SARIF), "ruleIndex") + strings.Count(written(t, s, GitHub), "::notice")
	s.Cases[0].OnPurpose = true
	if left := strings.Count(written(t, s, SARIF), "ruleIndex") + strings.Count(written(t, s, GitHub),
		"::notice"); seen != 2 || left != 0 {
		t.Errorf("seen %d times, and on purpose %d times", seen, left)
	}
}

func TestUnknownFormat(t *testing.T) {
	if err := suiteOf("x").Write(io.Discard, "yaml"); err == nil {
		t.Error("a format that does not exist was written")
	}
}
