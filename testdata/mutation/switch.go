package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A change of a condition or of a statement can be written so that a variable of the
// environment switches it on. Then the tests are compiled once for all of a file, which takes
// most of the time otherwise. What survives like this is made by itself again: a process of a
// test may have lost its environment.

// insertion is text that goes in at an offset of a file.
type insertion struct {
	at   int
	text string
}

var packageName = regexp.MustCompile(`(?m)^package (\w+)`)

// variable is the number of the change that is on.
const variable = "MEMJAIL_MUTANT"

// around are the insertions before and after a node.
func (m *maker) around(n ast.Node, before, after string) []insertion {
	return []insertion{{m.offset(n.Pos()), before}, {m.offset(n.End()), after}}
}

// negated is a condition that is inverted while the change is on. The number of a change
// stands for %d.
func (m *maker) negated(cond ast.Expr) []insertion {
	return m.around(cond, "(mutant(%d) != (", "))")
}

// without is X && Y or X || Y of which one side does not count while the change is on.
func (m *maker) without(n *ast.BinaryExpr, side ast.Expr) []insertion {
	on := "(mutant(%d) || ("
	if n.Op.String() == "||" {
		on = "(!mutant(%d) && ("
	}
	return m.around(side, on, "))")
}

// skipped is a statement of a block that does not run while the change is on.
func (m *maker) skipped(n ast.Stmt) []insertion {
	if slices.Contains(m.heads, n) {
		return nil
	}
	return m.around(n, "if !mutant(%d) { ", " }")
}

// switched is a file with all changes of it that can be switched, numbered from 1.
func switched(source []byte, mutants []mutant) []byte {
	type placed struct {
		insertion
		order int
	}
	var all []placed
	for k, m := range mutants {
		for i, in := range m.switches {
			in.text = strings.ReplaceAll(in.text, "%d", fmt.Sprint(k+1))
			// Of those that begin at one place the outer one comes first; mutants are made
			// from the outside to the inside. Of those that end there it comes last.
			order := k + 1
			if i%2 == 1 {
				order = -order
			}
			all = append(all, placed{in, order})
		}
	}
	slices.SortStableFunc(all, func(a, b placed) int {
		if a.at != b.at {
			return a.at - b.at
		}
		return a.order - b.order
	})
	var out bytes.Buffer
	last := 0
	for _, p := range all {
		out.Write(source[last:p.at])
		out.WriteString(p.text)
		last = p.at
	}
	out.Write(source[last:])
	return out.Bytes()
}

// switchFile is what the package of a switched file has more.
const switchFile = `package %s

import (
	"os"
	"strconv"
)

var mutantOn, _ = strconv.Atoi(os.Getenv("` + variable + `"))

func mutant(number int) bool { return number == mutantOn }
`

// trySwitched tries the changes of a file that can be switched, those of a family that were
// not tried yet. What it cannot say is left to [runner.try].
func (r *runner) trySwitched(f *family, file string, mutants []mutant) error {
	path := filepath.Join(r.copy, file)
	source, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	name := packageName.FindSubmatch(source)
	if name == nil {
		return fmt.Errorf("%s says no package", file)
	}
	more := filepath.Join(filepath.Dir(path), "mutant_switch.go")
	defer os.Remove(more)
	defer os.WriteFile(path, source, 0o644)
	if err := os.WriteFile(more, fmt.Appendf(nil, switchFile, name[1]), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(path, switched(source, mutants), 0o644); err != nil {
		return err
	}
	for _, t := range f.tests {
		if err := r.build(t.pkg); err != nil {
			fmt.Printf("%s: the changes of %s cannot be switched: %v\n", f.name, file, err)
			return nil
		}
	}
	for k := 0; k <= len(mutants) && !r.over(); k++ { // 0: none is on
		noticed := ""
		for _, t := range f.tests {
			if noticed = r.testOnce(t, f.slow, fmt.Sprintf("%s=%d", variable, k)); noticed != "" {
				break
			}
		}
		switch {
		case k == 0 && noticed != "":
			return fmt.Errorf("%s: with no change on %s fails", file, noticed)
		case k > 0 && noticed != "":
			if err := r.keep(&mutants[k-1], result{killed, noticed}); err != nil {
				return err
			}
		}
	}
	return nil
}
