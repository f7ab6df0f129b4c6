package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/file"
	"github.com/memjail/memjail/profiles"
)

// docsPages are the pages that people read, from the top of the tree.
func docsPages(t *testing.T) map[string]string {
	t.Helper()
	top := filepath.Join("..", "..")
	names, err := filepath.Glob(filepath.Join(top, "docs", "*"))
	if err != nil {
		t.Fatal(err)
	}
	names = append(names, filepath.Join(top, "README.md"), filepath.Join(top, "CHANGELOG.md"))
	pages := map[string]string{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		rel, err := filepath.Rel(top, name)
		if err != nil {
			t.Fatal(err)
		}
		pages[filepath.ToSlash(rel)] = string(text)
	}
	return pages
}

// TestDocsLinks: a link to a file of the tree leads somewhere.
func TestDocsLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	found := 0
	for page, text := range docsPages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			found++
			target := filepath.Join("..", "..", filepath.Dir(page), m[1])
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: link to %q: %v", page, m[1], err)
			}
		}
	}
	if found == 0 {
		t.Error("found no links: looked for the wrong thing")
	}
}

// TestDocsFiles: a source file that the architecture page names is where it says, also
// where a list names the others of a directory by their names alone.
func TestDocsFiles(t *testing.T) {
	page := docsPages(t)["docs/architecture.md"]
	list := regexp.MustCompile(`[a-z]+(?:/[a-z]+)+\.go(?:, [a-z]+\.go)*`)
	found := 0
	for _, names := range list.FindAllString(page, -1) {
		dir := ""
		for name := range strings.SplitSeq(names, ", ") {
			found++
			if strings.Contains(name, "/") {
				dir = filepath.Dir(name)
			} else {
				name = filepath.Join(dir, name)
			}
			if _, err := os.Stat(filepath.Join("..", "..", name)); err != nil {
				t.Errorf("docs/architecture.md: %v", err)
			}
		}
	}
	if found < 20 {
		t.Errorf("found %d names: looked for the wrong thing", found)
	}
}

// layoutRow is a directory of the layout table, and the packages of the module that it says
// the directory's package imports.
var layoutRow = regexp.MustCompile("(?m)^\\| `([a-z/]+)` \\|.*\\| ([a-z/, ]*) ?\\|$")

// layoutErrors compares the layout table of a page with the imports of each package.
func layoutErrors(page string, imports map[string][]string) []string {
	_, table, _ := strings.Cut(page, "## Layout")
	table, _, _ = strings.Cut(table, "\n## ")
	listed := map[string]string{}
	var wrong []string
	for _, m := range layoutRow.FindAllStringSubmatch(table, -1) {
		if _, twice := listed[m[1]]; twice {
			wrong = append(wrong, "the table has "+m[1]+" twice")
		}
		listed[m[1]] = strings.TrimSpace(m[2])
	}
	for dir, want := range imports {
		got, ok := listed[dir]
		if slices.Sort(want); !ok {
			wrong = append(wrong, "the table lacks "+dir)
		} else if list := strings.Join(want, ", "); got != list {
			wrong = append(wrong, fmt.Sprintf("%s imports %q, and the table says %q", dir, list, got))
		}
	}
	for dir := range listed {
		if _, ok := imports[dir]; !ok && dir != "testdata" {
			wrong = append(wrong, "the table has "+dir+", which is not a package")
		}
	}
	return wrong
}

// TestDocsLayout: the layout table has each directory of packages, and no other, and says
// which packages of the module each imports.
func TestDocsLayout(t *testing.T) {
	imports := map[string][]string{}
	for _, f := range parseTree(t, filepath.Join("..", "..")) {
		if f.test || f.tagged || strings.Contains(f.dir, "/generate") {
			continue // a generator is described with what it belongs to
		}
		imports[f.dir] = append(imports[f.dir], []string{}...)
		for _, path := range f.imports {
			dir, ours := strings.CutPrefix(path, archModule+"/")
			if ours && !slices.Contains(imports[f.dir], dir) {
				imports[f.dir] = append(imports[f.dir], dir)
			}
		}
	}
	for _, wrong := range layoutErrors(docsPages(t)["docs/architecture.md"], imports) {
		t.Error(wrong)
	}
}

// TestDocsLayoutNotices is the control: each kind of difference is found.
func TestDocsLayoutNotices(t *testing.T) {
	const page = "## Layout\n\n| directory | what | imports |\n|---|---|---|\n| `a` | it | b, c |\n| `b` | it | |\n"
	for want, imports := range map[string]map[string][]string{
		"":                              {"a": {"c", "b"}, "b": nil},
		"the table lacks c":             {"a": {"b", "c"}, "b": nil, "c": nil},
		"b, which is not a package":     {"a": {"b", "c"}},
		`a imports "b", and the table`:  {"a": {"b"}, "b": nil},
		`b imports "a", and the table `: {"a": {"b", "c"}, "b": {"a"}},
	} {
		wrong := layoutErrors(page, imports)
		if want == "" && wrong != nil || want != "" && (len(wrong) != 1 || !strings.Contains(wrong[0], want)) {
			t.Errorf("%v: got %q, want %q", imports, wrong, want)
		}
	}
	if wrong := layoutErrors(page+"| `b` | again | |\n",
		map[string][]string{"a": {"b", "c"}, "b": nil}); len(wrong) != 1 {
		t.Errorf("a directory that is listed twice: got %q", wrong)
	}
}

// TestDocsPolicyKeys: the policy page names every key of the built-in profile,
// which is commented to have them all, and every value a key can have.
func TestDocsPolicyKeys(t *testing.T) {
	page := docsPages(t)["docs/policy.md"]
	profile, err := profiles.Read(file.DefaultName)
	if err != nil {
		t.Fatal(err)
	}
	key := regexp.MustCompile(`(?m)^(?:# )?([a-z-]+) +=`)
	keys := key.FindAllStringSubmatch(string(profile), -1)
	if len(keys) < 15 {
		t.Fatalf("found %d keys in the profile: looked for the wrong thing", len(keys))
	}
	for _, m := range keys {
		if !strings.Contains(page, "`"+m[1]+"`") {
			t.Errorf("docs/policy.md does not name the key %q", m[1])
		}
	}
	values := slices.Concat(
		policy.Names[policy.Access](), policy.Names[policy.Ptrace](), policy.Names[policy.CodeFiles](),
		policy.Names[policy.AnonymousExec](), policy.Names[policy.WritableCode](), policy.Names[policy.SharedFiles](),
		policy.Names[policy.CoreDumps](), policy.Names[policy.ProcfsWrite](), policy.Names[policy.ProcfsSystem](),
		policy.Names[policy.Scope](), policy.Names[policy.Namespaces](), policy.Names[policy.PrivateMounts](),
		policy.Names[policy.OnMount](), policy.Names[policy.OnSupervisorExit](), policy.Names[policy.Denials](),
	)
	for _, v := range values {
		if !strings.Contains(page, "`"+v+"`") {
			t.Errorf("docs/policy.md does not name the value %q", v)
		}
	}
	for _, c := range policy.MemoryCapabilities() {
		if !strings.Contains(page, "`"+c.Name+"`") {
			t.Errorf("docs/policy.md does not name %s", c.Name)
		}
	}
}

// TestDocsPolicyExample: the example of the policy page is a policy.
func TestDocsPolicyExample(t *testing.T) {
	_, rest, ok := strings.Cut(docsPages(t)["docs/policy.md"], "```toml\n")
	example, _, closed := strings.Cut(rest, "```")
	if !ok || !closed {
		t.Fatal("docs/policy.md has no example")
	}
	if _, err := file.Parse("docs/policy.md", []byte(example), file.Default()); err != nil {
		t.Error(err)
	}
}

// TestDocsReadmeIsShort: a README that is longer is not read to the end, and its
// limits stand there.
func TestDocsReadmeIsShort(t *testing.T) {
	readme := docsPages(t)["README.md"]
	if lines := strings.Count(readme, "\n"); lines >= 200 {
		t.Errorf("README.md has %d lines, want fewer than 200", lines)
	}
	first := strings.Join(strings.SplitN(readme, "\n", 30)[:29], "\n")
	for _, command := range []string{"make demo", "make test"} {
		if !strings.Contains(first, command) {
			t.Errorf("the first screen of README.md lacks %q", command)
		}
	}
}

// TestDocsFlags: the manual page and the program know the same flags.
func TestDocsFlags(t *testing.T) {
	memjail := staticBinary(t)
	known := map[string]bool{}
	// Flags stand at the beginning of a line; other commands' are in the examples.
	long := regexp.MustCompile(`(?m)^ +(?:-[a-z], )?--([a-z][a-z-]+)`)
	for _, command := range []string{"run", "exec", "learn", "pin", "probe", "doctor", "drop", "oci",
		"capability install", "capability status", "capability uninstall", "policy show", "policy explain",
		"policy init",
		"policy lint", "policy diff", "policy list", "policy schema", "policy export", "verify", "systemd drop-in",
		"systemd check", "systemd remove", "systemd learn", "systemd list", "systemd status",
		"systemd apply"} {
		help, err := exec.Command(memjail, append(strings.Fields(command), "--help")...).Output()
		if err != nil {
			t.Fatalf("memjail %s --help: %v", command, err)
		}
		for _, m := range long.FindAllStringSubmatch(string(help), -1) {
			known[m[1]] = true
		}
	}
	pages := docsPages(t)
	documented := map[string]bool{"help": true}
	for _, m := range regexp.MustCompile(`Fl -([a-z][a-z-]+)`).FindAllStringSubmatch(pages["docs/memjail.1"], -1) {
		documented[m[1]] = true
		if !known[m[1]] {
			t.Errorf("docs/memjail.1 names --%s, which the program does not know", m[1])
		}
	}
	for flag := range known {
		if !documented[flag] {
			t.Errorf("docs/memjail.1 does not name --%s", flag)
		}
	}
}

// TestDocsHeldBy: what holds a row of the threat model, or keeps a hole closed, is a route of
// the probe suite, or a test of this tree.
func TestDocsHeldBy(t *testing.T) {
	tests, pages := testSources(t), docsPages(t)
	routes := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)/").FindAllStringSubmatch(pages["docs/probes.md"], -1) {
		routes[m[1]] = true
	}
	name := regexp.MustCompile("`([^`]+)`")
	for _, page := range []struct {
		name           string
		columns, least int
	}{
		{"docs/threat-model.md", 3, 50},
		{"docs/holes.md", 4, 50},
	} {
		rows := 0
		for line := range strings.Lines(pages[page.name]) {
			cells := strings.Split(strings.TrimSpace(line), " | ")
			last := cells[len(cells)-1]
			if len(cells) != page.columns || last == "held by |" {
				continue
			}
			rows++
			held := name.FindAllStringSubmatch(last, -1)
			if len(held) == 0 && !strings.HasPrefix(last, "nothing: ") && !strings.HasPrefix(last, "the probes' ") {
				t.Errorf("%s: nothing holds the row %q", page.name, cells[0])
			}
			for _, m := range held {
				if !routes[m[1]] && !strings.Contains(tests, "\nfunc "+m[1]+"(") {
					t.Errorf("%s: the row %q names %s, which is neither a route nor a test", page.name, cells[0], m[1])
				}
			}
		}
		if rows < page.least {
			t.Errorf("%s: found %d rows: looked for the wrong thing", page.name, rows)
		}
	}
}

// testSources is the text of all tests of the tree.
func testSources(t *testing.T) string {
	t.Helper()
	var tests strings.Builder
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		tests.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests.String()
}
