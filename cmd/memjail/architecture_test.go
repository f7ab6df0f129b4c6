package main_test

import (
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const archModule = "github.com/memjail/memjail"

// archFile is one Go file of the tree, parsed, and what the rules ask of it.
type archFile struct {
	path    string // slash-separated, from the top of the module
	dir     string // its package's directory, "." for the top
	test    bool
	tagged  bool              // built only with the tag libseccomp
	imports map[string]string // the name it has in the file → import path
	source  string
	syntax  *ast.File
	fset    *token.FileSet
}

// archRule is one rule about the shape of the program. find reports each place
// that breaks it; reason is what a reader of the failure needs to know.
type archRule struct {
	name   string
	reason string
	find   func(f *archFile) []archBreach
}

type archBreach struct {
	pos  token.Pos
	what string
}

// archInits are the init functions there may be, each with its reason. A new
// one is work that every start of memjail pays for, before anybody asked.
var archInits = map[string]string{
	"cmd/memjail/main.go":           "the main goroutine is only surely on the main thread before main runs",
	"sandbox/kernel/early/early.go": "must read RLIMIT_NOFILE before package syscall raises it",
}

var archRules = []archRule{
	{
		name:   "unsafe and raw system calls stay in the floor",
		reason: "one package is small enough to be read line by line; everything above it speaks Go types",
		find:   findRaw,
	},
	{
		name: "no cgo in what ships",
		reason: "the program is one static file; a mapped C library would be a way into the supervisor, " +
			"and cgo costs 0.6 ms a start",
		find: findCgo,
	},
	{
		name: "sandbox and supervisor do not import each other",
		reason: "the launcher must be readable without the supervisor and the other way round; " +
			"sandbox/session wires them",
		find: findSides,
	},
	{
		name:   "one engine carries a run out",
		reason: "a second one would have its own mistakes, and the tests of one say nothing about the other",
		find:   findEngine,
	},
	{
		name: "a plan is filled in one place",
		reason: "the parts of a start are functions of what they are given; a part that sees the plan " +
			"writes to it, and then nobody knows who did",
		find: findParts,
	},
	{
		name:   "policy is pure",
		reason: "a policy can be checked on any system, by any program; it knows nothing of how it is enforced",
		find:   findPolicy,
	},
	{
		name:   "each outside library has one home",
		reason: "a library behind one package can be replaced, and its cost and its bugs have an address",
		find:   findLibraries,
	},
	{
		name:   "the loader of the capability is the command line's",
		reason: "a start, and a program that drops the capability, need one prctl(2), and not a library that loads BPF",
		find:   findLoader,
	},
	{
		name: "one package writes reports",
		reason: "a text that was not written by memjail must mean nothing to a terminal or a parser, " +
			"and who escapes it a second time forgets one",
		find: findReports,
	},
	{
		name: "the attack suite is an engine, and attempts that it is given",
		reason: "an attempt is data: who writes one has a small surface to learn, and the engine judges " +
			"all of them alike",
		find: findSuite,
	},
	{
		name: "one table of special file systems, one parser of mount tables",
		reason: "a file system or an escape that a second one forgets is a way to memory that only one " +
			"part of memjail closes",
		find: findTables,
	},
	{
		name:   "only main ends the process",
		reason: "an exit from the depths skips the clean-up and the table that turns errors into statuses",
		find:   findExit,
	},
	{
		name: "no init functions",
		reason: "what runs before main is paid by every start and seen by nobody; the exceptions are " +
			"listed in this test",
		find: findInit,
	},
	{
		name:   "only cmd prints",
		reason: "a library that writes to the terminal corrupts the output of the program that runs under memjail",
		find:   findPrint,
	},
	{
		name:   "lines end at column 120",
		reason: "what is beyond it is not seen beside a change or on a small screen; raw strings may be wider",
		find:   findWide,
	},
	{
		name:   "a function can be read at once",
		reason: "what does not fit on a screen is skimmed, and mistakes hide in it; tables may be as long as they are",
		find:   findLong,
	},
	{
		name:   "nothing slow to start",
		reason: "a start takes about two milliseconds; these packages initialise tables that memjail does not need",
		find:   findSlow,
	},
}

// TestArchitecture holds the rules of docs/architecture.md against every Go
// file of the tree, whatever tags or systems it is built for.
func TestArchitecture(t *testing.T) {
	files := parseTree(t, filepath.Join("..", ".."))
	for _, rule := range archRules {
		t.Run(strings.ReplaceAll(rule.name, " ", "-"), func(t *testing.T) {
			for _, f := range files {
				for _, b := range rule.find(f) {
					t.Errorf("%s:%d: %s\n\trule: %s, because %s",
						f.path, f.fset.Position(b.pos).Line, b.what, rule.name, rule.reason)
				}
			}
		})
	}
}

// TestArchitectureNotices is the control: a source text that breaks a rule is
// found, under whatever name the package was imported.
func TestArchitectureNotices(t *testing.T) {
	tests := []struct{ name, path, source, want string }{
		{"unsafe", "supervisor/x.go", `package x; import "unsafe"; var _ unsafe.Pointer`, "imports unsafe"},
		{"raw call", "sandbox/x.go", `package x; import u "golang.org/x/sys/unix"; var _ = u.RawSyscall6`,
			"RawSyscall6"},
		{"raw call of syscall", "policy/x.go", `package x; import "syscall"; var _ = syscall.Syscall`,
			"syscall.Syscall"},
		{"dot import", "sandbox/x.go", `package x; import . "syscall"`, "dot import"},
		{"linkname", "sandbox/x.go", "package x\n\n//go:linkname a runtime.a\nfunc a()", "go:linkname"},
		{"the floor may", "sandbox/kernel/x.go", `package x; import "unsafe"; var _ unsafe.Pointer`, ""},
		{"its namesake may not", "sandbox/kernelish/x.go", `package x; import "unsafe"; var _ unsafe.Pointer`,
			"imports unsafe"},
		{"a second XML", "sandbox/verify/x.go", `package x; import "encoding/xml"; var _ xml.Name`, "encoding/xml"},
		{"the first XML", "sandbox/report/x.go", `package x; import "encoding/xml"; var _ xml.Name`, ""},
		{"a second escape", "sandbox/probe/x.go", `package x; func printable(s string) string { return s }`,
			"printable"},
		{"the writer knows a suite", "sandbox/report/x.go",
			`package x; import "github.com/memjail/memjail/sandbox/probe"; var _ probe.Report`, "sandbox/probe"},
		{"an engine that knows attempts", "sandbox/probe/x.go",
			`package x; import "github.com/memjail/memjail/sandbox/probe/attempts"`,
			"sandbox/probe imports sandbox/probe/attempts"},
		{"an engine that knows what it attacks", "sandbox/probe/x.go",
			`package x; import "github.com/memjail/memjail/sandbox/filter"`, "sandbox/probe imports sandbox/filter"},
		{"the engine's tests have attempts", "sandbox/probe/x_test.go",
			`package x_test; import "github.com/memjail/memjail/sandbox/probe/attempts"`, ""},
		{"an attempt", "sandbox/probe/attempts/x.go",
			`package x; import ("github.com/memjail/memjail/sandbox/probe"; "github.com/memjail/memjail/policy")
			var _ probe.Attempt; var _ policy.Policy`, ""},
		{"an attempt that knows its enemy", "sandbox/probe/attempts/x.go",
			`package x; import "github.com/memjail/memjail/sandbox/landlock"`,
			"sandbox/probe/attempts imports sandbox/landlock"},
		{"attempts where none are made", "sandbox/verify/x.go",
			`package x; import "github.com/memjail/memjail/sandbox/probe/attempts"`,
			"sandbox/verify imports sandbox/probe/attempts"},
		{"a second table", "sandbox/x.go",
			`package x; import u "golang.org/x/sys/unix"; var _ = u.DEBUGFS_MAGIC`, "unix.DEBUGFS_MAGIC"},
		{"a number without a name", "sandbox/x.go", `package x; var configfs = 0x62656570`, "0x62656570"},
		{"the table itself", "sandbox/specialfs/x.go",
			`package x; import "golang.org/x/sys/unix"; var _ = unix.DEBUGFS_MAGIC`, ""},
		{"the table stands alone", "sandbox/specialfs/x.go",
			`package x; import "github.com/memjail/memjail/sandbox/landlock"`, "specialfs imports sandbox/landlock"},
		{"a second parser", "supervisor/x.go",
			"package x; import \"strings\"; func f(s string) { strings.Cut(s, ` - `) }", "mount table"},
		{"the parser", "sandbox/kernel/mountinfo/x.go",
			`package x; import "strings"; func f(s string) { strings.Cut(s, " - ") }`, ""},
		{"cgo", "sandbox/filter/x.go", `package x; import "C"`, "cgo"},
		{"cgo when generating", "sandbox/filter/generate/x.go", "//go:build libseccomp\n\npackage x\nimport \"C\"", ""},
		{"cgo by another tag", "sandbox/filter/x.go",
			"//go:build libseccomp || linux\n\npackage x\nimport \"C\"", "cgo"},
		{"no tag at all", "sandbox/filter/x.go", "//go:build linux && !amd64\n\npackage x\nimport \"C\"", "cgo"},
		{"sandbox to supervisor", "sandbox/x.go",
			`package x; import "github.com/memjail/memjail/supervisor/decide"`, "supervisor/decide"},
		{"the engine wires both", "sandbox/session/x.go",
			`package x; import ("github.com/memjail/memjail/supervisor"; "github.com/memjail/memjail/sandbox")
			var _ = supervisor.New; var _ sandbox.Plan`, ""},
		{"the engine knows no cobra", "sandbox/session/x.go", `package x; import "github.com/spf13/cobra"`,
			"belongs in cmd/memjail/cli"},
		{"the engine knows no commands", "sandbox/session/x.go",
			`package x; import "github.com/memjail/memjail/cmd/memjail/cli"`, "the engine imports cmd/memjail/cli"},
		{"the engine prints nothing", "sandbox/session/x.go", `package x; import "os"; var w = os.Stderr`, "os.Stderr"},
		{"a second engine", "cmd/memjail/cli/x.go",
			`package x; import "github.com/memjail/memjail/supervisor"; var _ = supervisor.New`, "supervisor.New"},
		{"a second confinement", "sandbox/jail/x.go",
			`package x; import f "github.com/memjail/memjail/sandbox/filter"; var _ = f.SupervisorProgram`,
			"filter.SupervisorProgram"},
		{"a second launcher", "cmd/memjail/cli/x.go",
			`package x; import "github.com/memjail/memjail/sandbox/kernel"; var _ = kernel.Launch`, "kernel.Launch"},
		{"the library sees events", "sandbox/jail/x.go",
			`package x; import "github.com/memjail/memjail/supervisor"; var _ supervisor.Event`, ""},
		{"and decides nothing", "sandbox/jail/x.go",
			`package x; import "github.com/memjail/memjail/supervisor/decide"`,
			"sandbox/jail imports supervisor/decide"},
		{"a part", "sandbox/descriptors/x.go", `package x; import "github.com/memjail/memjail/sandbox/facts"`, ""},
		{"a part that knows the plan", "sandbox/limits/x.go",
			`package x; import "github.com/memjail/memjail/sandbox"`, "sandbox/limits imports sandbox"},
		{"a part that knows too much", "sandbox/program/x.go",
			`package x; import "github.com/memjail/memjail/sandbox/landlock"`,
			"sandbox/program imports sandbox/landlock"},
		{"a second writer", "sandbox/x.go",
			`package x; import "github.com/memjail/memjail/sandbox/starter"; var _ = &starter.Plan{}`,
			"a plan of the starter"},
		{"the writer", "sandbox/prepare.go",
			`package x; import "github.com/memjail/memjail/sandbox/starter"; var _ = starter.Plan{}`, ""},
		{"a writer of one field", "sandbox/x.go", `package x; func f(p *Plan) { p.starter.Path = "" }`,
			"the starter's plan is changed"},
		{"supervisor to sandbox", "supervisor/x.go",
			`package x; import "github.com/memjail/memjail/sandbox/landlock"`, "sandbox/landlock"},
		{"supervisor to the floor", "supervisor/x.go",
			`package x; import "github.com/memjail/memjail/sandbox/kernel"`, ""},
		{"policy", "policy/x.go", `package x; import "github.com/memjail/memjail/sandbox"`, "policy imports"},
		{"policy file", "policy/file/x.go", `package x; import "github.com/memjail/memjail/sandbox"`,
			"policy/file imports"},
		{"loader", "sandbox/session/x.go",
			`package x; import "github.com/memjail/memjail/sandbox/capability/install"`, "capability/install"},
		{"ebpf", "sandbox/capability/x.go", `package x; import "github.com/cilium/ebpf"`,
			"belongs in sandbox/capability/install"},
		{"cobra", "sandbox/x.go", `package x; import "github.com/spf13/cobra"`, "belongs in cmd/memjail/cli"},
		{"exit", "cmd/memjail/cli/x.go", `package x; import "os"; func f() { os.Exit(1) }`, "os.Exit"},
		{"log.Fatal", "sandbox/x.go", `package x; import "log"; func f() { log.Fatalf("") }`, "log.Fatalf"},
		{"init", "sandbox/x.go", `package x; func init() {}`, "init"},
		{"print", "sandbox/x.go", `package x; import "fmt"; func f() { fmt.Println() }`, "fmt.Println"},
		{"stderr", "supervisor/x.go", `package x; import "os"; var w = os.Stderr`, "os.Stderr"},
		{"cmd may print", "cmd/memjail/cli/x.go", `package x; import "os"; var w = os.Stderr`, ""},
		{"slow", "policy/x.go", `package x; import "regexp"`, "regexp"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f, err := parseFile(token.NewFileSet(), test.path, []byte(test.source))
			if err != nil {
				t.Fatal(err)
			}
			var found []string
			for _, rule := range archRules {
				for _, b := range rule.find(f) {
					found = append(found, b.what)
				}
			}
			got := strings.Join(found, "; ")
			if (test.want == "") != (got == "") || !strings.Contains(got, test.want) {
				t.Errorf("found %q, want it to say %q", got, test.want)
			}
		})
	}
}

// TestArchitectureAssembly: assembly can make any system call, so it belongs
// where the raw calls are; no rule about Go syntax would see it.
func TestArchitectureAssembly(t *testing.T) {
	top := filepath.Join("..", "..")
	err := walkTree(top, func(name string) {
		if ext := path.Ext(name); (ext == ".s" || ext == ".S" || ext == ".syso") && !inKernel(path.Dir(name)) {
			t.Errorf("%s: assembly outside sandbox/kernel", name)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// inKernel reports whether a package directory is the floor or below it.
func inKernel(dir string) bool { return below(dir, "sandbox/kernel") }

func below(dir, top string) bool { return dir == top || strings.HasPrefix(dir, top+"/") }

func findRaw(f *archFile) []archBreach {
	// A test plays the attacker now and then, and an attacker has no floor.
	if inKernel(f.dir) || f.test {
		return nil
	}
	var found []archBreach
	for name, imported := range f.imports {
		switch {
		case imported == "unsafe":
			found = append(found, archBreach{f.syntax.Package, "imports unsafe"})
		case imported == "kernel.org/pub/linux/libs/security/libcap/psx":
			found = append(found, archBreach{f.syntax.Package, "imports psx, which is raw calls on all threads"})
		case name == "." && (imported == "syscall" || imported == "golang.org/x/sys/unix"):
			found = append(found, archBreach{f.syntax.Package, "dot import of " + imported})
		}
	}
	raw := func(name string) bool { return strings.Contains(name, "Syscall") }
	for _, pkg := range []string{"syscall", "golang.org/x/sys/unix"} {
		found = append(found, f.uses(pkg, raw)...)
	}
	for _, group := range f.syntax.Comments {
		for _, c := range group.List {
			if strings.HasPrefix(c.Text, "//go:linkname") {
				found = append(found, archBreach{c.Pos(), "go:linkname"})
			}
		}
	}
	return found
}

func findCgo(f *archFile) []archBreach {
	if f.tagged {
		return nil
	}
	var found []archBreach
	for _, spec := range f.syntax.Imports {
		switch importPath(spec) {
		case "C":
			found = append(found, archBreach{spec.Pos(), "cgo without the tag libseccomp"})
		case "github.com/seccomp/libseccomp-golang":
			found = append(found, archBreach{spec.Pos(), "libseccomp-golang, which is cgo, without the tag libseccomp"})
		}
	}
	return found
}

func findSides(f *archFile) []archBreach {
	var other string
	switch {
	case f.dir == "sandbox/session":
		return nil // the engine: it wires both
	case f.dir == "sandbox/jail", f.dir == "sandbox/learn":
		// The library is an API over the engine; of the supervisor it knows events. What
		// is learned is learned from a supervisor's observations.
		return f.ours(func(dir string) (string, bool) {
			return f.dir + " imports " + dir, below(dir, "supervisor") && dir != "supervisor" || dir == "sandbox/filter"
		})
	case below(f.dir, "sandbox"):
		other = "supervisor"
	case below(f.dir, "supervisor"):
		other = "sandbox"
	default:
		return nil
	}
	return f.ours(func(dir string) (string, bool) {
		return f.dir + " imports " + dir, below(dir, other) && !inKernel(dir)
	})
}

// findEngine finds what only the engine does, done elsewhere: supervisors that are made,
// a process that is confined as one, a plan that is started; and what the engine must
// not know.
func findEngine(f *archFile) []archBreach {
	if f.test {
		return nil
	}
	if f.dir == "sandbox/session" {
		return f.ours(func(dir string) (string, bool) {
			return "the engine imports " + dir, below(dir, "cmd") || dir == "sandbox/jail"
		})
	}
	is := func(names ...string) func(string) bool {
		return func(name string) bool { return slices.Contains(names, name) }
	}
	found := f.uses(archModule+"/supervisor", is("New", "Options"))
	found = append(found, f.uses(archModule+"/sandbox/filter", is("SupervisorProgram"))...)
	if below(f.dir, "cmd") { // sandbox starts children, but with a plan they are the engine's
		found = append(found, f.uses(archModule+"/sandbox/kernel",
			is("Launch", "Become", "LoadFilter", "CatchSignals"))...)
	}
	return found
}

// findParts finds parts of a start that know more than they are given, and plans of the
// starter that are made or changed elsewhere than in the one place.
func findParts(f *archFile) []archBreach {
	if f.test || f.path == "sandbox/prepare.go" {
		return nil
	}
	known := map[string][]string{ // besides the floor and package policy
		"sandbox/program": {"sandbox/closure"},
		"sandbox/limits":  {"sandbox/starter"},
		"sandbox/facts": {"sandbox/closure", "sandbox/filter", "sandbox/landlock", "sandbox/pin",
			"sandbox/program", "sandbox/specialfs"},
		"sandbox/descriptors": {"sandbox/facts", "sandbox/landlock", "sandbox/specialfs"},
	}
	var found []archBreach
	if allowed, part := known[f.dir]; part {
		found = f.ours(func(dir string) (string, bool) {
			return f.dir + " imports " + dir, !below(dir, "policy") && !inKernel(dir) && !slices.Contains(allowed, dir)
		})
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CompositeLit:
			sel, ok := n.Type.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Plan" {
				break
			}
			if id, ok := sel.X.(*ast.Ident); ok && f.imports[id.Name] == archModule+"/sandbox/starter" {
				found = append(found, archBreach{n.Pos(), "a plan of the starter"})
			}
		case *ast.AssignStmt:
			for _, to := range n.Lhs {
				if field, ok := to.(*ast.SelectorExpr); ok && f.dir == "sandbox" {
					if of, ok := field.X.(*ast.SelectorExpr); ok && of.Sel.Name == "starter" {
						found = append(found, archBreach{n.Pos(), "the starter's plan is changed"})
					}
				}
			}
		}
		return true
	})
	return found
}

func findPolicy(f *archFile) []archBreach {
	switch f.dir {
	case "policy":
		return f.ours(func(dir string) (string, bool) {
			return "policy imports " + dir, dir != "policy" && dir != "policy/abspath"
		})
	case "policy/file":
		return f.ours(func(dir string) (string, bool) {
			return "policy/file imports " + dir, !slices.Contains([]string{"policy", "policy/file", "profiles"}, dir)
		})
	}
	return nil
}

func findLibraries(f *archFile) []archBreach {
	homes := map[string][]string{ // none: only tests may have it
		"github.com/spf13/cobra":               {"cmd/memjail/cli"},
		"github.com/spf13/pflag":               {"cmd/memjail/cli"},
		"github.com/pelletier/go-toml/v2":      {"policy/file", "cmd/memjail/oci"},
		"github.com/landlock-lsm/go-landlock":  nil, // it brings cgo in, by psx; see sandbox/kernel/landlockabi
		"github.com/seccomp/libseccomp-golang": {"sandbox/filter"},
		"github.com/cilium/ebpf":               {"sandbox/capability/install"},
		"github.com/creack/pty":                nil,
		"github.com/rogpeppe/go-internal":      nil,
	}
	var found []archBreach
	for _, spec := range f.syntax.Imports {
		for library, dirs := range homes {
			home := func(dir string) bool { return below(f.dir, dir) }
			if f.test || !below(importPath(spec), library) || slices.ContainsFunc(dirs, home) {
				continue
			}
			where := "is for tests"
			if len(dirs) > 0 {
				where = "belongs in " + strings.Join(dirs, ", ")
			}
			found = append(found, archBreach{spec.Pos(), importPath(spec) + " " + where})
		}
	}
	return found
}

func findLoader(f *archFile) []archBreach {
	const loader = "sandbox/capability/install"
	if below(f.dir, loader) || f.dir == "cmd/memjail/cli" {
		return nil
	}
	return f.ours(func(dir string) (string, bool) { return f.dir + " imports " + dir, below(dir, loader) })
}

// findReports finds formats of reports, and ways to make texts harmless, that are written
// twice; and what the one package for them must not know.
func findReports(f *archFile) []archBreach {
	if f.test {
		return nil
	}
	if f.dir == "sandbox/report" {
		return f.ours(func(dir string) (string, bool) { return "reports import " + dir, dir != f.dir })
	}
	var found []archBreach
	for _, spec := range f.syntax.Imports {
		if importPath(spec) == "encoding/xml" {
			found = append(found, archBreach{spec.Pos(), "encoding/xml"})
		}
	}
	for _, d := range f.syntax.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && strings.EqualFold(fn.Name.Name, "printable") {
			found = append(found, archBreach{fn.Pos(), "a printable of its own"})
		}
	}
	return found
}

// findSuite finds an engine of the attack suite that knows an attempt, or what of memjail
// an attempt is held by; and attempts that are used anywhere but by the commands.
func findSuite(f *archFile) []archBreach {
	const engine, attempts = "sandbox/probe", "sandbox/probe/attempts"
	if f.test {
		return nil
	}
	return f.ours(func(dir string) (string, bool) {
		allowed := dir != attempts || f.dir == "cmd/memjail/cli"
		if f.dir == engine || f.dir == attempts {
			allowed = below(dir, "policy") || inKernel(dir) ||
				f.dir == engine && (dir == "sandbox/report" || dir == "sandbox/capability") ||
				f.dir == attempts && dir == engine
		}
		return f.dir + " imports " + dir, !allowed
	})
}

// findTables finds special file systems named by number outside their table, and lines of
// mount tables (whose halves " - " separates) that are taken apart outside their parser.
func findTables(f *archFile) []archBreach {
	const table, parser = "sandbox/specialfs", "sandbox/kernel/mountinfo"
	if f.test {
		return nil
	}
	var found []archBreach
	if f.dir == table {
		return f.ours(func(dir string) (string, bool) {
			return "specialfs imports " + dir, dir != "policy/abspath"
		})
	}
	found = append(found, f.uses("golang.org/x/sys/unix", func(name string) bool {
		return slices.Contains([]string{"TRACEFS_MAGIC", "DEBUGFS_MAGIC", "SECURITYFS_MAGIC", "BINFMTFS_MAGIC"}, name)
	})...)
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		lit, ok := n.(*ast.BasicLit)
		if !ok {
			return true
		}
		text, err := strconv.Unquote(lit.Value)
		switch {
		case lit.Kind == token.INT && strings.EqualFold(lit.Value, "0x62656570"):
			found = append(found, archBreach{lit.Pos(), lit.Value + ", which is configfs"})
		case lit.Kind == token.STRING && err == nil && text == " - " && f.dir != parser:
			found = append(found, archBreach{lit.Pos(), "a line of a mount table is taken apart"})
		}
		return true
	})
	return found
}

func findExit(f *archFile) []archBreach {
	if f.test || f.tagged || f.path == "cmd/memjail/main.go" {
		return nil
	}
	exit := func(name string) bool { return name == "Exit" }
	fatal := func(name string) bool { return strings.HasPrefix(name, "Fatal") || strings.HasPrefix(name, "Panic") }
	return slices.Concat(f.uses("os", exit), f.uses("syscall", exit), f.uses("golang.org/x/sys/unix", exit),
		f.uses("log", fatal))
}

func findInit(f *archFile) []archBreach {
	var found []archBreach
	for _, d := range f.syntax.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Recv != nil || fn.Name.Name != "init" || f.test {
			continue
		}
		if archInits[f.path] == "" {
			found = append(found, archBreach{fn.Pos(), "an init function that is not on the list"})
		} else if fn.Doc.Text() == "" {
			found = append(found, archBreach{fn.Pos(), "an init function that does not say why"})
		}
	}
	return found
}

func findPrint(f *archFile) []archBreach {
	if f.test || f.tagged || below(f.dir, "cmd") {
		return nil
	}
	stream := func(name string) bool { return name == "Stdout" || name == "Stderr" }
	print := func(name string) bool { return strings.HasPrefix(name, "Print") }
	return slices.Concat(f.uses("os", stream), f.uses("fmt", print), f.uses("log", print))
}

func findSlow(f *archFile) []archBreach {
	slow := []string{"net/http", "os/user", "regexp", "text/template", "html/template", "encoding/gob", "plugin"}
	var found []archBreach
	forTests := f.test || strings.HasSuffix(path.Dir(f.path), "test") // a package that only tests import
	for _, spec := range f.syntax.Imports {
		if !forTests && !f.tagged && slices.Contains(slow, importPath(spec)) {
			found = append(found, archBreach{spec.Pos(), "imports " + importPath(spec)})
		}
	}
	return found
}

// uses finds the names of an imported package that the file mentions and that
// match, under whatever name the file gave the package.
func (f *archFile) uses(pkg string, match func(name string) bool) []archBreach {
	var found []archBreach
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		id, ok := sel.X.(*ast.Ident)
		if ok && f.imports[id.Name] == pkg && match(sel.Sel.Name) {
			found = append(found, archBreach{sel.Pos(), path.Base(pkg) + "." + sel.Sel.Name})
		}
		return true
	})
	return found
}

// ours asks about each import of a package of this module, by its directory.
func (f *archFile) ours(bad func(dir string) (what string, is bool)) []archBreach {
	var found []archBreach
	for _, spec := range f.syntax.Imports {
		dir, ok := strings.CutPrefix(importPath(spec), archModule+"/")
		if !ok || f.test {
			continue
		}
		if what, is := bad(dir); is {
			found = append(found, archBreach{spec.Pos(), what})
		}
	}
	return found
}

func importPath(spec *ast.ImportSpec) string {
	p, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		return spec.Path.Value
	}
	return p
}

func parseFile(fset *token.FileSet, name string, source []byte) (*archFile, error) {
	syntax, err := parser.ParseFile(fset, name, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("parsing %q: %w", name, err)
	}
	f := &archFile{
		path: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"),
		tagged: needsTag(syntax, "libseccomp"), imports: map[string]string{}, source: string(source),
		syntax: syntax, fset: fset,
	}
	for _, spec := range syntax.Imports {
		local := path.Base(importPath(spec))
		if spec.Name != nil {
			local = spec.Name.Name
		}
		f.imports[local] = importPath(spec)
	}
	return f, nil
}

// needsTag reports whether a file is built only when the tag is given.
func needsTag(syntax *ast.File, tag string) bool {
	for _, group := range syntax.Comments {
		if group.Pos() > syntax.Package {
			return false
		}
		for _, c := range group.List {
			if expr, err := constraint.Parse(c.Text); err == nil {
				return implies(expr, tag)
			}
		}
	}
	return false
}

func implies(expr constraint.Expr, tag string) bool {
	switch e := expr.(type) {
	case *constraint.TagExpr:
		return e.Tag == tag
	case *constraint.AndExpr:
		return implies(e.X, tag) || implies(e.Y, tag)
	case *constraint.OrExpr:
		return implies(e.X, tag) && implies(e.Y, tag)
	default:
		return false
	}
}

func parseTree(t *testing.T, top string) []*archFile {
	t.Helper()
	fset := token.NewFileSet()
	var files []*archFile
	err := walkTree(top, func(name string) {
		if path.Ext(name) != ".go" {
			return
		}
		source, err := os.ReadFile(filepath.Join(top, filepath.FromSlash(name)))
		if err != nil {
			t.Error(err)
			return
		}
		f, err := parseFile(fset, name, source)
		if err != nil {
			t.Error(err)
			return
		}
		files = append(files, f)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("found %d Go files: looked in the wrong place", len(files))
	}
	return files
}

// walkTree names every file of the module that the go tool could build.
func walkTree(top string, each func(name string)) error {
	return filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, p)
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() && p != top && (base == "testdata" || base == "bin" || strings.HasPrefix(base, ".")) {
			return filepath.SkipDir
		}
		if !d.IsDir() {
			each(filepath.ToSlash(rel))
		}
		return nil
	})
}
