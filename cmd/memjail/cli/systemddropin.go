package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/memjail/memjail/cmd/memjail/systemd"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newSystemdDropIn(env []string, io streams) *cobra.Command {
	o := &unitOptions{}
	cmd := &cobra.Command{
		Use:   "drop-in {UNIT... | --all} [flags]",
		Short: "Write drop-ins that start services by memjail",
		Long: `drop-in wraps the ExecStart= lines of each UNIT, a service: prefixes, quoting, specifiers
and variables stay as they are, and so does everything else. Where the policy has
path rules, what the unit lets the service write is added to them: StateDirectory=
and the like, ReadWritePaths=. Where the unit has a list of system calls, what
memjail itself needs is added to it.

The flags are those of "memjail exec". Without --policy a unit that is known gets the
policy for it, such as service/nginx ("memjail policy list"), and others get memory.

UNIT may be a pattern, as for systemctl: 'php*-fpm.service'. Patterns and --all leave out
what "memjail systemd list" does not call possible or wrapped, and say so.

Nothing is written if one of the services would not start or work with it (see "memjail
systemd check"), unless --keep-going leaves that one out. Where systemd runs,
"memjail exec -- memjail version" is started first, as the unit's user and with the
unit's restrictions.`,
		Example: `  memjail systemd drop-in nginx redis-server
  memjail systemd drop-in 'php*-fpm' -p service --rw /run/php --rw /var/log
  memjail systemd drop-in redis-server -p /etc/memjail/redis.toml --print`,
		RunE: func(_ *cobra.Command, args []string) error { return o.dropIn(args, io) },
	}
	o.declare(cmd.Flags(), env)
	o.declareWrapping(cmd.Flags())
	f := cmd.Flags()
	f.BoolVar(&o.all, "all", false, "wrap every service that can be and is not part of the system")
	f.BoolVar(&o.keepGoing, "keep-going", false, "leave out services that would not work, and wrap the others")
	declareHarden(f, &o.harden)
	f.BoolVar(&o.print, "print", false, "print the drop-ins and write nothing")
	f.BoolVar(&o.force, "force", false, "write them even if a service would not work with it")
	return cmd
}

func declareHarden(f *pflag.FlagSet, harden *bool) {
	f.BoolVar(harden, "harden", false, "also set the options of systemd that the policy implies and the unit lacks")
}

// printExposure prints how systemd-analyze rates a unit without and with its drop-in. Of one that
// is loaded with the drop-in systemd knows more than the files say.
func printExposure(io streams, p *prepared, loaded bool) {
	if e := rate(p.unwrapped, p.text); e != nil {
		if loaded {
			if level := exposureOf(p.unit, p.unit); level != "" {
				e.With = level
			}
		}
		fmt.Fprintf(io.out, "  exposure by systemd-analyze security: %s without it, %s with it\n", e.Without, e.With)
	}
}

// selectUnits returns the names of the units that arguments stand for, each once, and says
// which a pattern leaves out.
func (o *unitOptions) selectUnits(args []string, w io.Writer) ([]string, error) {
	switch {
	case o.all && len(args) > 0:
		return nil, misusedf("--all and %s: use one of them", args[0])
	case o.all:
		args = []string{"*"}
	case len(args) == 0:
		return nil, misusedf("which UNIT? (--all: every service that can be wrapped)")
	}
	var names []string
	var all []systemd.Entry
	seen := map[string]bool{}
	for _, arg := range args {
		found := []string{arg}
		if systemd.IsPattern(arg) {
			if all == nil {
				all = o.place.Survey(nil)
			}
			var err error
			if found, err = o.matching(arg, all, w); err != nil {
				return nil, err
			}
		}
		for _, name := range found {
			if !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// matching are the units that a pattern stands for. An instance whose template is among them
// has the template's drop-in.
func (o *unitOptions) matching(pattern string, all []systemd.Entry, w io.Writer) ([]string, error) {
	var names []string
	left := 0
	for _, e := range all {
		ok, err := systemd.Match(pattern, e.Unit)
		switch {
		case err != nil:
			return nil, misused(err)
		case !ok:
		case e.State == systemd.Possible, e.State == "wrapped", e.State == "outdated":
			names = append(names, e.Unit)
		case o.all:
			left++
		default:
			fmt.Fprintf(w, "memjail: left out: %s: %s\n", e.Unit, e.Why)
		}
	}
	if left > 0 {
		fmt.Fprintf(w, "memjail: left out: %d services (memjail systemd list says why)\n", left)
	}
	if len(names) == 0 {
		return nil, misusedf("no service that can be wrapped matches %s", pattern)
	}
	return systemd.WithoutInstances(names), nil
}

// prepared is a drop-in before it is written.
type prepared struct {
	unit, text, policy string
	unwrapped          *systemd.Unit
	wrapping           systemd.Wrapping
}

// prepareAll prepares the drop-ins of units and tells what is wrong with each. failed is how
// many cannot be wrapped.
func (o *unitOptions) prepareAll(names []string, io streams) (all []prepared, failed int, err error) {
	seen := map[string]bool{}
	for _, name := range names {
		p, err := o.prepare(name, io)
		if err != nil {
			if len(names) == 1 {
				return nil, 1, err
			}
			failed++
			fmt.Fprintf(io.err, "memjail: %s: %v\n", name, err)
			continue
		}
		if !seen[p.unit] { // two names of one unit
			seen[p.unit] = true
			all = append(all, p)
		}
	}
	return all, failed, nil
}

// prepare makes the drop-in of one unit and checks whether the service would work with it.
func (o *unitOptions) prepare(name string, io streams) (prepared, error) {
	u, q, err := o.load(name)
	if err != nil {
		return prepared{}, err
	}
	p := prepared{unit: u.Name, policy: o.shipped, unwrapped: u, wrapping: q.Wrapping}
	if p.text, err = u.DropIn(q.Wrapping); err != nil {
		return p, misused(err)
	}
	broken := false
	for _, f := range u.Check(q) {
		if f.Level != systemd.Covers {
			fmt.Fprintf(io.err, "memjail: %s: %s\n", u.Name, findingText(f))
			broken = broken || f.Level == systemd.Breaks
		}
	}
	if o.print || o.force {
		return p, nil
	}
	if broken {
		return p, misusedf("nothing was written, since %s would not work with it (--force writes it)", u.Name)
	}
	if err := o.place.Writable(u.Name); err != nil {
		return p, misused(err)
	}
	return p, o.tryStart(u, q.Wrapping, io)
}

func (o *unitOptions) dropIn(args []string, io streams) error {
	if err := o.checkRoot(); err != nil {
		return err
	}
	names, err := o.selectUnits(args, io.err)
	if err != nil {
		return err
	}
	if _, err := o.give(); err != nil {
		return err // not once for each unit
	}
	all, failed, err := o.prepareAll(names, io)
	if err != nil {
		return err
	}
	if o.print {
		return printDropIns(all, failed, io)
	}
	if failed > 0 && !o.keepGoing || len(all) == 0 {
		return misusedf("nothing was written, since %d of %d units cannot be wrapped (--keep-going wraps the others)",
			failed, len(names))
	}
	if err := o.writeAll(all, io); err != nil {
		return err
	}
	if failed > 0 {
		return misusedf("%d of %d units were left out", failed, len(names))
	}
	return nil
}

func printDropIns(all []prepared, failed int, io streams) error {
	for i, p := range all {
		if len(all) > 1 {
			fmt.Fprintf(io.out, "%s# %s\n", map[bool]string{true: "\n"}[i > 0], p.unit)
		}
		if _, err := fmt.Fprint(io.out, p.text); err != nil {
			return err
		}
	}
	if failed > 0 {
		return misusedf("%d units cannot be wrapped", failed)
	}
	return nil
}

// writeAll writes all the drop-ins, or leaves everything as it is.
func (o *unitOptions) writeAll(all []prepared, io streams) error {
	var undo []systemd.Saved
	var units []string
	for _, p := range all {
		saved, err := o.place.Save(p.unit)
		if err == nil {
			_, err = o.place.Write(p.unit, p.text)
		}
		if err != nil {
			errs := []error{fmt.Errorf("%s: %w; nothing was changed", p.unit, err)}
			for _, s := range undo {
				errs = append(errs, s.Restore())
			}
			return misused(errors.Join(errs...))
		}
		undo = append(undo, saved)
		units = append(units, p.unit)
	}
	for _, p := range all {
		by := ""
		if p.policy != "" {
			by = " (policy " + p.policy + ")"
		}
		fmt.Fprintf(io.out, "wrote %s%s\n", o.place.DropIn(p.unit), by)
		if o.harden {
			printExposure(io, &p, false)
		}
	}
	if o.place.Root == "" {
		fmt.Fprintf(io.out, "to apply it:\n  %s\n", o.reload(units...))
	}
	return nil
}

// reload is the command by which systemd applies a change.
func (o *unitOptions) reload(units ...string) string {
	var restart []string
	templates := 0
	for _, unit := range units {
		if strings.Contains(unit, "@.") {
			templates++
		} else {
			restart = append(restart, unit)
		}
	}
	text := o.command("daemon-reload")
	if len(restart) > 0 {
		verb := "restart"
		if len(units) > 1 {
			verb = "try-restart" // those that run
		}
		text += " && " + o.command(append([]string{verb}, restart...)...)
	}
	if templates > 0 {
		text += ", and the next start of each instance"
	}
	return text
}
