package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/memjail/memjail/sandbox/probe"
	"github.com/spf13/cobra"
)

// probeOptions are the flags of probe.
type probeOptions struct {
	policyFlags
	only    []string
	list    bool
	explain string
	via     string
	format  string
	output  string
	quiet   bool
}

func newProbe(io streams) *cobra.Command {
	o := &probeOptions{}
	cmd := &cobra.Command{
		Use:   "probe [flags]",
		Short: "Attack the sandbox in every known way and report what was stopped",
		Long: `probe makes every known attempt on a process's memory inside the sandbox, on
victims of its own, and says of each whether it was stopped and by which layer.
Every attempt is first made without the sandbox: where that does not succeed,
nothing is proven. Exit status: 0 all held, 1 a hole, 2 wrong usage or policy,
3 something could not be proven that was asked for by name.`,
		Example: `  memjail probe
  memjail probe --only 'proc-mem/...' --allow ptrace=children
  memjail probe --via 'bwrap --dev-bind / /' --format html --output report.html`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return runProbe(o, io) },
	}
	f := cmd.Flags()
	o.policyFlags.declare(f)
	f.StringArrayVar(&o.only, "only", nil, "only attempts whose names match `GLOB`; a/... matches all below a")
	f.BoolVar(&o.list, "list", false, "list the attempts and end")
	f.StringVar(&o.explain, "explain", "", "explain the attempt `NAME` and end")
	f.StringVar(&o.via, "via", "", "attack inside `LAUNCHER`, a command line, instead of memjail")
	f.StringVar(&o.format, "format", "text", "`text`, json, junit, tap, sarif or html")
	f.StringVarP(&o.output, "output", "o", "", "write the report to `FILE`, not to standard output")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "no progress, and in text only what did not hold")
	return cmd
}

func runProbe(o *probeOptions, io streams) error {
	attempts, err := probe.Select(probe.Catalogue(), o.only)
	if err != nil {
		return usagef("--only: %v", err)
	}
	if len(attempts) == 0 {
		return usagef("--only %v: no attempt has such a name; see \"memjail probe --list\"", o.only)
	}
	dir, err := os.MkdirTemp("", "memjail-probe-log-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	run := probe.Options{Attempts: attempts, Stderr: io.err}
	if err := o.launcher(&run, filepath.Join(dir, "log")); err != nil {
		return err
	}
	report, err := probe.Run(context.Background(), run)
	if err != nil {
		return err
	}
	for _, r := range report.Results {
		if r.Verdict != probe.Held || !o.quiet {
			fmt.Fprintf(io.out, "%-14s %-9s %-45s %s\n", r.Verdict, r.Layer, r.Name, r.Detail)
		}
	}
	fmt.Fprintf(io.out, "%d held, %d open, %d open by policy, %d not proven, %.1f s\n", report.Count(probe.Held), report.Count(probe.Through),
		report.Count(probe.OpenByPolicy), report.Count(probe.NotProven), report.Seconds)
	return nil
}

// launcher fills in what is attacked: memjail itself under the policy of the
// flags, or another launcher.
func (o *probeOptions) launcher(run *probe.Options, log string) error {
	if o.via != "" {
		words, err := splitWords(o.via)
		run.Launcher = words
		return err
	}
	pol, err := o.policyFlags.load()
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	run.Policy = &pol
	run.Log = log
	run.Launcher = append([]string{exe, "run", "-q", "--log", log, "--log-format", "json"}, append(o.policyFlags.args(), "--")...)
	return nil
}
