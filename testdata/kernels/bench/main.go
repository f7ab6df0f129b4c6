// Bench measures, inside a guest of testdata/kernels, what the memory capability costs
// real programs: each case runs outside, with the capability dropped and nothing else, in a
// sandbox with the capability, and in one with a supervisor instead of it, in turn, in one
// run. The guest's clock counts instructions (kernels boot --instructions), so a nanosecond
// is one instruction, and a busy host changes nothing. It prints the rows of a table in
// Markdown.
//
//	bench prepare DIR            make what the cases work on
//	bench case DIR CASE          run one case and print its nanoseconds
//	bench measure DIR ROUNDS     measure all cases
//	bench all DIR                prepare and run every case once, to see which files it takes
package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// benchCase is a command that runs some times in a row, so that the start of the
// sandbox, which is measured elsewhere, does not count.
type benchCase struct {
	name    string
	times   int
	command string // for sh, in DIR
}

var cases = []benchCase{
	{"`make` of 8 C files", 1, "make -s -B"},
	{"`git status` of 400 files", 4, "git -C repository status --short"},
	{"Python, 20 modules imported", 2, "python3 -IBSc 'import " + modules + "'"},
	{"`ps aux`, 40 processes", 4, "ps aux"},
}

const modules = "json, re, csv, ast, enum, glob, heapq, shutil, socket, string, struct, tempfile, " +
	"textwrap, threading, types, uuid, decimal, argparse, logging, subprocess"

// variants are the commands before a case.
var variants = []struct {
	name   string
	prefix []string
}{
	{"outside", nil},
	{"drop", []string{"memjail", "drop", "--"}},
	{"capability", []string{"memjail", "run", "-q", "--"}},
	{"supervisor", []string{"memjail", "run", "-q", "--no-capability", "--"}},
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "prepare":
		return prepare(args[1])
	case len(args) == 3 && args[0] == "case":
		return runCase(args[1], args[2])
	case len(args) == 3 && args[0] == "measure":
		rounds, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		return measure(args[1], rounds)
	case len(args) == 2 && args[0] == "all":
		return runAll(args[1])
	}
	return fmt.Errorf("usage: bench prepare DIR | case DIR CASE | measure DIR ROUNDS | all DIR")
}

// prepare makes a C project and a git repository.
func prepare(dir string) error {
	makefile := "all: program\nprogram: "
	for i := range 8 {
		makefile += fmt.Sprintf("f%d.o ", i)
		source := fmt.Sprintf("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\nint "+
			"f%d(int x) { return printf(\"%%d\", x + %d); }\n", i, i)
		if i == 0 {
			source += "int main(void) { return f0(1) == 0; }\n"
		}
		if err := write(filepath.Join(dir, fmt.Sprintf("f%d.c", i)), source); err != nil {
			return err
		}
	}
	makefile += "\n\tgcc -o $@ $^\n%.o: %.c\n\tgcc -O1 -c -o $@ $<\n"
	if err := write(filepath.Join(dir, "Makefile"), makefile); err != nil {
		return err
	}
	for i := range 400 {
		if err := write(filepath.Join(dir, "repository", fmt.Sprintf("d%d/f%d", i%20, i)),
			strconv.Itoa(i)); err != nil {
			return err
		}
	}
	const git = "git -c init.defaultBranch=main init -q && git add . && git -c user.name=x -c " +
		"user.email=x@example.org commit -qm x"
	cmd := exec.Command("sh", "-c", git)
	cmd.Dir = filepath.Join(dir, "repository")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("making the repository: %w\n%s", err, out)
	}
	return nil
}

func write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// runCase prints what one case takes.
func runCase(dir, name string) error {
	i := slices.IndexFunc(cases, func(c benchCase) bool { return c.name == name })
	if i < 0 {
		return fmt.Errorf("no case %q", name)
	}
	begin := time.Now()
	for range cases[i].times {
		cmd := exec.Command("sh", "-c", cases[i].command)
		cmd.Dir = dir
		var complaint bytes.Buffer
		cmd.Stderr = &complaint
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w\n%s", name, err, &complaint)
		}
	}
	fmt.Println(time.Since(begin).Nanoseconds())
	return nil
}

func runAll(dir string) error {
	if err := prepare(dir); err != nil {
		return err
	}
	for _, c := range cases {
		if err := runCase(dir, c.name); err != nil {
			return err
		}
	}
	return nil
}

// measure prints a row for each case: the median outside, and the medians of the ratios of
// the others to the run outside of the same round.
func measure(dir string, rounds int) error {
	for range 40 {
		idle := exec.Command("sleep", "100000")
		if err := idle.Start(); err != nil {
			return err
		}
		defer idle.Process.Kill()
	}
	for _, c := range cases {
		var outside []float64
		ratios := make([][]float64, len(variants))
		for round := range rounds + 1 {
			took := make([]float64, len(variants))
			for i := range variants {
				v := (i + round) % len(variants) // each round begins with another one
				var err error
				if took[v], err = once(variants[v].prefix, dir, c.name); err != nil {
					return fmt.Errorf("%s: %w", variants[v].name, err)
				}
			}
			if round == 0 {
				continue // fills the caches
			}
			outside = append(outside, took[0])
			for v := range variants {
				ratios[v] = append(ratios[v], took[v]/took[0])
			}
		}
		fmt.Printf("| %s | %.0f million | %.3f | %.3f | %.3f |\n", c.name, median(outside)/1e6,
			median(ratios[1]), median(ratios[2]), median(ratios[3]))
	}
	return nil
}

func once(prefix []string, dir, name string) (float64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	command := append(slices.Clone(prefix), self, "case", dir, name)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
