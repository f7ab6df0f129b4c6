package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/memjail/memjail/cmd/memjail/systemd"
)

// checkedUnit is the result of check, in the shape of its JSON.
type checkedUnit struct {
	Unit     string            `json:"unit"`
	Files    []string          `json:"files"`
	DropIn   string            `json:"drop_in"`
	State    string            `json:"state"`
	Why      string            `json:"why,omitempty"` // it cannot be wrapped
	Findings []systemd.Finding `json:"findings"`
	Exposure *exposure         `json:"exposure,omitempty"` // absent: there is no systemd-analyze
}

// exposure is how "systemd-analyze security" rates a unit.
type exposure struct {
	Without string `json:"without"`
	With    string `json:"with"`
}

func (o *unitOptions) check(name string, io streams) error {
	u, q, err := o.load(name)
	if err != nil {
		return err
	}
	state, err := o.place.State(u)
	if err != nil {
		return misused(err)
	}
	c := checkedUnit{Unit: u.Name, Files: append([]string{u.File}, u.DropIns...), DropIn: o.place.DropIn(u.Name),
		State: state.String(), Findings: u.Check(q)}
	text, err := u.DropIn(q.Wrapping)
	if err != nil {
		c.Why = err.Error()
	}
	c.Exposure = rate(u, text)
	if o.asJSON {
		err = printJSON(io, c)
	} else {
		_, err = fmt.Fprint(io.out, c.text())
	}
	if err == nil && (c.broken() || state != systemd.Wrapped && state != systemd.Unwrapped) {
		err = statusError(exitFinding)
	}
	return err
}

func (c *checkedUnit) broken() bool {
	for _, f := range c.Findings {
		if f.Level == systemd.Breaks {
			return true
		}
	}
	return c.Why != ""
}

func (c *checkedUnit) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", c.Unit, strings.Join(c.Files, ", "))
	switch c.State {
	case "unwrapped":
		fmt.Fprintf(&b, "  not wrapped: \"memjail systemd drop-in %s\" writes %s\n", c.Unit, c.DropIn)
	case "wrapped":
		fmt.Fprintf(&b, "  wrapped by %s\n", c.DropIn)
	case "outdated":
		fmt.Fprintf(&b, "  OUT OF DATE: the unit's ExecStart= has changed since %s was written: write it again\n",
			c.DropIn)
	case "overridden":
		fmt.Fprintf(&b, "  NOT WRAPPED: a drop-in that is read after %s sets ExecStart= again\n", c.DropIn)
	case "foreign":
		fmt.Fprintf(&b, "  NOT WRAPPED: %s is there, and memjail did not write it\n", c.DropIn)
	}
	if c.Why != "" {
		fmt.Fprintf(&b, "  cannot be wrapped: %s\n", c.Why)
	}
	for _, f := range c.Findings {
		fmt.Fprintf(&b, "  %-6s  %s\n", f.Level, findingText(f))
	}
	b.WriteString("  No option of systemd closes the memory of processes in /proc: a service can open " +
		"/proc/self/mem under all of them.\n")
	if c.Exposure != nil {
		fmt.Fprintf(&b, "  exposure by systemd-analyze security, which does not know memjail: %s "+
			"without the drop-in, %s with it\n", c.Exposure.Without, c.Exposure.With)
	}
	return b.String()
}

func findingText(f systemd.Finding) string {
	text := f.Option
	const long = 60
	if len(text) > long {
		text = text[:long] + "..."
	}
	if f.Where != "" {
		text += " (" + f.Where + ")"
	}
	text += ": " + f.What
	if f.Remedy != "" {
		text += "; " + f.Remedy
	}
	return text
}

// rate has systemd-analyze rate the unit without and with the drop-in.
func rate(u *systemd.Unit, dropIn string) *exposure {
	without, with := rateOne(u, ""), rateOne(u, dropIn)
	if without == "" || with == "" {
		return nil
	}
	return &exposure{Without: without, With: with}
}

func rateOne(u *systemd.Unit, dropIn string) string {
	merged, err := u.Merged(dropIn)
	if err != nil {
		return ""
	}
	dir, err := os.MkdirTemp("", "memjail-")
	if err != nil {
		return ""
	}
	defer os.RemoveAll(dir)
	const name = "memjail-rated.service" // the unit's own name has its drop-ins already
	unit := filepath.Join(dir, name)
	if err := os.WriteFile(unit, []byte(merged), 0o600); err != nil {
		return ""
	}
	return exposureOf(name, "--offline=yes", unit)
}

// exposureOf is how "systemd-analyze security" rates what the arguments name; "": it does not say.
func exposureOf(name string, args ...string) string {
	out, err := exec.Command("systemd-analyze", append([]string{"--no-pager", "security"}, args...)...).Output()
	_, level, found := strings.Cut(string(out), "Overall exposure level for "+name+": ")
	if err != nil || !found {
		return ""
	}
	words := strings.Fields(level)
	return strings.Join(words[:min(2, len(words))], " ")
}
