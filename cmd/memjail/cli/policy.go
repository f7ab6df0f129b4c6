package cli

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/file"
	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/report"
	"github.com/memjail/memjail/sandbox/session"
	"github.com/memjail/memjail/supervisor/decide"
	"github.com/spf13/cobra"
)

func newPolicy(io streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Show, explain, check, compare and begin policies",
		Long: `policy shows what a policy means on this system and for this user. It starts
nothing. NAME|FILE is a policy by its name (see policy list), or a file (a path with a
slash or ending in .toml).

Exit status:
  0    done; lint: no errors and no warnings
  1    lint: an error or a warning was found
  2    wrong usage, or an invalid policy`,
		Args: unknownCommand,
		// A script that forgot the command must notice it.
		RunE: func(cmd *cobra.Command, _ []string) error {
			return errors.Join(cmd.Help(), statusError(exitMisused))
		},
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return misusedf("%s", flagMistake(cmd, err))
	})
	cmd.AddCommand(newPolicyShow(io), newPolicyExplain(io), newPolicyLint(io), newPolicyDiff(io),
		newPolicyList(io), newPolicyInit(io), newPolicySchema(io), newPolicyExport(io))
	return cmd
}

func printJSON(io streams, v any) error {
	if err := report.EncodeJSON(io.out, v); err != nil {
		return fmt.Errorf("writing JSON: %w", err)
	}
	return nil
}

// named returns the policy that an argument or --policy names, changed by the flags.
func (p *policyFlags) named(cmd *cobra.Command, args []string) (policy.Policy, error) {
	if len(args) > 0 {
		if cmd.Flags().Changed("policy") {
			return policy.Policy{}, misusedf("%s and --policy cannot be used together", args[0])
		}
		p.policies = args[:1]
	}
	pol, err := p.load()
	return pol, misused(err)
}

// prepare plans a start of this program that is never carried out, to show how the policy
// would be enforced here.
func prepare(pol policy.Policy) (*sandbox.Plan, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	if err := session.EnterNamespaces(pol, true); err != nil {
		return nil, err
	}
	// The program to pin is not known; it is not this one.
	pol.Memory.Pin = false
	plan, err := sandbox.Prepare(sandbox.Options{Policy: pol, Args: []string{exe}, Env: os.Environ(), BestEffort: true,
		Unstarted: true, Supervised: true, ProcfsGranted: decide.WorldReadable})
	return plan, misused(err)
}

// listedPolicy is a policy that can be used by name.
type listedPolicy struct {
	Name     string `json:"name"`
	Default  bool   `json:"default"`
	File     string `json:"file,omitempty"` // absent: built-in
	Text     string `json:"text"`
	Unusable string `json:"unusable,omitempty"` // why the name does not lead to this file
}

func newPolicyList(io streams) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the policies that can be used by name, and where they are",
		Long: `list shows the built-in policies, and the files NAME.toml in
~/.config/memjail/policies ($XDG_CONFIG_HOME) and /etc/memjail/policies. Names are
looked up in the first of these directories, then in the second. A file with the name
of a built-in policy is an error. So that nobody else decides what a name means, files
and directories have to belong to the user or to root, and others must not be able to
write them.`,
		Args: wantArgs(0, 0),
		RunE: func(*cobra.Command, []string) error { return listPolicies(io, asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func listPolicies(io streams, asJSON bool) error {
	var list []listedPolicy
	for _, p := range file.Current().Named() {
		list = append(list, listedPolicy{Name: p.Name, Default: p.Name == file.DefaultName && p.File == "",
			File: p.File, Text: p.Text, Unusable: p.Unusable})
	}
	if asJSON {
		return printJSON(io, list)
	}
	for _, p := range list {
		lines := []string{fmt.Sprintf("%-10s %s", p.Name, cmp.Or(p.Text, "(no description in its first line)"))}
		if p.File != "" {
			lines = append(lines, fmt.Sprintf("%-10s %s", "", p.File))
		}
		if p.Unusable != "" {
			lines[0] = fmt.Sprintf("%-10s cannot be used: %s", p.Name, p.Unusable)
		}
		for _, line := range lines {
			if _, err := fmt.Fprintln(io.out, report.Printable(line)); err != nil {
				return err
			}
		}
	}
	return nil
}

func newPolicySchema(io streams) *cobra.Command {
	cmd := &cobra.Command{
		Use: "schema", Short: "Print the JSON schema of policy files, for editors", Args: wantArgs(0, 0),
		RunE: func(*cobra.Command, []string) error {
			_, err := io.out.Write(file.Schema())
			return err
		},
	}
	cmd.Flags().Bool("json", true, "print JSON, which a schema always is")
	return cmd
}

func newPolicyLint(io streams) *cobra.Command {
	var asJSON bool
	flags := &policyFlags{}
	cmd := &cobra.Command{
		Use: "lint [NAME|FILE...] [flags]", Short: "Find probable mistakes in policies",
		Example: "  memjail policy lint ./my.toml\n  memjail policy lint -p workspace --rw /",
		RunE: func(cmd *cobra.Command, args []string) error {
			return lintPolicies(cmd, io, flags, args, asJSON)
		},
	}
	flags.declare(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// linted is a policy with its findings.
type linted struct {
	Policy   string           `json:"policy"`
	Findings []policy.Finding `json:"findings"`
}

func lintPolicies(cmd *cobra.Command, io streams, flags *policyFlags, args []string, asJSON bool) error {
	facts := allLintFacts()
	policies := [][]string{flags.policies}
	if len(args) > 0 {
		policies = nil
		for _, name := range args {
			policies = append(policies, []string{name})
		}
	}
	if len(args) > 0 && cmd.Flags().Changed("policy") {
		return misusedf("%s and --policy cannot be used together", args[0])
	}
	var all []linted
	bad := false
	for _, names := range policies {
		flags.policies = names
		pol, err := flags.load()
		if err != nil {
			return misused(err)
		}
		found, err := flags.lint(pol, facts)
		if err != nil {
			return misused(err)
		}
		bad = bad || slices.ContainsFunc(found, func(f policy.Finding) bool { return f.Level != policy.LevelNote })
		all = append(all, linted{Policy: flags.name(), Findings: slices.Concat([]policy.Finding{}, found)})
	}
	if err := printLint(io, all, asJSON); err != nil {
		return err
	}
	if bad {
		return statusError(exitFinding)
	}
	return nil
}

func printLint(io streams, all []linted, asJSON bool) error {
	if asJSON {
		return printJSON(io, all)
	}
	for _, l := range all {
		for _, f := range l.Findings {
			text := fmt.Sprintf("%s: %s: %s: %s; %s [%s]", f.Origin, f.Level, f.What, f.Why, f.Fix, f.ID)
			_, err := fmt.Fprintln(io.out, report.Printable(text))
			if err != nil {
				return err
			}
		}
		if len(l.Findings) == 0 {
			if _, err := fmt.Fprintf(io.out, "%s: nothing found\n", l.Policy); err != nil {
				return err
			}
		}
	}
	return nil
}
