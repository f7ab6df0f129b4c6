package main_test

import (
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// verified is a report of verify, as far as the tests look at it.
type verified struct {
	Results []struct {
		ID     string `json:"id"`
		Status string `json:"status"`
		What   string `json:"what"`
		Fix    string `json:"fix"`
		Origin struct {
			Source string `json:"source"`
			Line   int    `json:"line"`
		} `json:"origin"`
	} `json:"results"`
}

func verifyJSON(t *testing.T, as account, dir string, args ...string) (verified, outcome) {
	t.Helper()
	argv := append([]string{memjailPath(t), "verify", "-q", "--format", "json"}, args...)
	home := as.homeDir(t)
	o := job{as: as, dir: dir, argv: argv, env: []string{"HOME=" + home}}.run(t)
	var report verified
	if err := json.Unmarshal([]byte(o.stdout), &report); err != nil {
		t.Fatalf("%v: %v\n%v", argv, err, o)
	}
	return report, o
}

// homeDir makes a home directory that lies in no directory for temporary files: a
// policy that opens those does not open this one.
func (a account) homeDir(t *testing.T) string {
	t.Helper()
	for _, parent := range []string{"/var/lib", os.Getenv("HOME")} {
		home, err := os.MkdirTemp(parent, "mj-home-")
		if err != nil {
			continue
		}
		t.Cleanup(func() { os.RemoveAll(home) })
		a.own(t, home)
		return home
	}
	t.Skip("no place for a home directory outside /tmp")
	return ""
}

// TestVerifyFindsPlantedMistakes: each of the planted policies fails by the finding
// that it says, which points into the file and says what to do.
func TestVerifyFindsPlantedMistakes(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "testdata", "policies", "planted", "*.toml"))
	if err != nil || len(files) < 10 {
		t.Fatalf("found %d planted policies: %v", len(files), err)
	}
	forAccounts(t, func(t *testing.T, as account) {
		home := as.workDir(t)
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, rest, _ := strings.Cut(string(text), "# finds: ")
			want, _, _ := strings.Cut(rest, "\n")
			name := filepath.Join(home, filepath.Base(file))
			if err := os.WriteFile(name, text, 0o644); err != nil {
				t.Fatal(err)
			}
			report, o := verifyJSON(t, as, home, "--no-probe", name)
			if o.code != 1 {
				t.Errorf("%s: %v", filepath.Base(file), o)
			}
			found := false
			for _, r := range report.Results {
				if r.ID == want && r.Status == "failed" {
					found = found || r.Origin.Source == name && r.Origin.Line > 0 && r.What != "" && r.Fix != ""
				}
			}
			if !found {
				t.Errorf("%s: no failure %q that points into the file", filepath.Base(file), want)
			}
		}
	})
}

// TestVerifyPassesBuiltins: what is shipped holds, by lint, by its own tests and by
// the attempts on /proc/PID/mem.
func TestVerifyPassesBuiltins(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		t.Parallel()
		_, o := verifyJSON(t, as, as.workDir(t), "--only", "proc-mem/open/...", "memory", "workspace", "build",
			"service", "strict")
		if o.code != 0 {
			t.Error(o)
		}
	})
}

// TestVerifyForms: every form of a report is what its readers take.
func TestVerifyForms(t *testing.T) {
	as := account{"user", -1}
	planted := filepath.Join("..", "..", "testdata", "policies", "planted", "test-deny.toml")
	file, err := filepath.Abs(planted)
	if err != nil {
		t.Fatal(err)
	}
	form := func(name string) string {
		o := job{as: as, dir: as.workDir(t), argv: []string{memjailPath(t), "verify", "--no-probe", "--format",
			name, file}}.run(t)
		if o.code != 1 {
			t.Errorf("--format %s: %v", name, o)
		}
		return o.stdout
	}
	var junit struct {
		Failures int `xml:"failures,attr"`
		Tests    int `xml:"tests,attr"`
	}
	if err := xml.Unmarshal([]byte(form("junit")), &junit); err != nil || junit.Failures != 1 {
		t.Errorf("junit: %v, %+v", err, junit)
	}
	if tap := form("tap"); !strings.HasPrefix(tap, "TAP version 14\n1..") || strings.Count(tap, "\nnot ok ") != 1 {
		t.Errorf("tap: %s", tap)
	}
	var sarif struct {
		Version string `json:"version"`
		Runs    []struct {
			Results []struct {
				RuleID    string `json:"ruleId"`
				Level     string `json:"level"`
				Locations []struct {
					Physical struct {
						Artifact struct {
							URI string `json:"uri"`
						} `json:"artifactLocation"`
						Region struct {
							StartLine int `json:"startLine"`
						} `json:"region"`
					} `json:"physicalLocation"`
				} `json:"locations"`
			} `json:"results"`
		} `json:"runs"`
	}
	if err := json.Unmarshal([]byte(form("sarif")), &sarif); err != nil || sarif.Version != "2.1.0" ||
		len(sarif.Runs) != 1 {
		t.Fatalf("sarif: %v, %+v", err, sarif)
	}
	errors := 0
	for _, r := range sarif.Runs[0].Results {
		at := r.Locations[0].Physical
		if r.Level == "error" {
			errors++
			if at.Region.StartLine != 7 || !strings.HasSuffix(at.Artifact.URI, "/test-deny.toml") {
				t.Errorf("sarif: %s points at %+v", r.RuleID, at)
			}
		}
	}
	if errors != 1 {
		t.Errorf("sarif has %d errors", errors)
	}
	if text := form("text"); !strings.Contains(text, "\n1 failed, ") {
		t.Errorf("text: %s", text)
	}
}
