package policy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documentedByPage are the structs whose fields are keys of a policy file.
var documentedByPage = []string{"Policy", "Memory", "Procfs", "Paths", "Network", "Syscalls", "Test", "IPC",
	"Environment",
	"Capabilities", "Report", "Limit"}

// undocumentedByPage are those of their fields that no file has.
var undocumentedByPage = []string{"Policy.Name", "Policy.Origins"}

// TestFieldsAreDocumented: every exported field has a comment, and a field that is a key of
// a policy file links to it.
func TestFieldsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	anchors := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^#+ (.*)$").FindAllStringSubmatch(string(page), -1) {
		name := regexp.MustCompile("[^a-z -]").ReplaceAllString(strings.ToLower(m[1]), "")
		anchors[strings.ReplaceAll(name, " ", "-")] = true
	}
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	fields, links := 0, 0
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			s, ok := n.(*ast.TypeSpec)
			if !ok || !s.Name.IsExported() {
				return true
			}
			fs, ls := checkFields(t, s, anchors)
			fields, links = fields+fs, links+ls
			return true
		})
	}
	if fields < 100 || links < 50 {
		t.Errorf("%d fields and %d links were found: looked for the wrong thing", fields, links)
	}
}

// checkFields checks the fields of a type, and returns how many it has and how many link to
// the page.
func checkFields(t *testing.T, s *ast.TypeSpec, anchors map[string]bool) (fields, links int) {
	t.Helper()
	structure, ok := s.Type.(*ast.StructType)
	if !ok {
		return 0, 0
	}
	link := regexp.MustCompile(`docs/policy\.md#([a-z-]+)`)
	comment := ""
	for _, field := range structure.Fields.List {
		if len(field.Names) == 0 || !field.Names[0].IsExported() {
			continue
		}
		fields++
		name := s.Name.Name + "." + field.Names[0].Name
		if field.Doc != nil || field.Comment != nil {
			comment = strings.ReplaceAll(field.Doc.Text()+field.Comment.Text(), "\n", " ")
		} else if !sharesComment(comment, field.Names[0].Name) {
			t.Errorf("%s has no comment", name)
		}
		m := link.FindStringSubmatch(comment)
		if m != nil && !anchors[m[1]] {
			t.Errorf("%s links to #%s, which is no heading", name, m[1])
		}
		if m != nil {
			links++
		} else if slices.Contains(documentedByPage, s.Name.Name) && !slices.Contains(undocumentedByPage, name) {
			t.Errorf("%s does not link to its key", name)
		}
	}
	return fields, links
}

// sharesComment reports whether the comment of the field before is about this one, too.
func sharesComment(comment, name string) bool {
	return regexp.MustCompile(`\b` + name + `\b`).MatchString(comment)
}
