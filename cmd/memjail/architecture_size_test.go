package main_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"strings"
	"testing"
	"unicode/utf8"
)

// maxFunction is how many lines a function has at most, without its tables.
const maxFunction = 60

// findLong finds functions that cannot be read at once. A literal or struct type of several
// lines is a table, and counts as one line.
func findLong(f *archFile) []archBreach {
	var found []archBreach
	for _, decl := range f.syntax.Decls {
		function, ok := decl.(*ast.FuncDecl)
		if !ok || function.Body == nil {
			continue
		}
		lines := f.lines(function.Body) - 1 - f.tableLines(function.Body)
		if lines > maxFunction {
			found = append(found, archBreach{function.Pos(), fmt.Sprintf("%s has %d lines, more than %d",
				function.Name.Name, lines, maxFunction)})
		}
	}
	return found
}

// maxColumns is how wide a line is at most, with tabs of four columns.
const maxColumns = 120

// findWide finds lines that are too wide. Those that a raw string or a directive takes part
// in cannot be broken.
func findWide(f *archFile) []archBreach {
	exempt := map[int]bool{}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		if text, ok := n.(*ast.BasicLit); ok && text.Kind == token.STRING && strings.HasPrefix(text.Value, "`") {
			for line := f.line(text.Pos()); line <= f.line(text.End()); line++ {
				exempt[line] = true
			}
		}
		return true
	})
	file := f.fset.File(f.syntax.Pos())
	var found []archBreach
	for i, line := range strings.Split(f.source, "\n") {
		columns := utf8.RuneCountInString(line) + 3*strings.Count(line, "\t")
		if columns > maxColumns && !exempt[i+1] && !strings.HasPrefix(line, "//go:") {
			what := fmt.Sprintf("a line of %d columns, more than %d", columns, maxColumns)
			found = append(found, archBreach{file.LineStart(i + 1), what})
		}
	}
	return found
}

// lines is how many line breaks there are in a piece of source.
func (f *archFile) lines(n ast.Node) int { return f.line(n.End()) - f.line(n.Pos()) }

func (f *archFile) line(at token.Pos) int { return f.fset.Position(at).Line }

// tableLines is how many line breaks there are within the outermost literals and
// struct types.
func (f *archFile) tableLines(n ast.Node) int {
	lines := 0
	ast.Inspect(n, func(n ast.Node) bool {
		switch n.(type) {
		case *ast.CompositeLit, *ast.BasicLit, *ast.StructType:
			lines += f.lines(n)
			return false
		}
		return true
	})
	return lines
}

// TestArchitectureSize is the control of the rule about the length of functions: it sees a
// long function, and not one whose length is a table's.
func TestArchitectureSize(t *testing.T) {
	source := func(before, line, after string) string {
		return "package x\n\nfunc f() {\n" + before + strings.Repeat(line+"\n", maxFunction+1) + after + "}\n"
	}
	for text, want := range map[string]int{
		source("", "\t_ = 1", ""):                    1,
		source("\t_ = []int{\n", "\t\t1,", "\t}\n"):  0,
		source("\t_ = `\n", "text", "`\n"):           0,
		source("\tfunc() {\n", "\t_ = 1", "\t}()\n"): 1,
	} {
		f, err := parseFile(token.NewFileSet(), "policy/x.go", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if found := findLong(f); len(found) != want {
			t.Errorf("found %v, want %d in\n%s", found, want, text)
		}
	}
}

// TestArchitectureWidth is the control of the rule about the width of lines.
func TestArchitectureWidth(t *testing.T) {
	wide := strings.Repeat("a", maxColumns)
	for text, want := range map[string]int{
		"package x\n\n// " + wide + "\n":                         1,
		"package x\n\nvar _ = \"" + wide + "\"\n":                1,
		"package x\n\nfunc f() {\n\t_ = " + wide[:113] + "\n}\n": 1, // a tab is wider than a byte
		"package x\n\nvar _ = `" + wide + "`\n":                  0,
		"package x\n\n//go:generate " + wide + "\n":              0,
		"package x\n\n// " + wide[:117] + "\n":                   0,
	} {
		f, err := parseFile(token.NewFileSet(), "policy/x.go", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if found := findWide(f); len(found) != want {
			t.Errorf("found %v, want %d in\n%s", found, want, text)
		}
	}
}
