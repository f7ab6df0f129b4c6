package probe

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"
)

// TestMain lets the test binary be agent, director, attacker, victim and launcher.
func TestMain(m *testing.M) {
	launchers := map[string]func(argv []string) error{killThreadName: killThreads, onceName: startNoMore}
	if len(os.Args) > 2 && launchers[os.Args[1]] != nil {
		fmt.Fprintln(os.Stderr, launchers[os.Args[1]](os.Args[2:]))
		os.Exit(1)
	}
	if delay, err := time.ParseDuration(os.Getenv(slowVariable)); err == nil && len(os.Args) > 1 && os.Args[1] == victimName {
		time.Sleep(delay)
	}
	if status, mine := Serve(os.Args[1:], os.Stdin, os.Stdout, os.Stderr); mine {
		os.Exit(status)
	}
	os.Exit(m.Run())
}

func TestNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range Catalogue() {
		if seen[a.Name()] {
			t.Errorf("%s stands twice in the catalogue", a.Name())
		}
		seen[a.Name()] = true
		if a.Explain == "" || a.Reference == "" {
			t.Errorf("%s has no explanation or reference", a.Name())
		}
		if a.Promise == Open && a.Why == "" {
			t.Errorf("%s is open on purpose, but does not say why", a.Name())
		}
	}
}

// TestControls makes every attempt twice without a sandbox: as the control, and
// through env(1), a launcher that closes nothing.
func TestControls(t *testing.T) {
	report, err := Run(context.Background(), Options{Launcher: []string{"/usr/bin/env"}, Attempts: Catalogue(), Stderr: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range report.Results {
		if r.Verdict != Through {
			t.Logf("%-50s %-12s %s | %s", r.Name, r.Verdict, r.Control, r.Detail)
		}
	}
	t.Logf("%d open, %d held, %d not proven, %.1f s", report.Count(Through), report.Count(Held), report.Count(NotProven), report.Seconds)
	if report.Count(Held) > 0 {
		t.Error("env(1) is said to hold something")
	}
}
