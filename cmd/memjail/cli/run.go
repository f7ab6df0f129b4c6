package cli

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/descriptors"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/pin"
	"github.com/memjail/memjail/sandbox/program"
	"github.com/memjail/memjail/sandbox/report"
	"github.com/memjail/memjail/sandbox/session"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// runOptions are the flags of run.
type runOptions struct {
	policyFlags
	addExec      bool
	pin          bool
	pinHash      string
	keepFDs      []int
	bestEffort   bool
	logFile      string
	logFormat    string
	statusFD     int
	quiet        bool
	verbose      bool
	waitRest     bool
	killRest     bool
	abi          int
	relay        bool
	noCapability bool
	argv0        string
	observer     string // the socket of memjail systemd learn
}

func newRun(env []string, io streams) *cobra.Command {
	o := &runOptions{}
	cmd := &cobra.Command{
		Use:   "run [flags] -- CMD [ARGS]",
		Short: "Run a program in a sandbox that closes memory",
		Long: `run starts CMD so that no process inside can read or write the memory of a running
process other than with that process's own instructions. Files, sockets,
children, terminal, signals and exit status are as without memjail.

With path flags only the named paths (and what the kernel needs) are allowed.
The flags say the same as a policy file; later ones add to it.`,
		Example: `  memjail run -- python3 untrusted.py
  memjail run --rox /usr --rox /lib --ro /etc --rw . -- make
  memjail run -p strict --add-exec --ro . -- ls -l
  memjail run --allow ptrace=children -- strace -f ./program`,
		DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error {
			return run(o, args, env, io)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	o.policyFlags.declare(f)
	o.declareCommon(f)
	f.IntVar(&o.statusFD, "status-fd", -1,
		"write one JSON line to descriptor `N`: whether CMD or memjail ended, and how")
	f.Lookup("status-fd").DefValue = "0" // help prints no default that is zero
	f.BoolVar(&o.waitRest, "wait-rest", false, "after CMD has ended, wait for the processes that it left behind")
	f.BoolVar(&o.killRest, "kill-rest", false, "after CMD has ended, kill the processes that it left behind")
	f.BoolVar(&o.relay, "relay", false, "behave as under Yama's scope 1")
	f.MarkHidden("relay")
	return cmd
}

// declareCommon declares the flags that run and exec share, besides those of the policy.
func (o *runOptions) declareCommon(f *pflag.FlagSet) {
	f.BoolVar(&o.addExec, "add-exec", false, "with path rules: also allow CMD's interpreter and libraries")
	f.BoolVar(&o.pin, "pin", false, "run CMD and its libraries from a private copy that cannot be changed")
	f.StringVar(&o.pinHash, "pin-hash", "",
		"as --pin, and require the checksums in `FILE`, which \"memjail pin\" writes")
	f.IntSliceVar(&o.keepFDs, "keep-fd", nil, "pass descriptor `N` to CMD")
	f.BoolVar(&o.bestEffort, "best-effort", false,
		"start even if a restriction cannot be applied, and list what is missing")
	f.StringVar(&o.logFile, "log", "", "append the refused attempts to `FILE`; \"journal\" is the systemd journal")
	f.StringVar(&o.logFormat, "log-format", "text", "`FORMAT` of the log: text, or json (one object per line)")
	f.StringVar(&o.overrides.Report, "report", "",
		"`WHEN` to report refusals: auto (on a terminal, with -v or CI=true; else in one line if CMD fails), all, off")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print no warnings and no summary")
	f.BoolVarP(&o.verbose, "verbose", "v", false,
		"print how the policy is enforced, and the summary even without a terminal")
	f.BoolVar(&o.noCapability, "no-capability", false, "do not use the memory capability, even if it is installed")
	f.IntVar(&o.abi, "landlock-abi", 0, "behave as on a kernel with this Landlock ABI")
	f.MarkHidden("landlock-abi")
}

// check finds flags that do not go together.
func (o *runOptions) check(args []string) error {
	switch {
	case len(args) == 0:
		return usagef("no command was given; try \"memjail run -- CMD\"")
	case o.logFormat != "text" && o.logFormat != "json":
		return usagef("--log-format %s: want text or json", o.logFormat)
	case o.logFormat != "text" && (o.logFile == "" || o.logFile == journalLog):
		return usagef("--log-format needs --log FILE")
	case o.waitRest && o.killRest:
		return usagef("--wait-rest and --kill-rest cannot be used together")
	case o.quiet && o.verbose:
		return usagef("--quiet and --verbose cannot be used together")
	}
	return nil
}

func run(o *runOptions, args, env []string, io streams) error {
	if exit, relayed, err := session.Relay(o.relay); err != nil {
		return err
	} else if relayed {
		return statusError(exit)
	}
	r, err := prepareRunner(o, args, env, io, false)
	if err != nil {
		return err
	}
	status, err := session.Run(r.sessionOptions(args, env))
	r.writeStatus(status, err)
	return r.exit(status, err)
}

// prepareRunner checks the options, reads the policy and opens the outputs. becomes: this
// process is to become the command.
func prepareRunner(o *runOptions, args, env []string, io streams, becomes bool) (*runner, error) {
	if err := o.check(args); err != nil {
		return nil, err
	}
	if kernel.DynamicallyLinked() {
		return nil, errDynamic
	}
	if o.pin || o.pinHash != "" {
		o.overrides.Allow = append(o.overrides.Allow, "memory.pin=true")
	}
	pol, err := o.policyFlags.load()
	if err != nil {
		return nil, err
	}
	if err := session.EnterNamespaces(pol, o.bestEffort); err != nil {
		return nil, err
	}
	r := &runner{options: o, policy: pol, command: args[0], args: args, env: env, io: io, statusFD: o.statusFD,
		becomes: becomes}
	if o.pinHash != "" {
		if r.pinSums, err = pin.ReadSums(o.pinHash); err != nil {
			return nil, fmt.Errorf("--pin-hash: %w", err)
		}
	}
	return r, r.open(env)
}

// runner carries one run from its policy to its exit status.
type runner struct {
	options  *runOptions
	policy   policy.Policy
	command  string
	args     []string
	env      []string
	io       streams
	pinSums  *pin.Sums
	statusFD int
	status   *os.File
	log      *os.File
	journal  *journal
	observer *os.File // of memjail systemd learn; nil: there is none
	collect  *collector
	plan     *sandbox.Plan // nil before it is made
	// becomes: this process becomes the command, so other processes report for it.
	becomes bool
}

// open opens the outputs while memjail still has all its rights.
func (r *runner) open(env []string) error {
	o := r.options
	if o.statusFD >= 0 {
		r.status = os.NewFile(uintptr(o.statusFD), "status-fd")
		if r.status == nil {
			return usagef("--status-fd %d: not a descriptor", o.statusFD)
		}
		// Not one of memjail's own, which may have the number by now.
		if !descriptors.IsInherited(o.statusFD) || slices.Contains(descriptors.Closed(), o.statusFD) {
			return usagef("--status-fd %d: not an open descriptor", o.statusFD)
		}
	}
	if err := r.openLog(env); err != nil {
		return err
	}
	if r.wantsReports() {
		r.collect = newCollector(r.log, r.logKind().entry())
		r.collect.journal = r.journal
	}
	return nil
}

// openLog opens what --log names, or by default the journal if standard error goes there.
func (r *runner) openLog(env []string) (err error) {
	switch o := r.options; o.logFile {
	case "":
		if err := r.useJournal(env); err != nil {
			r.printf("warning: refusals will not be logged: %v", err)
		}
	case journalLog:
		r.journal, err = openJournal(r.policy.Name)
	default:
		r.log, err = os.OpenFile(o.logFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	}
	if err != nil {
		return fmt.Errorf("--log: %w", err)
	}
	return nil
}

// logKind is what a supervisor writes to a log that is passed to it.
func (r *runner) logKind() logKind {
	switch {
	case r.journal != nil:
		return logJournal
	case r.options.logFormat == "text":
		return logText
	}
	return logJSON
}

// wantsReports reports whether refusals are logged or printed.
func (r *runner) wantsReports() bool {
	switch r.policy.Report.Denials {
	case policy.DenialsOff:
		return false
	case policy.DenialsAll:
		return true
	}
	return r.log != nil || r.journal != nil || !r.options.quiet && !r.becomes
}

// watchesAll reports whether calls are watched for reports alone, which can fail with EINTR
// because of that: only if somebody asks for all reports.
func (r *runner) watchesAll() bool {
	return r.options.verbose || r.policy.Report.Denials == policy.DenialsAll
}

// tellsAll reports whether the summary has every refusal. Otherwise one line says that
// there were some, if CMD has failed.
func (r *runner) tellsAll() bool {
	return r.options.verbose || r.policy.Report.Denials == policy.DenialsAll || isTerminal(r.io.err) ||
		program.Getenv(r.env, "CI") == "true"
}

func (r *runner) sandboxOptions(args, env []string) sandbox.Options {
	return sandbox.Options{Policy: r.policy, Args: args, Env: env, AddExec: r.options.addExec, PinSums: r.pinSums,
		Reports: r.collect != nil, WatchAll: r.watchesAll(), KeepFDs: r.options.keepFDs, Argv0: r.options.argv0,
		BestEffort: r.options.bestEffort, LastWords: lastWords,
		LandlockABI: r.options.abi, NoCapability: r.options.noCapability}
}

// sessionOptions are those of a session that r observes.
func (r *runner) sessionOptions(args, env []string) session.Options {
	o := session.Options{Sandbox: r.sandboxOptions(args, env), Observer: r,
		Detached: r.detached}
	switch {
	case r.options.killRest:
		o.Remaining = session.RemainingKilled
	case r.options.waitRest:
		o.Remaining = session.RemainingAwaited
	}
	if r.status != nil {
		o.KeepOpen = []int{r.statusFD}
	}
	return o
}

// warnWorkingDirectory warns of a rule on the working directory that opens more than its
// author expected: the policy is meant for a project directory, and memjail was started in
// the home directory.
func (r *runner) warnWorkingDirectory() {
	named := func(rule policy.Rule) bool { return strings.Contains(rule.Origin.Written, "${PWD}") }
	if r.options.quiet || !slices.ContainsFunc(r.policy.Paths.Rules.List(), named) {
		return
	}
	for _, f := range policy.Lint(r.policy, lintFacts()) {
		if f.Level != policy.LevelNote && strings.Contains(f.Origin.Written, "${PWD}") {
			r.printf("warning: %s: %s; start memjail in the project directory", f.What, f.Why)
			return
		}
	}
}

func (r *runner) printf(format string, args ...any) {
	if !r.options.quiet {
		fmt.Fprintf(r.io.err, "memjail: "+format+"\n", args...)
	}
}

// explainPlan prints how the policy is enforced (-v), what is weaker than it could be, and,
// regardless of the flags, what --best-effort left out.
func (r *runner) explainPlan(p *sandbox.Plan) {
	r.warnWorkingDirectory()
	if r.options.verbose {
		r.printf("policy %s, memory access %s: %s", r.policy.Name, r.policy.Memory.Access,
			shapeText(r.policy.Memory.Access, p))
		if p.Pinned != nil {
			r.printf("pinned: %s", strings.Join(p.Pinned.Files, ", "))
		} else {
			r.printf("programs: %s", codeText(r.policy))
		}
		if p.View != nil {
			r.printf("files: %s", p.View)
		}
		if p.Rules != nil {
			r.printf("landlock ABI %d, %d rules; seccomp filter of %d instructions", p.Rules.ABI.Version,
				len(p.Rules.Rules), len(p.Filter))
		}
	}
	for _, w := range p.Warnings {
		r.printf("warning: %s", w)
	}
	for _, d := range p.Dropped {
		fmt.Fprintf(r.io.err, "memjail: not enforced: %s\n", d)
	}
}

// startEntry is the journal's entry of the start; nil: there is no journal.
func (r *runner) startEntry(p *sandbox.Plan) fields {
	if r.journal == nil {
		return nil
	}
	return startEntry(r.policy.Name, r.command, shapeText(r.policy.Memory.Access, p))
}

func shapeText(access policy.Access, p *sandbox.Plan) string {
	switch {
	case p.Capability && p.Mode == sandbox.ModeUnsupervised:
		return "the memory capability decides which files of /proc may be read, and none can be written (no supervisor)"
	case p.Capability:
		return "the memory capability decides which files of /proc may be read, and a supervisor grants " +
			"what may be written there"
	case p.Nested() && access != policy.AccessAllow:
		return "the kernel closes /proc, and what another supervisor around this memjail grants is granted here, too"
	case p.Mode == sandbox.ModeUnsupervised && access == policy.AccessDeny:
		return "the kernel closes /proc, and no file of it is granted (no supervisor)"
	case p.Mode == sandbox.ModeUnsupervised:
		return "enforced by the kernel alone"
	case access == policy.AccessNoWrite:
		return "the kernel allows reading /proc, and a supervisor grants what may be written there"
	default:
		return "the kernel closes /proc, and a supervisor grants its harmless files"
	}
}

// statusLine is what is written to --status-fd.
func statusLine(status session.Status, err error) string {
	var b strings.Builder
	switch {
	case err != nil:
		quoted, _ := report.JSONLine(strings.TrimSpace(err.Error()))
		fmt.Fprintf(&b, `{"who":"memjail","exit":%d,"error":%s}`, exitStatus(err), bytes.TrimSpace(quoted))
	case status.Signal != 0:
		fmt.Fprintf(&b, `{"who":"command","pid":%d,"signal":%d}`, status.PID, int(status.Signal))
	default:
		fmt.Fprintf(&b, `{"who":"command","pid":%d,"exit":%d}`, status.PID, status.Exit)
	}
	return b.String() + "\n"
}

func (r *runner) writeStatus(status session.Status, err error) {
	if r.status != nil {
		r.status.WriteString(statusLine(status, err))
	}
}
