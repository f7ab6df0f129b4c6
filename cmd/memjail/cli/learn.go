package cli

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/file"
	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/learn"
	"github.com/memjail/memjail/sandbox/program"
	"github.com/memjail/memjail/sandbox/report"
	"github.com/memjail/memjail/sandbox/session"
	"github.com/memjail/memjail/sandbox/view"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// learnOptions are the flags of learn.
type learnOptions struct {
	output  string
	merge   string
	extends []string
	view    string
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
standard error. With --merge a policy that exists gets what it lacks, and nothing else
in the file changes. The exit status is that of CMD.`,
		Example: `  memjail learn -o make.toml -- make test
  memjail run -p ./make.toml -- make test
  memjail learn --merge make.toml -- make install`,
		DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error {
			return runLearn(o, args, env, io)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.StringVarP(&o.output, "output", "o", "", "write the policy to `FILE`, which must not exist yet")
	f.StringVar(&o.merge, "merge", "", "add what CMD used to the policy `FILE`, or with -o to a copy of it")
	f.StringArrayVar(&o.extends, "extends", nil,
		"write a policy that extends the policy `NAME` and lists only what that does not give")
	f.StringVar(&o.view, "view", "", "write paths.view = `VALUE`, private or auto, and list what CMD only looks at")
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
	if o.merge != "" && len(o.extends) > 0 {
		return usagef("--merge changes a policy and --extends begins one: use one of them")
	}
	if o.view != "" && (o.merge != "" || o.view != policy.ViewPrivate.String() && o.view != policy.ViewAuto.String()) {
		return usagef("--view %s: want private or auto, and not with --merge", policy.ShellWord(o.view))
	}
	if o.prove {
		if o.target() == "" {
			return usagef("--prove needs --output FILE or --merge FILE")
		}
		return (&prover{options: o, command: args, env: env, io: io}).prove()
	}
	places, err := learnPlaces(env)
	if err != nil {
		return err
	}
	base, err := o.base()
	if err != nil {
		return err
	}
	secrets, err := secretPatterns()
	if err != nil {
		return err
	}
	out, err := o.open()
	if err != nil {
		return err
	}
	noView := view.Possible() != nil // later the process is not dumpable, which keeps it from one
	l, recorder := &learner{options: o, io: io}, learn.NewRecorder()
	status, err := session.Run(session.Options{
		Sandbox:  sandbox.Options{Policy: file.Default(), Args: args, Env: env, NoCapability: true},
		Observer: l, Observe: recorder.Observe, ObserveLooks: o.view != "",
		Remaining: session.RemainingAwaited,
	})
	if err == nil && l.nested {
		err = errNested
	}
	if err != nil {
		return err
	}
	p := recorder.Propose(learn.Options{Places: places, Secrets: o.secrets, ABI: l.abi, Base: base, View: o.view,
		NoView: noView})
	p.Measured = measured()
	p.Variables = o.variables(recorder, env, args, secrets)
	if err := o.save(out, &p, args); err != nil {
		return err
	}
	l.summary(&p, args)
	if status.Signal != 0 {
		session.DieOf(status.Signal)
		return statusError(exitSignal + int(status.Signal))
	}
	return statusError(status.Exit)
}

// target is the file that holds the policy in the end; "": standard output.
func (o *learnOptions) target() string { return cmp.Or(o.output, o.merge) }

// base is the policy that what is learned adds to; nil: none.
func (o *learnOptions) base() (*learn.Base, error) {
	switch {
	case o.merge != "":
		o.merge = withSlash(o.merge)
		p, err := file.Current().Load(o.merge)
		if errors.Is(err, os.ErrNotExist) {
			return nil, usagef("--merge %s: there is no such file; -o %s makes one", o.merge, o.merge)
		}
		if err != nil {
			return nil, fmt.Errorf("--merge: %w", err)
		}
		return learn.Merging(p), nil
	case len(o.extends) > 0:
		names := make([]string, len(o.extends))
		for i, name := range o.extends {
			text, ok := policy.TOMLString(name)
			if !ok {
				return nil, usagef("--extends %s: want the name of a policy", policy.ShellWord(name))
			}
			names[i] = text
		}
		p, err := file.Current().Parse(cmp.Or(o.output, "learned.toml"),
			fmt.Appendf(nil, "version = 1\nextends = [%s]\n", strings.Join(names, ", ")), file.Default())
		if err != nil {
			return nil, usagef("--extends: %v", err)
		}
		return learn.Extending(p, o.extends), nil
	}
	return nil, nil
}

// secretNames is the policy whose environment.drop has the names of secrets.
const secretNames = "workspace"

// secretPatterns are patterns of names of variables. CMD may remove the working directory,
// without which no policy can be loaded.
func secretPatterns() ([]string, error) {
	l := file.Current()
	l.Untested = true // its tests take variables that a service may lack
	p, err := l.Load(secretNames)
	if err != nil {
		return nil, fmt.Errorf("learn: %w", err)
	}
	return p.Environment.Drop, nil
}

// variables finds which variables CMD may use.
func (o *learnOptions) variables(r *learn.Recorder, env, args, secrets []string) learn.Variables {
	v := r.Variables(env, args, secrets)
	if o.secrets {
		for _, name := range v.Secret {
			v.Drop = append(v.Drop, policy.PassMark+name)
		}
		v.Secret = nil
	}
	return v
}

// measured is what CMD and the processes that it waited for took.
func measured() learn.Measured {
	var usage unix.Rusage
	if unix.Getrusage(unix.RUSAGE_CHILDREN, &usage) != nil {
		return learn.Measured{}
	}
	return learn.Measured{Resident: usage.Maxrss << 10,
		Processor: time.Duration(usage.Utime.Nano() + usage.Stime.Nano())}
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
	p := learn.Places{Dir: dir, Home: canonical("HOME"), Runtime: canonical("XDG_RUNTIME_DIR"),
		Temp: canonical("TMPDIR"), XDG: map[string]string{}}
	for _, name := range []string{"XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"} {
		if dir := canonical(name); dir != "" {
			p.XDG[name] = dir
		}
	}
	return p, nil
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
	rules, ports := len(p.Grants), len(p.ConnectTCP)+len(p.BindTCP)
	switch o := l.options; {
	case o.merge != "" && p.Empty():
		fmt.Fprintf(l.io.err, "memjail: %s gives all that was used already\n", o.merge)
	case o.merge != "":
		fmt.Fprintf(l.io.err, "memjail: added to %s: %d path rules, %d TCP ports\n", o.target(), rules, ports)
	default:
		fmt.Fprintf(l.io.err, "memjail: learned %d path rules, %d TCP ports\n", rules, ports)
	}
	if len(p.Hidden) > 0 {
		l.warnf("what these use is not known, since they let nobody read their calls (root can): %s",
			report.Printable(strings.Join(p.Hidden, ", ")))
	}
	const most = 5
	for i, w := range p.Withheld {
		if i == most {
			fmt.Fprintf(l.io.err, "memjail: not granted: %d more, see the policy\n", len(p.Withheld)-most)
			break
		}
		fmt.Fprintf(l.io.err, "memjail: not granted: %s (%s): %s\n", report.Printable(w.Path), w.Need, w.Why)
	}
	if target := l.options.target(); target != "" {
		if name, err := filepath.Abs(target); err == nil && p.Writes(name) {
			l.warnf("the policy lets CMD change %s, and with it what a later run allows; keep it where CMD cannot "+
				"write, such as ~/.config/memjail/policies", report.Printable(target))
		}
		fmt.Fprintf(l.io.err, "memjail: next: memjail run -p %s -- %s\n",
			policy.ShellWord(withSlash(target)), shellWords(command))
	}
}

// withSlash names a file so that it is taken for one.
func withSlash(name string) string {
	if !file.IsName(name) {
		return name
	}
	return "./" + name
}
