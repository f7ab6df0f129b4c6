package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// mutant is one change of a file of the tree.
type mutant struct {
	family, file string
	what         string // "carve.go:231 add: without `...`"
	begin, end   int    // what is replaced, in bytes
	text         string
	id           string // of the file after the change
	switches     []insertion
}

// operator is a kind of change.
type operator int

const (
	dropElement  operator = 1 << iota // an element of a list or table, or of the arguments of a call of add
	dropSide                          // one side of && or ||
	negate                            // the condition of an if
	dropCase                          // a case of a switch
	dropCall                          // a statement that is a call, or adds to a list
	swapName                          // one of swaps
	flipJump                          // the two ends of a conditional jump of a compiled filter
	emptyProgram                      // a BPF program, which allows everything then
)

// swaps are names that stand for the stricter choice, and the looser one.
var swaps = map[string]string{"GatePtrace": "GateNone", "Own": "Any"}

// mutants are all changes of the file of a family.
func (f *family) mutants(top string) ([]mutant, error) {
	var all []mutant
	for _, name := range f.files {
		source, err := os.ReadFile(filepath.Join(top, name))
		if err != nil {
			return nil, err
		}
		if f.operators&emptyProgram != 0 {
			all = append(all, f.programs(name, source)...)
			continue
		}
		if f.operators&flipJump != 0 {
			all = append(all, f.jumps(name, source)...)
			continue
		}
		set := token.NewFileSet()
		syntax, err := parser.ParseFile(set, name, source, 0)
		if err != nil {
			return nil, err
		}
		m := &maker{family: f, file: name, source: source, set: set}
		for _, decl := range syntax.Decls {
			m.declaration(decl)
		}
		all = append(all, m.made...)
	}
	return all, nil
}

type maker struct {
	*family
	file   string
	source []byte
	set    *token.FileSet
	within string // the declaration
	made   []mutant
	heads  []ast.Stmt // statements in the head of another, where no other can stand
}

// declaration changes a function or variable that the family names; all functions, if it
// names none.
func (m *maker) declaration(decl ast.Decl) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		m.within = d.Name.Name
		if d.Body != nil && (len(m.names) == 0 || slices.Contains(m.names, m.within)) {
			ast.Inspect(d.Body, m.node)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			v, ok := spec.(*ast.ValueSpec)
			if ok && slices.Contains(m.names, v.Names[0].Name) {
				m.within = v.Names[0].Name
				ast.Inspect(v, m.node)
			}
		}
	}
}

func (m *maker) node(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.CompositeLit:
		if _, list := n.Type.(*ast.ArrayType); m.operators&dropElement != 0 && (list || n.Type == nil && !keyed(n)) {
			m.elements(n.Elts)
		}
	case *ast.CallExpr:
		name, ok := n.Fun.(*ast.Ident)
		if ok && name.Name == "add" && m.operators&dropElement != 0 {
			m.elements(n.Args)
		}
		if ok && name.Name == "append" && m.operators&dropElement != 0 {
			m.elements(n.Args[1:])
		}
	case *ast.ForStmt:
		m.heads = append(m.heads, n.Init, n.Post)
	case *ast.SwitchStmt:
		m.heads = append(m.heads, n.Init)
	case *ast.IfStmt:
		m.heads = append(m.heads, n.Init)
		if m.operators&negate != 0 {
			m.change(n.Cond, "!("+m.text(n.Cond)+")", m.negated(n.Cond)...)
		}
	case *ast.BinaryExpr:
		if m.operators&dropSide != 0 && (n.Op == token.LAND || n.Op == token.LOR) {
			m.change(n, "("+m.text(n.X)+")", m.without(n, n.Y)...)
			m.change(n, "("+m.text(n.Y)+")", m.without(n, n.X)...)
		}
	case *ast.CaseClause:
		if m.operators&dropCase != 0 && n.List != nil {
			m.change(n, "")
		}
	case *ast.ExprStmt:
		if m.operators&dropCall != 0 {
			m.change(n, "", m.skipped(n)...)
		}
	case *ast.AssignStmt:
		if m.operators&dropCall != 0 && n.Tok != token.DEFINE && appends(n) {
			m.change(n, "", m.skipped(n)...)
		}
	case *ast.Ident:
		if other := swaps[n.Name]; m.operators&swapName != 0 && other != "" {
			m.change(n, other)
		}
	}
	return true
}

func keyed(n *ast.CompositeLit) bool {
	if len(n.Elts) == 0 {
		return false
	}
	_, is := n.Elts[0].(*ast.KeyValueExpr)
	return is
}

func appends(a *ast.AssignStmt) bool {
	if a.Tok != token.ASSIGN {
		return true // |=, &^= and so on
	}
	call, ok := a.Rhs[0].(*ast.CallExpr)
	if !ok {
		return false
	}
	name, ok := call.Fun.(*ast.Ident)
	return ok && name.Name == "append"
}

// elements takes away each that is a literal, or a call that makes one.
func (m *maker) elements(list []ast.Expr) {
	for i, e := range list {
		switch e.(type) {
		case *ast.BasicLit, *ast.CompositeLit, *ast.CallExpr, *ast.SelectorExpr:
		default:
			continue
		}
		begin, end := m.offset(e.Pos()), m.offset(e.End())
		if i+1 < len(list) {
			end = m.offset(list[i+1].Pos())
		} else if i > 0 {
			begin = m.offset(list[i-1].End())
		}
		m.replace(begin, end, "", m.text(e))
	}
}

func (m *maker) offset(p token.Pos) int { return m.set.Position(p).Offset }

func (m *maker) text(n ast.Node) string { return string(m.source[m.offset(n.Pos()):m.offset(n.End())]) }

func (m *maker) change(n ast.Node, text string, switches ...insertion) {
	m.replace(m.offset(n.Pos()), m.offset(n.End()), text, m.text(n))
	m.made[len(m.made)-1].switches = switches
}

func (m *maker) replace(begin, end int, text, was string) {
	line := 1 + strings.Count(string(m.source[:begin]), "\n")
	what := fmt.Sprintf("%s:%d %s: without `%s`", filepath.Base(m.file), line, m.within, short(was))
	if text != "" {
		what = fmt.Sprintf("%s:%d %s: `%s` for `%s`", filepath.Base(m.file), line, m.within, short(text), short(was))
	}
	made := mutant{family: m.name, file: m.file, what: what, begin: begin, end: end, text: text}
	made.id = identity(m.file, made.apply(m.source))
	m.made = append(m.made, made)
}

func short(text string) string {
	text = strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", "\\|")
	if len(text) > 90 {
		text = text[:60] + " … " + text[len(text)-25:]
	}
	return text
}

func (m *mutant) apply(source []byte) []byte {
	return slices.Concat(source[:m.begin], []byte(m.text), source[m.end:])
}

func identity(file string, content []byte) string {
	sum := sha256.Sum256(append([]byte(file+"\x00"), content...))
	return hex.EncodeToString(sum[:12])
}

var hook = regexp.MustCompile(`SEC\("(lsm/\w+)"\)\nint BPF_PROG\((\w+)[^{]*\{`)

// programs has each BPF program return at once.
func (f *family) programs(name string, source []byte) []mutant {
	var all []mutant
	for _, at := range hook.FindAllSubmatchIndex(source, -1) {
		m := mutant{family: f.name, file: name, begin: at[1], end: at[1], text: " return 0;",
			what: fmt.Sprintf("%s: %s on %s allows everything", filepath.Base(name), source[at[4]:at[5]],
				source[at[2]:at[3]])}
		m.id = identity(name, m.apply(source))
		all = append(all, m)
	}
	return all
}

// jumps changes conditional jumps of a compiled filter, struct sock_filter, one in every
// so many: a body has hundreds.
func (f *family) jumps(name string, program []byte) []mutant {
	const size, every = 8, 5
	var all []mutant
	for at, n := 0, 0; at+size <= len(program); at += size {
		if program[at]&7 != 5 || program[at+2] == program[at+3] { // BPF_JMP, with two ends
			continue
		}
		if n++; n%every != 0 {
			continue
		}
		m := mutant{family: f.name, file: name, begin: at + 2, end: at + 4,
			text: string([]byte{program[at+3], program[at+2]}),
			what: fmt.Sprintf("%s: the two ends of the jump at instruction %d exchanged", filepath.Base(name), at/size)}
		m.id = identity(name, m.apply(program))
		all = append(all, m)
	}
	return all
}
