package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/file"
	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/learn"
	"github.com/memjail/memjail/sandbox/program"
	"github.com/memjail/memjail/sandbox/report"
	"github.com/memjail/memjail/sandbox/session"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// learnOptions are the flags of learn.
type learnOptions struct {
	output  string
	secrets bool
	prove   bool
	quiet   bool
}

func newLearn(env []string, io streams) *cobra.Command {
	o := &learnOptions{}
	cmd := &cobra.Command{
		Use:   "learn [flags] -- CMD [ARGS]",
		Short: "Run a program once and write a policy for what it used",
		Long: `learn runs CMD with memory closed and everything else as usual, observes which files,
directories, ports and sockets it uses, and writes a policy that allows these and
closes the rest. The policy has comments: which program needed each line, and what
was not granted on purpose, such as keys, start-up files and sockets of daemons.

Without -o the policy goes to standard output, and what CMD prints there to
standard error. The exit status is that of CMD.`,
		Example: `  memjail learn -o make.toml -- make test
  memjail run -p ./make.toml -- make test`,
		DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error {
			return runLearn(o, args, env, io)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.StringVarP(&o.output, "output", "o", "", "write the policy to `FILE`, which must not exist yet")
	f.BoolVar(&o.secrets, "secrets", false,
		"also grant keys, tokens, start-up files and sockets of daemons that CMD used")
	f.BoolVar(&o.prove, "prove", false,
		"run CMD again under the policy and report what differs; CMD gets no input but from a file")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print no warnings and no summary")
	return cmd
}

func runLearn(o *learnOptions, args, env []string, io streams) error {
	if len(args) == 0 {
		return usagef("no command was given; try \"memjail learn -- CMD\"")
	}
	if kernel.DynamicallyLinked() {
		return errDynamic
	}
	if o.prove {
		if o.output == "" {
			return usagef("--prove needs --output FILE")
		}
		return (&prover{options: o, command: args, env: env, io: io}).prove()
	}
	places, err := learnPlaces(env)
	if err != nil {
		return err
	}
	out, err := o.open()
	if err != nil {
		return err
	}
	l := &learner{options: o, io: io}
	recorder := learn.NewRecorder()
	status, err := session.Run(session.Options{
		Sandbox:  sandbox.Options{Policy: file.Default(), Args: args, Env: env, NoCapability: true},
		Observer: l, Allow: allowFlag, Observe: recorder.Observe, Remaining: session.RemainingAwaited,
	})
	if err == nil && l.nested {
		err = errNested
	}
	if err != nil {
		out.discard()
		return err
	}
	p := recorder.Propose(learn.Options{Places: places, Secrets: o.secrets, ABI: l.abi})
	if err := out.write(p.TOML(args)); err != nil {
		return err
	}
	l.summary(&p, args)
	if status.Signal != 0 {
		session.DieOf(status.Signal)
		return statusError(exitSignal + int(status.Signal))
	}
	return statusError(status.Exit)
}

var errNested = errors.New(
	"learn: another supervisor is asked about CMD's calls already, so nothing was observed; start it " +
		"outside the sandbox")

// learnPlaces finds the directories that a policy names by variables, without symbolic
// links, since that is how they are observed.
func learnPlaces(env []string) (learn.Places, error) {
	dir, err := os.Getwd()
	if err != nil {
		return learn.Places{}, fmt.Errorf("learn: %w", err)
	}
	canonical := func(name string) string {
		value := program.Getenv(env, name)
		if !filepath.IsAbs(value) {
			return ""
		}
		value, err := filepath.EvalSymlinks(value)
		if err != nil {
			return ""
		}
		return value
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return learn.Places{}, fmt.Errorf("learn: %w", err)
	}
	return learn.Places{Dir: dir, Home: canonical("HOME"), Runtime: canonical("XDG_RUNTIME_DIR"),
		Temp: canonical("TMPDIR")}, nil
}

// policyOutput is where a policy is written once it is known. It is opened before CMD
// runs, so that a mistake shows before.
type policyOutput struct {
	file *os.File
	name string // "": standard output
}

// open opens the output. Without a name it takes standard output away from CMD, which
// gets standard error in its place.
func (o *learnOptions) open() (*policyOutput, error) {
	if o.output != "" {
		f, err := os.OpenFile(o.output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, os.ErrExist) {
			return nil, usagef("--output %s: it exists already", o.output)
		}
		if err != nil {
			return nil, fmt.Errorf("--output: %w", err)
		}
		return &policyOutput{file: f, name: o.output}, nil
	}
	f := session.DupFile(unix.Stdout)
	if f == nil {
		return nil, errors.New("learn: standard output is closed; name a file with --output")
	}
	if err := unix.Dup3(unix.Stderr, unix.Stdout, 0); err != nil {
		f.Close()
		return nil, fmt.Errorf("learn: handing standard error to CMD as its standard output: %w", err)
	}
	return &policyOutput{file: f}, nil
}

func (p *policyOutput) write(text []byte) error {
	_, err := p.file.Write(text)
	if err = errors.Join(err, p.file.Close()); err != nil {
		return fmt.Errorf("writing the policy: %w", err)
	}
	return nil
}

// discard removes a policy that has not been written.
func (p *policyOutput) discard() {
	p.file.Close()
	if p.name != "" {
		os.Remove(p.name)
	}
}

// learner observes the session of learn.
type learner struct {
	session.Silent
	options *learnOptions
	io      streams
	nested  bool
	abi     int // of Landlock
}

func (l *learner) Prepared(plan *sandbox.Plan) error {
	if plan.Rules != nil {
		l.abi = plan.Rules.ABI.Version
	}
	for _, w := range plan.Warnings {
		l.warnf("%s", w)
	}
	if plan.Mode != sandbox.ModeSupervised {
		return errors.New("learn: CMD cannot be observed: that needs a supervisor, and there can be " +
			"none here (memjail doctor says why)")
	}
	return nil
}

func (l *learner) Nested()        { l.nested = true }
func (l *learner) Warn(err error) { l.warnf("%s", report.Printable(err.Error())) }

func (l *learner) warnf(format string, args ...any) {
	if !l.options.quiet {
		fmt.Fprintf(l.io.err, "memjail: warning: "+format+"\n", args...)
	}
}

// summary says what was learned and how to use it.
func (l *learner) summary(p *learn.Proposal, command []string) {
	if l.options.quiet {
		return
	}
	fmt.Fprintf(l.io.err, "memjail: learned %d path rules, %d TCP ports\n", len(p.Grants),
		len(p.ConnectTCP)+len(p.BindTCP))
	const most = 5
	for i, w := range p.Withheld {
		if i == most {
			fmt.Fprintf(l.io.err, "memjail: not granted: %d more, see the policy\n", len(p.Withheld)-most)
			break
		}
		fmt.Fprintf(l.io.err, "memjail: not granted: %s (%s): %s\n", report.Printable(w.Path), w.Need, w.Why)
	}
	if l.options.output != "" {
		fmt.Fprintf(l.io.err, "memjail: next: memjail run -p %s -- %s\n",
			policy.ShellWord(withSlash(l.options.output)), shellWords(command))
	}
}

// withSlash names a file so that it is taken for one.
func withSlash(name string) string {
	if !file.IsName(name) {
		return name
	}
	return "./" + name
}
