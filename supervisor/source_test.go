package supervisor

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sources parses the files of a directory that are no tests.
func sources(t *testing.T, dir string) map[string]*ast.File {
	t.Helper()
	names, err := filepath.Glob(dir + "/*.go")
	if err != nil || len(names) == 0 {
		t.Fatalf("no sources in %s: %v", dir, err)
	}
	files := map[string]*ast.File{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		if files[name], err = parser.ParseFile(token.NewFileSet(), name, nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// users lists the functions in which a name is used, once for each use.
func users(files map[string]*ast.File, name string) []string {
	var found []string
	for path, file := range files {
		for _, d := range file.Decls {
			where := path + " outside of functions"
			if f, ok := d.(*ast.FuncDecl); ok {
				where = f.Name.Name
			}
			ast.Inspect(d, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok && id.Name == name {
					found = append(found, where)
				}
				return true
			})
		}
	}
	slices.Sort(found)
	return found
}

// TestOneWayToContinue: one function can let the kernel go on with a call, and
// whoever asks it to says what stands behind that.
func TestOneWayToContinue(t *testing.T) {
	files := sources(t, ".")
	if got := slices.Compact(users(files, "UnsafeContinue")); !slices.Equal(got, []string{"send"}) {
		t.Errorf("the kernel is let go on in %v, want only in send", got)
	}
	for _, pkg := range []string{"decide", "resolve", "procmem"} {
		if got := users(sources(t, pkg), "UnsafeContinue"); len(got) != 0 {
			t.Errorf("%s lets the kernel go on in %v", pkg, got)
		}
	}
	for answer, where := range map[string]string{"send": "answer", "Refuse": "send", "AddFD": "send",
		"sendValue": "send", "Return": "sendValue"} {
		if got := slices.Compact(methodCalls(files, answer)); !slices.Equal(got, []string{where}) {
			t.Errorf("%s is called in %v, want only in %s", answer, got, where)
		}
	}
}

// methodCalls lists the functions that call something of that name on something.
// The supervisor has no other methods of these names than the listener's.
func methodCalls(files map[string]*ast.File, method string) []string {
	var found []string
	for _, file := range files {
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				s, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || s.Sel.Name != method {
					return true
				}
				found = append(found, f.Name.Name)
				return true
			})
		}
	}
	slices.Sort(found)
	return found
}

// TestContinueSaysWhy: a Continue without the reason written out would have the
// zero value's, which nobody thought of. Each reason is used, and no other place
// than these has one.
func TestContinueSaysWhy(t *testing.T) {
	files := sources(t, ".")
	for name, file := range sources(t, "decide") {
		files[name] = file
	}
	for name, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			literal, ok := n.(*ast.CompositeLit)
			if !ok || !isContinue(literal.Type) {
				return true
			}
			if len(literal.Elts) != 1 {
				t.Errorf("%s: a Continue that does not say what is behind it", name)
			}
			return true
		})
	}
	for reason, want := range map[string]int{"ByLandlock": 2, "ByScalars": 1, "ByKernel": 4, "ByNothing": 1} {
		var used []string
		for _, where := range users(files, reason) {
			if !strings.HasSuffix(where, "object.go outside of functions") { // where it is declared
				used = append(used, where)
			}
		}
		if len(used) != want {
			t.Errorf("%s is used %d times (%v), want %d: a new place has to be thought through, and counted here",
				reason, len(used), used, want)
		}
	}
}

func isContinue(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == "Continue"
	case *ast.SelectorExpr:
		return e.Sel.Name == "Continue"
	}
	return false
}
