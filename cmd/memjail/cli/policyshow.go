package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/abspath"
	"github.com/memjail/memjail/policy/file"
	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/filter"
	"github.com/memjail/memjail/sandbox/landlock"
	"github.com/memjail/memjail/sandbox/report"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// showOptions are the flags of policy show.
type showOptions struct {
	policyFlags
	toml, json, rules, filter, bpf bool
}

func newPolicyShow(io streams) *cobra.Command {
	o := &showOptions{}
	cmd := &cobra.Command{
		Use:   "show [NAME|FILE] [flags]",
		Short: "Show a resolved policy: settings with their origins, rules, filter",
		Long: `show prints the settings of a policy, each with the place where it was set, and how
the policy would be enforced here. Rules and filter are those for this system and
this user.`,
		Example: `  memjail policy show workspace
  memjail policy show ./my.toml --rw /tmp --toml > merged.toml
  memjail policy show --filter`,
		Args: wantArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args, io) },
	}
	f := cmd.Flags()
	o.policyFlags.declare(f)
	f.BoolVar(&o.toml, "toml", false, "print a policy file that extends no other")
	f.BoolVar(&o.json, "json", false, "print all of it as JSON")
	f.BoolVar(&o.rules, "rules", false, "print the Landlock rules after carving")
	f.BoolVar(&o.filter, "filter", false, "print the verdicts of the seccomp filter, for each ABI")
	f.BoolVar(&o.bpf, "bpf", false, "print the seccomp filter as instructions")
	return cmd
}

func (o *showOptions) run(cmd *cobra.Command, args []string, io streams) error {
	forms := 0
	for _, asked := range []bool{o.toml, o.json, o.rules, o.filter, o.bpf} {
		if asked {
			forms++
		}
	}
	if forms > 1 {
		return misusedf("--toml, --json, --rules, --filter and --bpf cannot be used together")
	}
	pol, err := o.policyFlags.named(cmd, args)
	if err != nil {
		return err
	}
	if o.toml {
		_, err := io.out.Write(file.Render(pol))
		return err
	}
	plan, err := prepare(pol)
	if err != nil {
		return err
	}
	defer plan.Close()
	shown, err := newShown(pol, plan)
	if err != nil {
		return err
	}
	switch {
	case o.json:
		return printJSON(io, shown)
	case o.rules:
		return printLines(io, shown.ruleLines())
	case o.filter:
		return printLines(io, shown.filterLines())
	case o.bpf:
		return printLines(io, shown.programLines())
	default:
		return printLines(io, shown.settingLines())
	}
}

func printLines(io streams, lines []string) error {
	for i, line := range lines {
		lines[i] = report.Printable(line)
	}
	_, err := fmt.Fprintln(io.out, strings.Join(lines, "\n"))
	return err
}

// shownPolicy is everything that show prints, in the structure of its JSON.
type shownPolicy struct {
	Policy   string         `json:"policy"`
	Settings []shownSetting `json:"settings"`
	Enforced string         `json:"enforced"` // how memory is closed here
	ABI      int            `json:"landlock_abi"`
	Rules    []shownRule    `json:"rules"`
	Connect  *[]uint16      `json:"connect_tcp,omitempty"` // absent: not restricted
	Bind     *[]uint16      `json:"bind_tcp,omitempty"`
	SendUDP  *[]uint16      `json:"connect_udp,omitempty"`
	BindUDP  *[]uint16      `json:"bind_udp,omitempty"`
	Programs string         `json:"programs"` // which can be changed
	Carved   []shownCarved  `json:"carved"`
	Costs    []string       `json:"costs"`
	Filter   []shownCall    `json:"filter"`
	Program  []string       `json:"program"`
	Denies   []string       `json:"denies,omitempty"`
	Warnings []string       `json:"warnings,omitempty"`
	Dropped  []string       `json:"not_enforced,omitempty"`
}

type shownSetting struct {
	Key      string          `json:"key"`
	Value    any             `json:"value"`
	Origin   policy.Origin   `json:"origin"`
	Elements []policy.Origin `json:"elements,omitempty"`
}

type shownRule struct {
	Path   string `json:"path"`
	Rights string `json:"rights"`
	Why    string `json:"why"`
}

type shownCarved struct {
	Path  string `json:"path"`
	Cause string `json:"cause"`
}

// shownCall is a verdict of the filter, found by running the program.
type shownCall struct {
	ABI     string `json:"abi"`
	Call    string `json:"call"`
	Uses    string `json:"uses,omitempty"` // "" is every use without another line
	Verdict string `json:"verdict"`
	Reason  string `json:"reason,omitempty"`
	Key     string `json:"key,omitempty"`
}

func newShown(pol policy.Policy, plan *sandbox.Plan) (*shownPolicy, error) {
	s := &shownPolicy{Policy: pol.Name, Enforced: shapeText(pol.Memory.Access, plan), Costs: costs(pol, plan),
		Programs: codeText(pol), Rules: []shownRule{},
		Carved: []shownCarved{}, Program: programLines(plan.Filter.String()), Warnings: plan.Warnings,
		Dropped: plan.Dropped}
	for _, program := range []filter.Program{plan.Filter, plan.DenyFilter} {
		table, err := program.Table()
		if program == nil {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, r := range table {
			s.Filter = append(s.Filter, shownCall{r.ABI, r.Call, r.Condition, r.Verdict.String(), r.Reason, r.Key})
		}
	}
	for _, set := range file.Settings(pol) {
		s.Settings = append(s.Settings, shownSetting(set))
	}
	if plan.DenyFilter != nil {
		s.Denies = programLines(plan.DenyFilter.String())
	}
	if plan.Rules == nil {
		return s, nil
	}
	s.ABI = plan.Rules.ABI.Version
	for _, r := range plan.Rules.Rules {
		s.Rules = append(s.Rules, shownRule{r.Path, r.Rights.String(), r.Why})
	}
	s.Connect = portsOf(plan.Rules, unix.LANDLOCK_ACCESS_NET_CONNECT_TCP)
	s.Bind = portsOf(plan.Rules, unix.LANDLOCK_ACCESS_NET_BIND_TCP)
	s.SendUDP = portsOf(plan.Rules, unix.LANDLOCK_ACCESS_NET_CONNECT_SEND_UDP)
	s.BindUDP = portsOf(plan.Rules, unix.LANDLOCK_ACCESS_NET_BIND_UDP)
	for _, c := range plan.Rules.Carved {
		s.Carved = append(s.Carved, shownCarved{c.Path, c.Cause})
	}
	return s, nil
}

// portsOf returns the ports on which a plan grants a right, a LANDLOCK_ACCESS_NET_* bit; nil
// if the right is not restricted.
func portsOf(plan *landlock.Plan, right uint64) *[]uint16 {
	if plan.Net&right == 0 {
		return nil
	}
	ports := []uint16{}
	for _, p := range plan.Ports {
		if p.Rights&right != 0 {
			ports = append(ports, p.Port)
		}
	}
	return &ports
}

// codeText describes which programs can be changed and which cannot.
func codeText(pol policy.Policy) string {
	if pol.Memory.Pin {
		return "CMD and its libraries run from copies, and nothing can be created, renamed or removed " +
			"directly in the directories on the way to them " +
			"(memory.pin; policy explain --program CMD shows where)"
	}
	if pol.Memory.CodeFiles == policy.CodeFilesAllow {
		return `not protected: memory.code-files = "allow"`
	}
	protected := landlock.ProgramDirectories()
	open := "anywhere else"
	if pol.Paths.Rules.Restricted() {
		trees := writableTrees(pol, protected)
		if len(trees) == 0 {
			return "no path rule lets programs be written"
		}
		const most = 4
		if extra := len(trees) - most; extra > 0 {
			trees = append(trees[:most], fmt.Sprintf("%d more", extra))
		}
		open = "below " + strings.Join(trees, ", ")
	}
	return strings.Join(protected, ", ") + " cannot be written (memory.code-files); programs and libraries " + open +
		" can, even while they run; --pin runs them from copies"
}

// writableTrees returns the paths that rules make writable, except the protected ones.
func writableTrees(pol policy.Policy, protected []string) []string {
	var trees []string
	for _, r := range pol.Paths.Rules.List() {
		inside := slices.ContainsFunc(protected, func(dir string) bool { return abspath.Within(dir, r.Path) })
		if r.Rights&policy.MayWrite != 0 && !inside {
			trees = append(trees, r.Path)
		}
	}
	return trees
}

// costs describes what each part of the sandbox adds to which calls. docs/performance.md
// has figures.
func costs(pol policy.Policy, plan *sandbox.Plan) []string {
	list := []string{"every call: a few dozen nanoseconds for the seccomp filter"}
	if plan.Rules != nil {
		list = append(list, "every open, exec, rename and the like: some hundred nanoseconds for "+
			"Landlock, more for files that are deep below their rule")
	}
	if plan.Mode == sandbox.ModeSupervised {
		what := "every open of a file"
		if plan.Capability || pol.Memory.Access == policy.AccessNoWrite {
			what = "every open of a file for writing"
		}
		list = append(list, what+
			": a round trip to the supervisor, some microseconds; opening a file of /proc that it "+
			"grants: about twice that")
	}
	if pol.Memory.Pin {
		list = append(list, "the start: some milliseconds for the copies of the program and its "+
			"libraries, and their size in memory")
	} else if plan.MountNamespace != nil {
		list = append(list, "the start: some hundred microseconds for a mount namespace")
	}
	return list
}

func programLines(text string) []string { return strings.Split(strings.TrimRight(text, "\n"), "\n") }

func (s *shownPolicy) settingLines() []string {
	lines := []string{"policy " + s.Policy}
	for _, set := range s.Settings {
		lines = append(lines, set.lines()...)
	}
	lines = append(lines, "", "memory: "+s.Enforced, "programs: "+s.Programs,
		fmt.Sprintf("landlock: ABI %d, %d rules, %d carved directories (--rules)", s.ABI, len(s.Rules), len(s.Carved)),
		fmt.Sprintf("seccomp: %d instructions (--filter, --bpf)", len(s.Program)+len(s.Denies)), "costs:")
	for _, c := range s.Costs {
		lines = append(lines, "  "+c)
	}
	for _, w := range s.Warnings {
		lines = append(lines, "warning: "+w)
	}
	for _, d := range s.Dropped {
		lines = append(lines, "cannot be enforced here: "+d)
	}
	return lines
}

// lines returns the setting with its origin; a list has a line for each element.
func (s *shownSetting) lines() []string {
	if list, ok := s.Value.([]string); ok && len(list) > 0 && len(s.Elements) == len(list) {
		lines := []string{s.Key}
		for i, element := range list {
			lines = append(lines, fmt.Sprintf("    %-40q # %s", element, s.Elements[i]))
		}
		return lines
	}
	text, err := json.Marshal(s.Value)
	if err != nil {
		text = fmt.Append(nil, s.Value)
	}
	return []string{fmt.Sprintf("%-24s %-19s # %s", s.Key, text, s.Origin)}
}

func (s *shownPolicy) ruleLines() []string {
	lines := []string{fmt.Sprintf("# Landlock ABI %d; each rule applies to everything below its path", s.ABI)}
	for _, r := range s.Rules {
		lines = append(lines, fmt.Sprintf("%s  %s  # %s", r.Path, r.Rights, r.Why))
	}
	for _, p := range []struct {
		what string
		list *[]uint16
	}{{"TCP connect", s.Connect}, {"TCP bind", s.Bind}, {"UDP connect", s.SendUDP}, {"UDP bind", s.BindUDP}} {
		switch {
		case p.list == nil:
		case len(*p.list) == 0:
			lines = append(lines, p.what+"  no port")
		default:
			lines = append(lines, p.what+"  "+strings.Trim(fmt.Sprint(*p.list), "[]"))
		}
	}
	for _, c := range s.Carved {
		lines = append(lines, fmt.Sprintf("# carved: %s, because of %s", c.Path, c.Cause))
	}
	return lines
}

func (s *shownPolicy) filterLines() []string {
	lines := []string{"# calls that are not simply allowed; \"notify\" passes them to the supervisor, " +
		"which refuses those with a reason here"}
	for _, c := range s.Filter {
		line := fmt.Sprintf("%-8s %-26s %-16s", c.ABI, c.Call, c.Verdict)
		if c.Uses != "" {
			line += " if " + c.Uses + ":"
		}
		if c.Reason != "" {
			line += " " + c.Reason
		}
		if c.Key != "" {
			line += " [" + c.Key + "]"
		}
		lines = append(lines, strings.TrimRight(line, " "))
	}
	return lines
}

func (s *shownPolicy) programLines() []string {
	lines := append([]string{"# the built-in filter"}, s.Program...)
	if s.Denies != nil {
		lines = append(append(lines, "# [syscalls] deny"), s.Denies...)
	}
	return lines
}
