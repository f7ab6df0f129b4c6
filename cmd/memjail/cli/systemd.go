package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/memjail/memjail/cmd/memjail/systemd"
	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/file"
	"github.com/memjail/memjail/profiles"
	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/doctor"
	"github.com/memjail/memjail/sandbox/program"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// unitOptions are the flags of the systemd commands: where units are looked for, and the
// flags of exec with which the service is started.
type unitOptions struct {
	runOptions
	place     systemd.Place
	memjail   string
	print     bool
	force     bool
	asJSON    bool
	flags     *pflag.FlagSet
	given     *given // nil: not read yet
	all       bool
	keepGoing bool
	harden    bool
	tried     bool           // what hardens is tried
	implied   systemd.Policy // by the policy of the last unit
	shipped   string         // the built-in policy for a certain service that the last unit gets
}

func newSystemd(env []string, io streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "systemd",
		Short: "Start systemd services in a sandbox: list, write, check, apply and remove drop-ins",
		Long: `systemd writes a drop-in for a unit that starts each of its ExecStart= lines by
"memjail exec". The unit's own files stay as they are.

Exit status:
  0    success; check: nothing would break; status: all are wrapped, and inside
  1    check: something would break, or the drop-in is out of date;
       status: something is not wrapped, or not inside;
       apply: the check failed, and all is as it was before
  2    wrong usage, or a unit that cannot be wrapped`,
		Args: unknownCommand,
		RunE: func(*cobra.Command, []string) error {
			return misusedf("which command? list, status, drop-in, check, apply, remove or learn; " +
				"see \"memjail systemd --help\"")
		},
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return misusedf("%s", flagMistake(cmd, err))
	})
	cmd.AddCommand(newSystemdDropIn(env, io), newSystemdCheck(env, io), newSystemdRemove(env, io),
		newSystemdLearn(env, io), newSystemdList(env, io), newSystemdStatus(env, io),
		newSystemdApply(env, io))
	return cmd
}

func newSystemdCheck(env []string, io streams) *cobra.Command {
	o := &unitOptions{}
	cmd := &cobra.Command{
		Use:   "check UNIT [flags]",
		Short: "Check a unit's options for a service that memjail starts",
		Long: `check reports whether UNIT is wrapped and the drop-in is up to date, which parts of
the policy its options cover already, what they would break, and how systemd-analyze
rates the unit without and with the drop-in. It changes nothing.
The exit status is 1 if something would break, or the drop-in is out of date.`,
		Example: `  memjail systemd check nginx -p service`,
		Args:    wantArgs(1, 1),
		RunE:    func(_ *cobra.Command, args []string) error { return o.check(args[0], io) },
	}
	o.declare(cmd.Flags(), env)
	o.declareWrapping(cmd.Flags())
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print JSON")
	return cmd
}

func newSystemdRemove(env []string, io streams) *cobra.Command {
	o := &unitOptions{}
	cmd := &cobra.Command{
		Use:   "remove UNIT [flags]",
		Short: "Remove the drop-ins that memjail wrote",
		Args:  wantArgs(1, 1),
		RunE:  func(_ *cobra.Command, args []string) error { return o.remove(args[0], io) },
	}
	o.declare(cmd.Flags(), env)
	return cmd
}

func (o *unitOptions) declare(f *pflag.FlagSet, env []string) {
	f.StringVar(&o.place.Root, "root", "", "use the system below `DIR`, such as an image's")
	f.BoolVar(&o.place.User, "user", false, "use the units of the user's own manager")
	f.BoolVar(&o.place.Runtime, "runtime", false, "write a drop-in that lasts until the next boot")
	o.findPlace(env)
	o.flags = f
}

// findPlace finds the directories of the user's own manager.
func (o *unitOptions) findPlace(env []string) {
	o.place.Home = cmp.Or(program.Getenv(env, "HOME"), "/root")
	o.place.Config = cmp.Or(program.Getenv(env, "XDG_CONFIG_HOME"), filepath.Join(o.place.Home, ".config"))
	o.place.RuntimeDir = cmp.Or(program.Getenv(env, "XDG_RUNTIME_DIR"), fmt.Sprintf("/run/user/%d", os.Getuid()))
}

// declareWrapping declares the flags with which the service is started.
func (o *unitOptions) declareWrapping(f *pflag.FlagSet) {
	f.StringVar(&o.memjail, "memjail", "", "`PATH` of memjail in the unit's view (default: this program)")
	o.policyFlags.declare(f)
	o.declareCommon(f)
}

// unitFlags are those that memjail exec does not have.
var unitFlags = []string{"root", "user", "runtime", "memjail", "print", "force", "json", "all", "keep-going",
	"check", "within", "harden", "state", "after"}

// execFlags spells the given flags for the unit, with paths that do not depend on the
// working directory.
func (o *unitOptions) execFlags() ([]string, error) {
	absolute, err := o.policyFlags.absolute()
	if err != nil {
		return nil, err
	}
	o.policyFlags = *absolute // which the flags below spell
	for _, path := range []*string{&o.logFile, &o.pinHash} {
		if *path == "" || path == &o.logFile && *path == journalLog {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return nil, fmt.Errorf("finding %q: %w", *path, err)
		}
	}
	var words []string
	o.flags.Visit(func(f *pflag.Flag) {
		if slices.Contains(unitFlags, f.Name) {
			return
		}
		values := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		for _, value := range values {
			if f.Value.Type() == "bool" {
				words = append(words, "--"+f.Name+"="+value)
				continue
			}
			words = append(words, "--"+f.Name, value)
		}
	})
	return words, nil
}

// given is what the flags say, whatever the unit.
type given struct {
	words    []string // for memjail exec
	memjail  string
	groups   systemd.Groups
	policies policyFlags // with absolute paths
}

// give reads the flags, once for all units.
func (o *unitOptions) give() (*given, error) {
	if o.given != nil {
		return o.given, nil
	}
	if err := o.runOptions.check([]string{"UNIT"}); err != nil {
		return nil, misused(err)
	}
	words, err := o.execFlags()
	if err != nil {
		return nil, misused(err)
	}
	g := &given{words: words, policies: o.policyFlags}
	if g.memjail, err = o.ownPath(); err != nil {
		return nil, misused(err)
	}
	g.groups = o.callGroups()
	o.given = g
	return g, nil
}

// question describes the policy and the system to package systemd.
func (o *unitOptions) question(unit string) (systemd.Question, error) {
	var q systemd.Question
	g, err := o.give()
	if err != nil {
		return q, err
	}
	flags, words := g.policies, slices.Clone(g.words)
	flags.policies = slices.Clone(flags.policies)
	for i, name := range flags.policies {
		if !file.IsName(name) {
			q.PolicyFiles = append(q.PolicyFiles, name)
			flags.policies[i] = filepath.Join(o.place.Root, name)
		}
	}
	if o.shipped = ""; !o.flags.Changed("policy") {
		if o.shipped = profiles.ForUnit(unit); o.shipped != "" {
			flags.policies, words = []string{o.shipped}, append([]string{"--policy", o.shipped}, words...)
		}
	} else if i := slices.IndexFunc(flags.policies, profiles.IsService); i >= 0 {
		o.shipped = flags.policies[i]
	}
	pol, err := flags.load()
	if err != nil {
		return q, misused(err)
	}
	plan, err := prepare(pol)
	if err != nil {
		return q, err
	}
	defer plan.Close()
	q.Memjail, q.Groups = g.memjail, g.groups
	q.Ports = pol.Network.BindTCP.Restricted()
	q.Flags, q.PathRules, q.Unsupervised = words, pol.Paths.Rules.Restricted(), plan.Mode == sandbox.ModeUnsupervised
	q.With, q.Created = profiles.With(o.shipped), profiles.Created(o.shipped)
	o.implied = impliedBy(&pol)
	q.Made = shellWords(append([]string{"memjail", "systemd", "drop-in", unit}, words...))
	q.MayWrite = func(path string) bool {
		answers, err := explainAll(pol, []policy.Request{{Action: policy.ActionWrite, Path: path}}, "")
		return err == nil && answers[0].Allowed
	}
	return q, nil
}

// ownPath returns the path of memjail in the unit's view.
func (o *unitOptions) ownPath() (string, error) {
	path := o.memjail
	if path == "" {
		exe, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("finding this program: %w", err)
		}
		path = exe
	}
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("--memjail %s: want an absolute path", path)
	}
	if info, err := os.Stat(filepath.Join(o.place.Root, path)); err != nil || info.Mode()&0o111 == 0 {
		return "", fmt.Errorf("there is no program %s below %s: name its place in the unit's view with --memjail",
			path, cmp.Or(o.place.Root, "/"))
	}
	if err := systemd.CheckBuild(filepath.Join(o.place.Root, path)); err != nil {
		return "", fmt.Errorf("%w; build it with %s", err, doctor.BuildCommand)
	}
	return path, nil
}

// callGroups asks systemd for its groups of system calls; of another root's systemd
// they are not known.
func (o *unitOptions) callGroups() systemd.Groups {
	if o.place.Root != "" {
		return nil
	}
	out, err := exec.Command("systemd-analyze", "--no-pager", "syscall-filter").Output()
	if err != nil {
		return nil
	}
	return systemd.ParseGroups(string(out))
}

// load reads the unit and describes the policy and the system.
func (o *unitOptions) load(name string) (*systemd.Unit, systemd.Question, error) {
	u, err := o.place.Load(name)
	if err != nil {
		return nil, systemd.Question{}, misused(err)
	}
	q, err := o.question(u.Name)
	if o.harden {
		o.implied.Tried = o.tried
		q.Harden = u.Hardening(o.implied)
		q.Made += " --harden"
	}
	return u, q, err
}

// impliedBy is what of a policy matters for options of systemd.
func impliedBy(pol *policy.Policy) systemd.Policy {
	p := systemd.Policy{NoWritableCode: pol.Memory.WritableCode == policy.WritableCodeDeny}
	if pol.Paths.Rules.Restricted() {
		p.Writable = []string{}
		for _, r := range pol.Paths.Rules.List() {
			if r.Rights&policy.MayWrite != 0 {
				p.Writable = append(p.Writable, r.Path)
			}
		}
	}
	const clock = "clock_settime"
	p.Clock = len(pol.Syscalls.Deny) > 0 && !slices.Contains(pol.Syscalls.Deny, clock)
	return p
}

func (o *unitOptions) remove(name string, io streams) error {
	u, err := o.place.Load(name)
	if err != nil {
		return misused(err)
	}
	learning := o.place
	learning.Learning = true
	_, left := learning.Remove(u.Name) // of a memjail that was killed
	path, err := o.place.Remove(u.Name)
	if errors.Is(err, fs.ErrNotExist) && left == nil {
		path, err = learning.DropIn(u.Name), nil
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return misusedf("%s is not wrapped: there is no %s", u.Name, o.place.DropIn(u.Name))
	case err != nil:
		return misused(err)
	}
	fmt.Fprintf(io.out, "removed %s; to apply it:\n  %s\n", path, o.reload(u.Name))
	return nil
}
