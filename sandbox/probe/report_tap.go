package probe

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// writeTAP writes version 14 of the Test Anything Protocol
// (testanything.org/tap-version-14-specification.html). What is open by policy is
// "not ok" with a TODO, which is a failure that was expected and fails nothing.
func (r *Report) writeTAP(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "TAP version 14\n1..%d\n", len(r.Results))
	fmt.Fprintf(&b, "# %s\n", printable(r.Launcher))
	for i, result := range r.Results {
		status, directive := "ok", ""
		switch result.Verdict {
		case Through:
			status = "not ok"
		case OpenByPolicy:
			status, directive = "not ok", " # TODO open by policy: "+tapEscape(result.Why)
		case NotProven:
			directive = " # SKIP not proven: " + tapEscape(result.ended())
		}
		fmt.Fprintf(&b, "%s %d - %s%s\n", status, i+1, tapEscape(result.Name), directive)
		if result.Verdict == Through || result.Verdict == OpenByPolicy {
			if err := tapDiagnostics(&b, result); err != nil {
				return err
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// tapDiagnostics is the YAML block behind a failure; strings as JSON writes them
// are strings of YAML, too.
func tapDiagnostics(b *strings.Builder, result Result) error {
	b.WriteString("  ---\n")
	for _, field := range [][2]string{
		{"verdict", string(result.Verdict)}, {"message", result.Explain}, {"detail", result.Detail}, {"control", result.Control},
		{"reference", result.Reference}, {"promise", string(result.Promise)}, {"why", result.Why},
	} {
		if field[1] == "" {
			continue
		}
		text, err := json.Marshal(printable(field[1]))
		if err != nil {
			return fmt.Errorf("writing %s of %q: %w", field[0], result.Name, err)
		}
		fmt.Fprintf(b, "  %s: %s\n", field[0], text)
	}
	b.WriteString("  ...\n")
	return nil
}

// tapEscape keeps a text from being a directive.
func tapEscape(s string) string {
	return strings.NewReplacer(`\`, `\\`, "#", `\#`).Replace(printable(s))
}
