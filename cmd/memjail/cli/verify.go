package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/file"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/landlock"
	"github.com/memjail/memjail/sandbox/probe"
	"github.com/memjail/memjail/sandbox/probe/attempts"
	"github.com/memjail/memjail/sandbox/verify"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// verifyOptions are the flags of verify.
type verifyOptions struct {
	only     []string
	noProbe  bool
	noRun    bool
	quick    bool
	summary  string
	format   string
	output   string
	baseline string
	quiet    bool

	facts policy.LintFacts
	// probed has the reports of the attack suite by the policies that it was made under.
	probed map[string]*probe.Report
}

func newVerify(io streams) *cobra.Command {
	o := &verifyOptions{}
	cmd := &cobra.Command{
		Use:   "verify [flags] POLICY...",
		Short: "Prove that policies hold: lint, their own tests, the attack suite",
		Long: `verify checks policies in a pipeline: it looks for mistakes (as "policy lint"
does), runs each policy's own [[test]] entries inside a sandbox, and outside as
the control, and attacks the sandbox (as "probe" does). POLICY is the name of a
built-in policy, or a path that contains a slash or ends in .toml.

The program of a "run" test is executed outside too, with all your rights. Use
--no-run for a policy whose programs you would not execute.

A baseline file accepts findings until a date; docs/ci.md describes its format.

Exit status:
  0    everything held
  1    a finding, a failed test, or an attempt that is open
  2    wrong usage, or a wrong policy or baseline
  3    something could not be proven: a control failed, or the sandbox did not start
  128+n  terminated by signal n`,
		Example: `  memjail verify policy.toml
  memjail verify --no-probe --format sarif -o memjail.sarif policies/*.toml
  memjail verify --baseline accepted.toml workspace ./policy.toml`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return misusedf("verify needs at least one policy: a built-in one, or a file")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error { return o.run(args, io) },
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return misusedf("%s", flagMistake(cmd, err))
	})
	f := cmd.Flags()
	f.StringArrayVar(&o.only, "only", nil, "make only attempts whose names match `GLOB`; a/... matches all below a")
	f.BoolVar(&o.noProbe, "no-probe", false, "do not attack the sandbox; only lint and the policy's own tests")
	f.BoolVar(&o.quick, "quick", false, "make one attempt of each route, which takes some seconds, instead of all")
	f.BoolVar(&o.noRun, "no-run", false, "do not execute the programs of \"run\" tests; these tests are not proven")
	f.StringVar(&o.format, "format", string(verify.Text), "write the report as `FORMAT`: "+verifyFormats())
	f.StringVarP(&o.output, "output", "o", "", "write the report to `FILE` instead of standard output")
	f.StringVar(&o.summary, "summary", "",
		"append a summary in Markdown to `FILE`; with --format github, where GitHub expects it")
	f.StringVar(&o.baseline, "baseline", "", "`FILE` with findings that are accepted until a date")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "show no progress")
	return cmd
}

func verifyFormats() string {
	var names []string
	for _, f := range verify.Formats() {
		names = append(names, string(f))
	}
	return strings.Join(names, ", ")
}

func (o *verifyOptions) run(args []string, io streams) error {
	if !slices.Contains(verify.Formats(), verify.Format(o.format)) {
		return misusedf("--format %s: must be one of %s", o.format, verifyFormats())
	}
	all := attempts.All()
	if o.quick {
		all = probe.Quick(all)
	}
	selected, err := probe.Select(all, o.only)
	if err != nil || len(selected) == 0 || o.noProbe && len(o.only) > 0 {
		return misusedf("--only %s: must match attempts (see \"memjail probe --list\"; with --quick, those of its "+
			"choice), and cannot be used with --no-probe", strings.Join(o.only, ", "))
	}
	if o.noProbe {
		selected = nil
	}
	left := notAmong(attempts.All(), selected)
	baseline := &file.Baseline{}
	if o.baseline != "" {
		if baseline, err = file.ReadBaseline(o.baseline); err != nil {
			return misused(err)
		}
	}
	var policies []verified
	for _, name := range args {
		pol, err := file.LoadTested(name)
		if err != nil {
			return misused(err)
		}
		policies = append(policies, verified{&policyFlags{policies: []string{name}}, pol})
	}
	out, err := (&probeOptions{output: o.output}).open(io.out)
	if err != nil {
		return err
	}
	defer out.close()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	report := &verify.Report{Version: version(), Kernel: kernel.Release(), UID: os.Geteuid(), Started: time.Now(),
		Policies: args, Results: []verify.Result{}}
	o.facts, o.probed = allLintFacts(), map[string]*probe.Report{}
	for _, v := range policies {
		if err := o.verify(ctx, v, selected, report, io); err != nil {
			return err
		}
	}
	report.Accept(baseline, time.Now(), left)
	report.Seconds = time.Since(report.Started).Seconds()
	if err := errors.Join(report.Write(out.w, verify.Format(o.format)), out.close()); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	if err := o.summarize(report); err != nil {
		return err
	}
	switch {
	case report.Count(verify.Failed) > 0:
		return statusError(exitFinding)
	case report.Count(verify.Unproven) > 0:
		return statusError(exitUnproven)
	}
	return nil
}

// summarize appends the summary to the file that is to have it.
func (o *verifyOptions) summarize(report *verify.Report) error {
	name := o.summary
	if name == "" && verify.Format(o.format) == verify.GitHub {
		name = os.Getenv("GITHUB_STEP_SUMMARY")
	}
	if name == "" {
		return nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("writing the summary: %w", err)
	}
	if err := errors.Join(report.Write(f, verify.Markdown), f.Close()); err != nil {
		return fmt.Errorf("writing the summary: %w", err)
	}
	return nil
}

// allowedBy is the same for policies that allow the same: the attack suite need not run under
// more than one of them.
func allowedBy(p policy.Policy) string {
	p = p.Clone()
	p.Tests, p.Report = nil, policy.Report{}
	return string(file.Render(p))
}

// notAmong returns the names of the attempts that are in all and not in chosen.
func notAmong(all, chosen []probe.Attempt) []string {
	names := map[string]bool{}
	for _, attempt := range chosen {
		names[attempt.Name()] = true
	}
	var left []string
	for _, attempt := range all {
		if !names[attempt.Name()] {
			left = append(left, attempt.Name())
		}
	}
	return left
}

// verified is a policy with the flags that select it.
type verified struct {
	flags  *policyFlags
	policy policy.Policy
}

// verify makes all checks of one policy.
func (o *verifyOptions) verify(ctx context.Context, v verified, selected []probe.Attempt, report *verify.Report,
	io streams) error {
	name := v.flags.name()
	found, err := v.flags.lint(v.policy, o.facts)
	if err != nil {
		return misused(err)
	}
	report.Lint(name, found)
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	flags, err := v.flags.absolute()
	if err != nil {
		return err
	}
	inside := append([]string{exe, "run", "-q"}, flags.args()...)
	tries := slices.Clone(inside)
	if v.policy.Paths.Rules.Restricted() {
		tries = append(tries, "--rox", exe)
	}
	report.Tests(ctx, name, v.policy,
		verify.Runner{Program: exe, Inside: append(inside, "--status-fd", "3", "--"), Tries: append(tries, "--"),
			NoPrograms: o.noRun})
	if len(selected) > 0 {
		p := &probeOptions{policyFlags: *v.flags, only: o.only, quiet: o.quiet}
		key := allowedBy(v.policy)
		probed := o.probed[key]
		if probed == nil {
			if probed, err = p.investigate(ctx, selected, io); err != nil {
				return err
			}
			o.probed[key] = probed
		}
		report.Probe(name, probed, probed.Proven(o.only))
	}
	if ctx.Err() != nil {
		return runError(ctx, ctx.Err())
	}
	return nil
}

// lintFacts are the facts about this machine that lint needs, except those that take long
// to find.
func lintFacts() policy.LintFacts {
	return policy.LintFacts{Home: os.Getenv("HOME"), RuntimeDir: os.Getenv("XDG_RUNTIME_DIR")}
}

// allLintFacts are all of them: it reads every file of the program directories, which
// takes a good part of a second.
func allLintFacts() policy.LintFacts {
	facts := lintFacts()
	facts.Linked = landlock.LinkedPrograms(landlock.ProgramDirectories())
	return facts
}
