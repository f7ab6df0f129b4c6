package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/probe"
	"github.com/memjail/memjail/sandbox/probe/attempts"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// probeOptions are the flags of probe.
type probeOptions struct {
	policyFlags
	only    []string
	list    bool
	explain string
	via     string
	foreign []string // the words of via
	format  string
	output  string
	quiet   bool
	denied  string // the directory of the attempts about denied paths
}

func newProbe(io streams) *cobra.Command {
	o := &probeOptions{}
	cmd := &cobra.Command{
		Use:   "probe [flags]",
		Short: "Attack the sandbox in every known way and report what was stopped",
		Long: `probe makes every known attack on a process's memory from inside the sandbox,
on victim processes that it starts itself, and reports for each whether it was
stopped and by which layer. Every attack is first made without the sandbox, as
the control: if that fails, the attempt is reported as not proven.

With --via it attacks from inside another launcher: a command to which the
command to run is appended. memjail promises nothing about other launchers, so
every attempt that gets through is reported as open.

Exit status:
  0    nothing got through, except what the policy opens on purpose
  1    an attempt is open
  2    wrong usage, or a wrong policy
  3    nothing could be proven, overall or for one of the --only patterns; or an
       attempt that gets through without the sandbox could not be made inside it;
       or the launcher could not be started
  128+n  terminated by signal n`,
		Example: `  memjail probe
  memjail probe --only 'proc-mem/...' --allow ptrace=children
  memjail probe --explain proc-mem/open/self/write
  memjail probe --via 'bwrap --dev-bind / /' --format html --output report.html`,
		Args: func(cmd *cobra.Command, args []string) error { return misused(cobra.NoArgs(cmd, args)) },
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Flags(), io) },
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return misused(errors.New(flagMistake(cmd, err)))
	})
	f := cmd.Flags()
	o.policyFlags.declare(f)
	f.StringArrayVar(&o.only, "only", nil, "make only attempts whose names match `GLOB`; a/... matches all below a")
	f.BoolVar(&o.list, "list", false, "list the attempts and exit")
	f.StringVar(&o.explain, "explain", "", "explain the attempt `NAME` and exit")
	f.StringVar(&o.via, "via", "", "attack inside `LAUNCHER`, a command line, instead of memjail")
	f.StringVar(&o.format, "format", string(probe.Text), "write the report as `FORMAT`: "+formatNames())
	f.StringVarP(&o.output, "output", "o", "", "write the report to `FILE` instead of standard output")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "show no progress; in text, only attempts that did not hold")
	return cmd
}

func formatNames() string {
	var names []string
	for _, f := range probe.Formats() {
		names = append(names, string(f))
	}
	return strings.Join(names, ", ")
}

// misused is a usage error, with the status that probe has for it.
func misused(err error) error {
	if err == nil {
		return nil
	}
	return &probeError{status: exitMisused, err: err}
}

func misusedf(format string, args ...any) error { return misused(fmt.Errorf(format, args...)) }

// probeError carries one of the statuses that probe has instead of 125.
type probeError struct {
	status int
	err    error
}

func (e *probeError) Error() string { return e.err.Error() }
func (e *probeError) Unwrap() error { return e.err }

// run carries out the command. set knows which flags were given.
func (o *probeOptions) run(set *pflag.FlagSet, io streams) error {
	if err := o.check(set); err != nil {
		return err
	}
	if o.explain != "" {
		return explainAttempt(io.out, o.explain)
	}
	selected, err := probe.Select(attempts.All(), o.only)
	if err != nil {
		return misusedf("--only: %w", err)
	}
	if len(selected) == 0 {
		return misusedf("--only %s: no attempt matches; see \"memjail probe --list\"", strings.Join(o.only, ", "))
	}
	if o.list {
		return listAttempts(io.out, selected)
	}
	return o.attack(selected, io)
}

// check refuses flags that contradict each other, before anything is started.
func (o *probeOptions) check(set *pflag.FlagSet) error {
	if !slices.Contains(probe.Formats(), probe.Format(o.format)) {
		return misusedf("--format %s: must be one of %s", o.format, formatNames())
	}
	if set.Changed("explain") && (o.explain == "" || o.list || len(o.only) > 0) {
		return misusedf("--explain takes one name and cannot be used with --list or --only")
	}
	if !set.Changed("via") {
		return nil
	}
	var err error
	if o.foreign, err = splitWords(o.via); err != nil {
		return misusedf("--via %w", err)
	}
	policies := pflag.NewFlagSet("", pflag.ContinueOnError)
	(&policyFlags{}).declare(policies)
	policies.VisitAll(func(f *pflag.Flag) {
		if set.Changed(f.Name) {
			err = misusedf("--%s and --via cannot be used together: other launchers have no memjail policy", f.Name)
		}
	})
	return err
}

// attack makes the attempts and writes the report.
func (o *probeOptions) attack(selected []probe.Attempt, io streams) error {
	// Before the run, so that it is not in vain if the report cannot be written.
	out, err := o.open(io.out)
	if err != nil {
		return err
	}
	defer out.close()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	report, err := o.investigate(ctx, selected, io)
	if err != nil {
		return err
	}
	style := probe.Style{Color: isTerminal(out.w), Quiet: o.quiet}
	if err := errors.Join(report.Write(out.w, probe.Format(o.format), style), out.close()); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return o.status(report)
}

// investigate makes the attempts.
func (o *probeOptions) investigate(ctx context.Context, selected []probe.Attempt, io streams) (*probe.Report, error) {
	dir, err := os.MkdirTemp("", "memjail-probe-log-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for the log: %w (TMPDIR chooses another place)", err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil { // some attempts are made as another user
		return nil, fmt.Errorf("making a directory for the log: %w", err)
	}
	options := probe.Options{Attempts: selected, Stderr: io.err}
	if err := o.launcher(&options, filepath.Join(dir, "log")); err != nil {
		return nil, err
	}
	progress := newProgress(io.err, o.quiet)
	options.Progress = progress.show
	report, err := probe.Run(ctx, options)
	progress.erase()
	if o.denied != "" {
		os.RemoveAll(o.denied)
	}
	if err != nil {
		return nil, runError(ctx, err)
	}
	report.Version = version()
	if options.Policy != nil {
		report.Policy = o.policyFlags.name()
	}
	return report, nil
}

// runError gives a run that was not completed its status.
func runError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return &probeError{status: exitSignal + int(unix.SIGINT), err: errors.New("interrupted; no report was written")}
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return misused(err)
	default:
		return &probeError{status: exitUnproven, err: err}
	}
}

// status is the exit status for a report.
func (o *probeOptions) status(report *probe.Report) error {
	switch {
	case report.Count(probe.Open) > 0:
		return statusError(exitFinding)
	case !report.Proven(o.only), report.Unmade() > 0:
		return statusError(exitUnproven)
	default:
		return nil
	}
}

// launcher sets the launcher to attack: memjail itself under the policy of the flags, or
// another one.
func (o *probeOptions) launcher(run *probe.Options, log string) error {
	if o.foreign != nil {
		run.Launcher = o.foreign
		return nil
	}
	pol, err := o.policyFlags.load()
	if err != nil {
		return misused(err)
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	flags, err := o.policyFlags.absolute()
	if err != nil {
		return err
	}
	run.Policy = &pol
	run.Log = log
	run.Title = strings.Join(append([]string{"memjail", "run"}, o.policyFlags.args()...), " ")
	run.Launch = func(dir string) []string {
		o.denied = attempts.DeniedDirectory(dir)
		argv := append([]string{exe, "run", "-q", "--log", log, "--log-format", "json"}, flags.args()...)
		return append(append(argv, probeNeeds(pol, exe, dir)...), "--")
	}
	return nil
}

// probeNeeds returns flags that grant the attackers their own program and directory,
// without which they could attempt nothing, if the policy has path rules.
func probeNeeds(pol policy.Policy, exe, dir string) []string {
	var flags []string
	if pol.Paths.Rules.Restricted() {
		flags = append(flags, "--rox", exe, "--rwx", dir)
	}
	if len(pol.Paths.Deny) == 0 || attempts.MakeDenied(dir) != nil {
		return flags
	}
	denied := attempts.DeniedDirectory(dir)
	switch _, view := pol.OwnMounts(); {
	case !pol.Paths.Rules.Restricted():
	case view:
		flags = append(flags, "--rw", denied)
	default: // without a view only what cannot be written can have a denied path
		flags = append(flags, "--ro", denied)
	}
	return append(flags, "--deny", denied+"/closed")
}

// reportFile is where a report goes.
type reportFile struct {
	w    io.Writer
	file *os.File // nil: nothing to close
}

// open opens the report's file. One that exists keeps its content until the report is
// ready.
func (o *probeOptions) open(stdout io.Writer) (*reportFile, error) {
	if o.output == "" {
		return &reportFile{w: stdout}, nil
	}
	file, err := os.OpenFile(o.output, os.O_WRONLY|os.O_CREATE, 0o666)
	if err != nil {
		return nil, misusedf("--output: %w", err)
	}
	return &reportFile{w: &truncating{file: file}, file: file}, nil
}

func (r *reportFile) close() error {
	if r.file == nil {
		return nil
	}
	file := r.file
	r.file = nil
	return file.Close()
}

// truncating empties a file when it is written to.
type truncating struct {
	file  *os.File
	began bool
}

func (t *truncating) Write(p []byte) (int, error) {
	if !t.began {
		t.began = true
		// EINVAL: a pipe or a terminal has nothing to be emptied of.
		if err := t.file.Truncate(0); err != nil && !errors.Is(err, unix.EINVAL) {
			return 0, err
		}
	}
	return t.file.Write(p)
}
