package probe_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/memjail/memjail/sandbox/probe"
	"github.com/memjail/memjail/sandbox/probe/attempts"
)

// TestMain lets the test binary be agent, runner, attacker, victim and launcher.
func TestMain(m *testing.M) {
	launchers := map[string]func(argv []string) error{killThreadName: killThreads, onceName: startNoMore}
	if len(os.Args) > 2 && launchers[os.Args[1]] != nil {
		fmt.Fprintln(os.Stderr, launchers[os.Args[1]](os.Args[2:]))
		os.Exit(1)
	}
	if delay, err := time.ParseDuration(os.Getenv(slowVariable)); err == nil && len(os.Args) > 1 &&
		os.Args[1] == probe.VictimName {
		time.Sleep(delay)
	}
	if status, mine := probe.Serve(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, attempts.Catalogue()); mine {
		os.Exit(status)
	}
	os.Exit(m.Run())
}

// TestControls makes every attempt twice without a sandbox: as the control, and
// through env(1), a launcher that closes nothing.
func TestControls(t *testing.T) {
	report, err := probe.Run(context.Background(), probe.Options{Launcher: []string{"/usr/bin/env"},
		Attempts: attempts.All(), Stderr: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range report.Results {
		if r.Verdict != probe.Open {
			t.Logf("%-50s %-12s %s | %s", r.Name, r.Verdict, r.Control, r.Detail)
		}
	}
	t.Logf("%d open, %d held, %d not proven, %.1f s", report.Count(probe.Open), report.Count(probe.Held),
		report.Count(probe.NotProven), report.Seconds)
	if report.Count(probe.Held) > 0 {
		t.Error("env(1) is reported to hold something")
	}
}
