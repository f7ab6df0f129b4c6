package main

import (
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

//go:embed programs/*.c
var programs embed.FS

// bench is what the cases are made of.
type bench struct {
	memjail             string
	opens, limit, crowd string // compiled from programs
	dir                 string // for everything that a case needs; everybody may look into it
	tree                string // the top of the source tree
}

func newBench(memjail string) (*bench, error) {
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
		limit: filepath.Join(dir, "limit"), crowd: filepath.Join(dir, "crowd")}
	// A copy is what people have: a linker's own output lies in the page cache in
	// smaller pieces. And servers run it as another user.
	if err := copyProgram(memjail, b.memjail); err != nil {
		return nil, err
	}
	for _, program := range []string{b.opens, b.limit, b.crowd} {
		source, err := programs.ReadFile("programs/" + filepath.Base(program) + ".c")
		if err != nil {
			return nil, err
		}
		gcc := exec.Command("gcc", "-O2", "-Wall", "-static", "-pthread", "-x", "c", "-o", program, "-")
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
	runs    int
	goals   []goal
	prepare func(*stage) error
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
}

// variant is one way to do it; run returns what it took.
type variant struct {
	name string
	run  func() (float64, error)
}

func (s *stage) add(name string, run func() (float64, error)) {
	s.variants = append(s.variants, variant{name, run})
}

// whole adds a command whose whole run counts.
func (s *stage) whole(name string, argv ...string) {
	s.add(name, func() (float64, error) {
		start := time.Now()
		_, err := output(argv)
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

func output(argv []string) ([]byte, error) {
	var text strings.Builder
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = &text
	out, err := cmd.Output()
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

// caseBudget is how long a case goes on; it has at least fewestRuns runs.
const (
	caseBudget = 7 * time.Second
	fewestRuns = 3
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
	samples := make([][]float64, len(s.variants))
	begun := time.Now()
	for round := range c.runs + 1 {
		if round > fewestRuns && time.Since(begun) > caseBudget {
			break
		}
		if c.runs == 1 && round == 0 {
			continue
		}
		for i := range s.variants {
			i = (i + round) % len(s.variants)
			value, err := s.variants[i].run()
			if err != nil {
				return result{}, fmt.Errorf("%s: %w", s.variants[i].name, err)
			}
			if round > 0 {
				samples[i] = append(samples[i], value)
			}
		}
	}
	return newResult(c, s, samples), nil
}
