package attempts

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/memjail/memjail/sandbox/probe"
	"github.com/memjail/memjail/sandbox/report"
)

var update = flag.Bool("update", false, "write docs/probes.md again")

// TestDocsProbes compares docs/probes.md with the catalogue; -update writes the page
// again.
func TestDocsProbes(t *testing.T) {
	page := filepath.Join("..", "..", "..", "docs", "probes.md")
	want := probesPage(All())
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil || string(got) != want {
		t.Errorf("%s is not what the catalogue makes (%v): go test ./sandbox/probe/attempts -run "+
			"TestDocsProbes -update", page, err)
	}
}

const probesIntroduction = `# Attempts

What ` + "`memjail probe`" + ` attacks. This page is made from the catalogue in the program, by

` + "```sh\ngo test ./sandbox/probe/attempts -run TestDocsProbes -update\n```" + `

and is not edited. ` + "`memjail probe --explain NAME`" + ` tells more of each, such as which setting of a policy opens it.

A name is *route/spelling/target/effect*, with the ABI at the end where it is not the native one. Every attempt is made twice, on victims of its own: first without the sandbox, as the control. Where the control does not get through, nothing
is proven. Whether it got through is judged by its effect on a canary in the victim. *Closed*: memjail's default policy promises to stop it. *Open*: it does not, and says why.

`

// probesPage is the page.
func probesPage(all []probe.Attempt) string {
	var b strings.Builder
	b.WriteString(probesIntroduction)
	b.WriteString("| target | whose memory |\n|---|---|\n")
	for _, target := range probe.Targets() {
		fmt.Fprintf(&b, "| %s | %s |\n", target, target.Meaning())
	}
	b.WriteString("\n| effect | what comes about |\n|---|---|\n")
	for _, effect := range []probe.Effect{probe.Read, probe.Write, probe.WriteRO, probe.WriteCode, probe.Obtain,
		probe.Disturb} {
		fmt.Fprintf(&b, "| %s | %s |\n", effect, effect.Meaning())
	}
	routes, byRoute := []string{}, map[string][]*probe.Attempt{}
	for i := range all {
		a := &all[i]
		if byRoute[a.Route] == nil {
			routes = append(routes, a.Route)
		}
		byRoute[a.Route] = append(byRoute[a.Route], a)
	}
	fmt.Fprintf(&b, "\n%d attempts by %d routes:", len(all), len(routes))
	for i, route := range routes {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, " [%s](#%s) (%d)", route, route, len(byRoute[route]))
	}
	b.WriteString(".\n")
	for _, route := range routes {
		fmt.Fprintf(&b, "\n## %s\n\n| attempt | what it does | promise | reference |\n|---|---|---|---|\n", route)
		for _, a := range byRoute[route] {
			promise := string(a.Promise)
			if a.Why != "" {
				promise += ": " + a.Why
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", a.Name(), cell(a.Explain), cell(promise), cell(a.Reference))
		}
	}
	return b.String()
}

// cell is a text as Markdown has it in a table.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`, "_", `\_`).Replace(report.Printable(s))
}
