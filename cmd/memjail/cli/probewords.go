package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/file"
	"github.com/memjail/memjail/sandbox/probe"
	"github.com/memjail/memjail/sandbox/probe/attempts"
	"golang.org/x/sys/unix"
)

// listAttempts prints a line for each attempt.
func listAttempts(w io.Writer, selected []probe.Attempt) error {
	width := 0
	for i := range selected {
		width = max(width, len(selected[i].Name()))
	}
	var b strings.Builder
	for i := range selected {
		a := &selected[i]
		fmt.Fprintf(&b, "%-6s  %-*s  %s\n", a.Promise, width, a.Name(), a.Explain)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// explainAttempt prints the catalogue's entry of one attempt.
func explainAttempt(w io.Writer, name string) error {
	for _, a := range attempts.All() {
		if a.Name() == name {
			_, err := io.WriteString(w, explanation(&a))
			return err
		}
	}
	return misusedf("--explain %s: there is no such attempt; see \"memjail probe --list\"", name)
}

func explanation(a *probe.Attempt) string {
	var b strings.Builder
	row := func(key, text string) {
		if text != "" {
			fmt.Fprintf(&b, "  %-11s%s\n", key, text)
		}
	}
	fmt.Fprintf(&b, "%s\n", a.Name())
	row("how", a.Explain)
	row("target", fmt.Sprintf("%s: %s", a.Target, a.Target.Meaning()))
	row("effect", fmt.Sprintf("%s: %s", a.Effect, a.Effect.Meaning()))
	row("interface", a.ABI.Meaning())
	row("reference", a.Reference)
	if a.Promise == probe.PromiseClosed {
		row("promise", "closed by memjail's default policy")
	} else {
		row("promise", "open on purpose under memjail's default policy")
		row("why", a.Why)
	}
	opens := openers(a)
	for i, text := range opens {
		key := ""
		if i == 0 {
			key = "opened by"
		}
		row(key, text)
	}
	if a.Promise == probe.PromiseClosed && len(opens) == 0 {
		row("opened by", "no setting of a policy")
	}
	if a.Needs != nil {
		row("here", a.Needs())
	}
	return b.String()
}

// openers are the single settings that open an attempt.
func openers(a *probe.Attempt) []string {
	if a.Permits == nil {
		return nil
	}
	var found []string
	for _, allow := range loosenings() {
		pol, err := file.Overrides{Allow: []string{allow}}.Apply(file.Default())
		if err == nil && a.Permits(pol) != "" {
			found = append(found, "--allow "+allow)
		}
	}
	return found
}

// loosenings are the single settings by which the default policy is loosened.
func loosenings() []string {
	all := []string{
		"memory.access=no-write", "memory.access=allow", "memory.ptrace=children", "memory.ptrace=allow",
		"memory.code-files=allow", "memory.anonymous-exec=allow", "memory.core-dumps=allow", "ipc.signals=all",
		"ipc.abstract-sockets=all",
		"ipc.namespaces=user", "ipc.terminals=allow",
	}
	for _, c := range policy.MemoryCapabilities() {
		all = append(all, "capabilities.keep="+c.Name)
	}
	return all
}

// progress is the line on a terminal that shows how far the run is.
type progress struct {
	w       io.Writer // nil: it is not shown
	columns int
}

func newProgress(w io.Writer, quiet bool) *progress {
	f, ok := w.(*os.File)
	if quiet || !ok || !terminal(f) {
		return &progress{}
	}
	columns := 80
	if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
		columns = int(size.Col)
	}
	return &progress{w: w, columns: columns}
}

// show writes the line over the one before. A line that wrapped could not be
// erased, so it is cut.
func (p *progress) show(index, total int, name string) {
	if p.w == nil {
		return
	}
	line := fmt.Sprintf("%*d/%d %s", len(fmt.Sprint(total)), index, total, name)
	fmt.Fprintf(p.w, "\r\x1b[K%s", line[:min(len(line), p.columns-1)])
}

func (p *progress) erase() {
	if p.w != nil {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
