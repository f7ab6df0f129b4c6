package main

import (
	"context"
	"embed"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

//go:embed programs/*.c
var programs embed.FS

// bench is what the cases are made of.
type bench struct {
	memjail                          string
	opens, limit, crowd, interrupted string // compiled from programs
	dir                              string // for everything that a case needs; everybody may look into it
	tree                             string // the top of the source tree
	launchers                        string // where other launchers are looked for, before PATH; may be empty
	// patience is what the cases' seconds are multiplied with, and fewest the number of runs
	// that a variant has even if it takes longer; both become less when time gets short.
	patience float64
	fewest   int
}

func newBench(memjail, launchers string) (*bench, error) {
	if _, err := os.Stat(memjail); err != nil {
		return nil, fmt.Errorf("%w: make build", err)
	}
	tree, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "memjail-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{dir: dir, tree: tree, memjail: filepath.Join(dir, "memjail"), opens: filepath.Join(dir, "opens"),
		limit: filepath.Join(dir, "limit"), crowd: filepath.Join(dir, "crowd"),
		interrupted: filepath.Join(dir, "interrupted"), launchers: launchers, patience: 1, fewest: fewestRuns}
	// A copy is what people have: a linker's own output lies in the page cache in
	// smaller pieces. And servers run it as another user.
	if err := copyProgram(memjail, b.memjail); err != nil {
		return nil, err
	}
	for _, program := range []string{b.opens, b.limit, b.crowd, b.interrupted} {
		source, err := programs.ReadFile("programs/" + filepath.Base(program) + ".c")
		if err != nil {
			return nil, err
		}
		gcc := exec.Command("gcc", "-O2", "-Wall", "-static-pie", "-pthread", "-x", "c", "-o", program, "-")
		gcc.Stdin = strings.NewReader(string(source))
		if out, err := gcc.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("compiling %s.c: %w\n%s", filepath.Base(program), err, out)
		}
	}
	return b, os.Chmod(dir, 0o755)
}

func copyProgram(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o755)
}

// inside is a command line that runs what is appended to it in a sandbox.
func (b *bench) inside(flags ...string) []string {
	return append(append([]string{b.memjail, "run", "-q"}, flags...), "--")
}

// benchCase is one thing that is measured, in several variants.
type benchCase struct {
	name string
	unit unit
	// runs is how often each variant is run at most, after once to warm everything up;
	// once only: without that. A case ends before if it has taken too long.
	runs int
	// seconds is about how long it goes on; 0: [usualSeconds].
	seconds float64
	// detail cases are run only if they are asked for by name.
	detail  bool
	goals   []goal
	prepare func(*stage) error
	// axis is what the curves of a case of scale go along. each: the values are what one of many
	// takes, which is not to grow; else they are of all, and not to grow more than the axis does.
	axis string
	each bool
}

func (c benchCase) lasts() float64 {
	if c.seconds == 0 {
		return usualSeconds
	}
	return c.seconds
}

// goal: the variant subject is to take at most most times as long as against;
// without against, at most most.
type goal struct {
	what             string
	subject, against string
	most             float64
}

// skip is the reason for which a case is not measured here.
type skip string

func (s skip) Error() string { return string(s) }

// stage is what a case prepares.
type stage struct {
	*bench
	variants []variant
	skipped  []string
	closing  []func()
	check    func(out []byte) error // of what commands print whose whole run counts; may be nil
}

// variant is one way to do it; run returns what it took.
type variant struct {
	name string
	run  func() (float64, error)
	// other launchers may fail, which is part of the outcome.
	other bool
	// at is the point of a curve.
	at float64
}

func (s *stage) add(name string, run func() (float64, error)) {
	s.variants = append(s.variants, variant{name: name, run: run})
}

// whole adds a command whose whole run counts.
func (s *stage) whole(name string, argv ...string) {
	s.add(name, func() (float64, error) {
		start := time.Now()
		out, err := output(argv)
		if err == nil && s.check != nil {
			err = s.check(out)
		}
		return float64(time.Since(start).Nanoseconds()), err
	})
}

// share is whole for a command that does count things.
func (s *stage) share(name string, count int, argv ...string) {
	s.whole(name, argv...)
	last := &s.variants[len(s.variants)-1]
	all := last.run
	last.run = func() (float64, error) {
		took, err := all()
		return took / float64(count), err
	}
}

// printing adds a command that prints nanoseconds and a count.
func (s *stage) printing(name string, argv ...string) {
	s.add(name, func() (float64, error) {
		out, err := output(argv)
		if err != nil {
			return 0, err
		}
		var ns, count float64
		if _, err := fmt.Sscan(string(out), &ns, &count); err != nil || count == 0 {
			return 0, fmt.Errorf("%q printed %q", argv, out)
		}
		return ns / count, nil
	})
}

func (s *stage) close(f func()) { s.closing = append(s.closing, f) }

// longest is how long a command may go on.
const longest = 30 * time.Second

func output(argv []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	var text strings.Builder
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stderr = &text
	// A group of its own ends as a whole.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%q took longer than %v", argv, longest)
	}
	if err != nil {
		return nil, fmt.Errorf("%q: %w\n%s", argv, err, text.String())
	}
	return out, nil
}

// look finds a program or is the reason for skipping the case.
func look(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", skip(name + " is not installed")
	}
	return path, nil
}

// usualSeconds is how long a case goes on if it does not say; each variant has at least
// fewestRuns runs, unless these take much longer than that.
const (
	usualSeconds = 7
	fewestRuns   = 3
)

// measure runs the variants of a case in turn, each time beginning with another one.
func (b *bench) measure(c benchCase) (result, error) {
	s := &stage{bench: b}
	defer func() {
		for _, f := range slices.Backward(s.closing) {
			f()
		}
	}()
	if err := c.prepare(s); err != nil {
		return result{}, err
	}
	turns := newTurns(s, c.lasts()*b.patience)
	if c.runs > 1 && b.fewest > 1 {
		if err := turns.warm(); err != nil {
			return result{}, err
		}
	}
	for round := range c.runs {
		took := time.Since(turns.begun).Seconds()
		if round >= b.fewest && took > turns.seconds || round > 0 && took > 2*turns.seconds {
			break
		}
		if err := turns.round(round); err != nil {
			return result{}, err
		}
	}
	return newResult(c, s, turns.samples), nil
}

// turns are the runs of a case's variants.
type turns struct {
	*stage
	seconds float64 // for all of it
	begun   time.Time
	samples [][]float64 // by variant and round; NaN: not run then
	spent   []float64   // seconds, by variant
	failed  []bool
}

func newTurns(s *stage, seconds float64) *turns {
	n := len(s.variants)
	return &turns{stage: s, seconds: seconds, begun: time.Now(), samples: make([][]float64, n),
		spent: make([]float64, n), failed: make([]bool, n)}
}

// warm runs each variant once. What that takes counts only for a variant that would use up the
// time of the others.
func (t *turns) warm() error {
	for i := range t.variants {
		value, err := t.one(i)
		if err != nil {
			return err
		}
		if t.slow(i) {
			t.samples[i] = []float64{value}
		} else {
			t.spent[i] = 0
		}
	}
	t.begun = time.Now()
	return nil
}

// slow says whether another launcher has had more than its share of the time.
func (t *turns) slow(i int) bool { return t.variants[i].other && t.spent[i] > t.seconds/8 }

// round runs each variant once, but those that were slow.
func (t *turns) round(round int) error {
	for i := range t.variants {
		i = (i + round) % len(t.variants)
		for len(t.samples[i]) < round {
			t.samples[i] = append(t.samples[i], math.NaN())
		}
		if t.failed[i] || t.slow(i) {
			continue
		}
		value, err := t.one(i)
		if err != nil {
			return err
		}
		t.samples[i] = append(t.samples[i][:round], value)
	}
	return nil
}

// one runs a variant. Where another launcher fails, that is said, and it is left out.
func (t *turns) one(i int) (float64, error) {
	v, begun := t.variants[i], time.Now()
	value, err := v.run()
	t.spent[i] += time.Since(begun).Seconds()
	switch {
	case err == nil:
		return value, nil
	case !v.other:
		return 0, fmt.Errorf("%s: %w", v.name, err)
	}
	t.failed[i] = true
	t.skipped = append(t.skipped, fmt.Sprintf("%s fails here: %s", v.name, lastLine(err.Error())))
	return math.NaN(), nil
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
