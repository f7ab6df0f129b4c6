package cli

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/memjail/memjail/cmd/memjail/systemd"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// unitLister lists services.
type unitLister struct {
	unitOptions
	format string
	states []string
	io     streams
}

// listedUnit is a service and what the running systemd says of it, in the shape of the JSON.
type listedUnit struct {
	systemd.Entry
	Active string `json:"active,omitempty"` // absent: no systemd can be asked
	// Inside: memjail's supervisor runs in the unit. Absent: the unit does not run, or its
	// processes cannot be seen.
	Inside *bool `json:"inside,omitempty"`
	// Todo is what is to be done until the drop-in holds: "reload" or "restart".
	Todo    string `json:"todo,omitempty"`
	Refused *int   `json:"refused,omitempty"` // status: entries in the journal since the start
}

func newSystemdList(env []string, io streams) *cobra.Command {
	l := &unitLister{io: io}
	cmd := &cobra.Command{
		Use:   "list [PATTERN...] [flags]",
		Short: "List all services: which are wrapped, which could be, and why not",
		Long: `list shows every service, or those whose names match a PATTERN such as 'php*':

  wrapped      memjail's drop-in is there and fits
  outdated     the unit's ExecStart= has changed since the drop-in was written
  overridden   another drop-in, which is read later, sets ExecStart= again
  foreign      there is a file of that name that memjail did not write
  possible     it could be wrapped
  discouraged  it makes up the system, or starts what others want started: --all and
               patterns of "memjail systemd drop-in" leave it out
  masked       it cannot be started
  impossible   it cannot be wrapped

Where systemd runs, it also says which are active, and whether the drop-in holds already.
It needs no root, and with --root DIR no systemd.`,
		Example: `  memjail systemd list
  memjail systemd list --state wrapped,outdated
  memjail systemd list --root /srv/image 'php*' --format json`,
		RunE: func(_ *cobra.Command, args []string) error { return l.list(args) },
	}
	l.declare(cmd.Flags(), env)
	cmd.Flags().StringSliceVar(&l.states, "state", nil, "only services with these `STATES`, with commas between them")
	return cmd
}

func newSystemdStatus(env []string, io streams) *cobra.Command {
	l := &unitLister{io: io}
	cmd := &cobra.Command{
		Use:   "status [UNIT...] [flags]",
		Short: "Show whether services run inside memjail",
		Long: `status shows for each UNIT, or pattern, whether it is wrapped, with which flags, whether
what runs now runs inside memjail, and how much was refused since it was started.
Without a UNIT it shows all that have a drop-in of memjail.

The exit status is 0 if all of them are wrapped and what runs is inside, otherwise 1.`,
		Example: `  memjail systemd status nginx 'postgresql@*'`,
		RunE:    func(_ *cobra.Command, args []string) error { return l.status(args) },
	}
	l.declare(cmd.Flags(), env)
	return cmd
}

func (l *unitLister) declare(f *pflag.FlagSet, env []string) {
	f.StringVar(&l.place.Root, "root", "", "use the system below `DIR`, such as an image's")
	f.BoolVar(&l.place.User, "user", false, "use the units of the user's own manager")
	f.StringVar(&l.format, "format", "text", "print `FORMAT`: text or json")
	l.findPlace(env)
}

func (l *unitLister) check() error {
	if l.format != "text" && l.format != "json" {
		return misusedf("--format %s: want text or json", l.format)
	}
	for _, state := range l.states {
		if !slices.Contains(systemd.EntryStates, state) {
			return misusedf("--state %s: want %s", state, strings.Join(systemd.EntryStates, ", "))
		}
	}
	return l.checkRoot()
}

// checkRoot complains of a --root that is no system.
func (o *unitOptions) checkRoot() error {
	if o.place.Root == "" {
		return nil
	}
	if info, err := os.Stat(o.place.Root); err != nil {
		return misusedf("--root: %v", err)
	} else if !info.IsDir() {
		return misusedf("--root %s: want a directory", o.place.Root)
	}
	return nil
}

func (l *unitLister) list(patterns []string) error {
	if err := l.check(); err != nil {
		return err
	}
	all := l.place.Survey(l.loaded())
	var entries []systemd.Entry
	for _, e := range all {
		ok := len(patterns) == 0
		for _, pattern := range patterns {
			matches, err := systemd.Match(pattern, e.Unit)
			if err != nil {
				return misused(err)
			}
			ok = ok || matches
		}
		if ok && (len(l.states) == 0 || slices.Contains(l.states, e.State)) {
			entries = append(entries, e)
		}
	}
	units := l.running(entries)
	if l.format == "json" {
		return printJSON(l.io, units)
	}
	return l.table(units)
}

// table prints one line for each service.
func (l *unitLister) table(units []listedUnit) error {
	w := tabwriter.NewWriter(l.io.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "UNIT\tACTIVE\tMEMJAIL\tPOLICY\tREMARK\n")
	counts := map[string]int{}
	for _, u := range units {
		counts[u.State]++
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", u.Unit, cmp.Or(u.Active, "-"), u.State, cmp.Or(u.Policy, "-"),
			u.remark())
	}
	if err := w.Flush(); err != nil {
		return err
	}
	var words []string
	for _, state := range systemd.EntryStates {
		if counts[state] > 0 {
			words = append(words, fmt.Sprintf("%d %s", counts[state], state))
		}
	}
	_, err := fmt.Fprintf(l.io.out, "%d services: %s\n", len(units), cmp.Or(strings.Join(words, ", "), "none"))
	return err
}

func (u *listedUnit) remark() string {
	switch {
	case u.Todo != "":
		return u.todo()
	case u.State == "wrapped" && u.Inside != nil && !*u.Inside:
		return "what runs is not inside: restart it"
	}
	return u.Why
}

func (u *listedUnit) todo() string {
	if u.Todo == "reload" {
		return "systemd has not read it yet: systemctl daemon-reload, and restart the unit"
	}
	return "what runs was started before: restart it"
}

// loaded are the names of the services that the running systemd knows, such as instances.
func (o *unitOptions) loaded() []string {
	if o.place.Root != "" {
		return nil
	}
	text, err := o.ask("list-units", "--type=service", "--all", "--plain", "--no-legend", "--no-pager", "--full")
	if err != nil {
		return nil // none runs, or this user may not ask it
	}
	var names []string
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[1] != "not-found" {
			names = append(names, fields[0])
		}
	}
	return names
}

// properties returns properties of units, by the units' names; none if no systemd runs.
func (o *unitOptions) properties(units []string, names ...string) map[string]map[string]string {
	all := map[string]map[string]string{}
	if o.place.Root != "" || len(units) == 0 {
		return all
	}
	text, err := o.ask(append([]string{"show", "-p", "Id," + strings.Join(names, ","), "--"}, units...)...)
	if err != nil {
		return all
	}
	for block := range strings.SplitSeq(text, "\n\n") {
		found := map[string]string{}
		for line := range strings.Lines(block) {
			key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), "=")
			found[key] = value
		}
		all[found["Id"]] = found
	}
	return all
}

// running adds what the running systemd says.
func (l *unitLister) running(entries []systemd.Entry) []listedUnit {
	var names []string
	for _, e := range entries {
		if !strings.Contains(e.Unit, "@.") {
			names = append(names, e.Unit)
		}
	}
	all := l.properties(names, "ActiveState", "MainPID", "NeedDaemonReload", "ControlGroup", "DropInPaths",
		"ExecMainStartTimestampMonotonic")
	units := []listedUnit{}
	for _, e := range entries {
		u := listedUnit{Entry: e}
		if p := all[e.Unit]; p != nil {
			u.Active = p["ActiveState"]
			u.compare(p)
		}
		units = append(units, u)
	}
	return units
}

// compare finds whether the drop-in holds for what runs.
func (u *listedUnit) compare(p map[string]string) {
	if u.DropIn == "" {
		return
	}
	known := slices.Contains(strings.Fields(p["DropInPaths"]), u.DropIn)
	if !known || p["NeedDaemonReload"] == "yes" {
		u.Todo = "reload"
	}
	if pid, err := strconv.Atoi(p["MainPID"]); err != nil || pid == 0 {
		return
	}
	if inside, ok := hasSupervisor(p["ControlGroup"]); ok {
		u.Inside = &inside
	}
	if u.Todo == "" && u.State == "wrapped" && startedBefore(p["ExecMainStartTimestampMonotonic"], u.DropIn) &&
		(u.Inside == nil || !*u.Inside) {
		u.Todo = "restart"
	}
}

// startedBefore reports whether a time since the boot, in microseconds, lies before the last
// change of a file.
func startedBefore(monotonic, file string) bool {
	micros, err := strconv.ParseInt(monotonic, 10, 64)
	info, statErr := os.Stat(file)
	now, clockErr := monotonicNow()
	if err != nil || statErr != nil || clockErr != nil {
		return false
	}
	started := time.Now().Add(-(now - time.Duration(micros)*time.Microsecond))
	return started.Before(info.ModTime())
}

// hasSupervisor reports whether a supervisor of memjail is among the processes of a control
// group, and whether that can be told.
func hasSupervisor(group string) (found, known bool) {
	if group == "" {
		return false, false
	}
	for _, top := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"} {
		text, err := os.ReadFile(filepath.Join(top, group, "cgroup.procs"))
		if err != nil {
			continue
		}
		for pid := range strings.FieldsSeq(string(text)) {
			command, err := os.ReadFile("/proc/" + pid + "/cmdline")
			known = known || err == nil && len(command) > 0
			if strings.HasPrefix(string(command), "memjail: supervisor") {
				return true, true
			}
		}
		return false, known
	}
	return false, false
}

// status shows units one by one.
func (l *unitLister) status(names []string) error {
	if err := l.check(); err != nil {
		return err
	}
	var entries []systemd.Entry
	all := l.place.Survey(l.loaded())
	for _, e := range all {
		if len(names) == 0 && e.DropIn != "" {
			entries = append(entries, e)
		}
	}
	for _, name := range names {
		found, err := l.named(name, all)
		if err != nil {
			return err
		}
		entries = append(entries, found...)
	}
	units := l.running(entries)
	for i := range units {
		units[i].Refused = l.refused(&units[i])
	}
	var err error
	if l.format == "json" {
		err = printJSON(l.io, units)
	} else {
		err = l.describe(units)
	}
	if err == nil && slices.ContainsFunc(units, func(u listedUnit) bool {
		return u.State != "wrapped" || u.Todo != "" || u.Inside != nil && !*u.Inside
	}) {
		return statusError(exitFinding)
	}
	return err
}

// named are the entries of a unit, or of all that match a pattern.
func (l *unitLister) named(name string, all []systemd.Entry) ([]systemd.Entry, error) {
	if !systemd.IsPattern(name) {
		e, err := l.place.Describe(name)
		if err != nil {
			return nil, misused(err)
		}
		return []systemd.Entry{e}, nil
	}
	var entries []systemd.Entry
	for _, e := range all {
		ok, err := systemd.Match(name, e.Unit)
		if err != nil {
			return nil, misused(err)
		}
		if ok {
			entries = append(entries, e)
		}
	}
	if len(entries) == 0 {
		return nil, misusedf("no service matches %s", name)
	}
	return entries, nil
}

// refused counts the journal's entries about refusals since the service was started; nil: it
// does not run, or the journal cannot be read.
func (l *unitLister) refused(u *listedUnit) *int {
	if u.DropIn == "" || u.Active != "active" || l.place.User {
		return nil
	}
	id, err := l.show(u.Unit, "InvocationID")
	if err != nil || id == "" {
		return nil
	}
	text, err := journalctl("_SYSTEMD_INVOCATION_ID="+id, "MEMJAIL_EVENT=refused", "--output=cat",
		"--output-fields=MEMJAIL_PATH")
	if err != nil {
		return nil
	}
	count := strings.Count(text, "\n")
	return &count
}

func (l *unitLister) describe(units []listedUnit) error {
	if len(units) == 0 {
		_, err := fmt.Fprintln(l.io.out, "no service has a drop-in of memjail (memjail systemd list shows which could)")
		return err
	}
	for _, u := range units {
		fmt.Fprintf(l.io.out, "%s: %s\n", u.Unit, u.State)
		line := func(key, value string) {
			if value != "" {
				fmt.Fprintf(l.io.out, "  %-8s %s\n", key, value)
			}
		}
		line("unit", u.File)
		line("drop-in", u.DropIn)
		if flags, err := systemd.WrapperFlags(u.DropIn); err == nil && u.DropIn != "" {
			line("flags", cmp.Or(strings.Join(flags, " "), "none: the policy memory"))
		}
		line("why", u.Why)
		line("active", u.Active)
		if u.Inside != nil {
			line("inside", map[bool]string{true: "yes, memjail's supervisor runs in the unit", false: "no"}[*u.Inside])
		}
		if u.Todo != "" {
			line("todo", u.todo())
		}
		if u.Refused != nil {
			line("refused", fmt.Sprintf("%d since it was started: journalctl -u %s MEMJAIL_EVENT=refused", *u.Refused,
				u.Unit))
		}
	}
	return nil
}
