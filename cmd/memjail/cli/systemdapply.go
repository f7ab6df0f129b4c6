package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/memjail/memjail/cmd/memjail/systemd"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// unitApplier wraps services that run, and takes that back if they do not work with it.
//
// The drop-ins of the trial lie in /run, so that a crash of the machine leaves nothing. A
// process that systemd starts before anything is changed takes them back if this one ends. When
// the check has succeeded, the file that says what was changed gets another name: from then on
// both complete the change instead.
type unitApplier struct {
	unitOptions
	checking string
	within   time.Duration
	state    string // of the process that takes the change back; "": this one makes it
	after    int
	io       streams
}

// appliedState is what the process that takes a change back has to know.
type appliedState struct {
	Units []appliedUnit `json:"units"`
}

type appliedUnit struct {
	Name   string `json:"name"`
	Active bool   `json:"active"` // before
}

// committed ends the name of the file of a change that is to stay.
const committed = ".committed"

func newSystemdApply(env []string, io streams) *cobra.Command {
	a := &unitApplier{io: io}
	cmd := &cobra.Command{
		Use:   "apply UNIT... [flags]",
		Short: "Wrap services, restart and check them, and take it back if they do not work",
		Long: `apply does what drop-in does, restarts each UNIT, and runs the command of --check
by a shell until it succeeds. If it does not within the time, or a unit does not stay
active, everything is as it was before: the drop-ins are gone, and the services that ran
are restarted.

That also happens if memjail or the session is killed: before anything is changed, systemd
starts a process that takes the change back when this one ends. The drop-ins of the trial
lie in /run, so that after a reboot they are gone, too.

Exit status: 0 the services are wrapped, 1 they are as before, 2 nothing was tried.`,
		Example: `  memjail systemd apply nginx --check 'curl -fsS http://localhost/' --within 30s`,
		RunE: func(_ *cobra.Command, args []string) error {
			if a.state != "" {
				return a.watch()
			}
			return a.apply(args)
		},
	}
	f := cmd.Flags()
	a.declare(f, env)
	a.declareWrapping(f)
	f.StringVar(&a.checking, "check", "", "shell `COMMAND` that succeeds when the services work")
	f.DurationVar(&a.within, "within", time.Minute, "`TIME` in which the check has to succeed")
	f.BoolVar(&a.all, "all", false, "every service that can be wrapped and is not part of the system")
	declareHarden(f, &a.harden)
	f.StringVar(&a.state, "state", "", "take the change back that `FILE` describes")
	f.IntVar(&a.after, "after", 0, "when the process `PID` has ended")
	_ = errors.Join(f.MarkHidden("state"), f.MarkHidden("after")) // they are declared above
	return cmd
}

// trial is where the drop-ins lie until the check has succeeded.
func (a *unitApplier) trial() systemd.Place {
	p := a.place
	p.Trial = true
	return p
}

func (a *unitApplier) apply(args []string) error {
	if a.place.Root != "" {
		return misusedf("apply is about services that run: --root cannot be used")
	}
	if !a.managerRuns() {
		return misusedf("there is no systemd here that could restart services%s", asRoot(a.place.User))
	}
	names, err := a.selectUnits(args, a.io.err)
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return strings.Contains(name, "@.") })
	if len(names) == 0 {
		return misusedf("a template does not run: name its instances")
	}
	a.tried = a.checking != ""
	all, failed, err := a.prepareAll(names, a.io)
	if err != nil {
		return err
	}
	if failed > 0 {
		return misusedf("nothing was changed, since %d of %d units cannot be wrapped", failed, len(names))
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	state, file, err := a.arm(all)
	if err != nil {
		return misused(err)
	}
	if err := a.tryAll(ctx, all); err != nil {
		fmt.Fprintf(a.io.err, "memjail: %v\n", err)
		if err := a.takeBack(state, file); err != nil {
			return misused(fmt.Errorf("taking the change back: %w", err))
		}
		fmt.Fprintf(a.io.err, "memjail: all is as it was before\n")
		a.disarm(file)
		return statusError(exitFinding)
	}
	// From here on the change stays, whoever completes it.
	if err := os.Rename(file, file+committed); err != nil {
		return misusedf("the change was taken back: %v", err)
	}
	if err := a.complete(state, file+committed); err != nil {
		return misused(err)
	}
	a.disarm(file)
	for _, p := range all {
		fmt.Fprintf(a.io.out, "%s is wrapped by %s, and works\n", p.unit, a.place.DropIn(p.unit))
		if a.harden {
			printExposure(a.io, &p, true)
		}
	}
	return nil
}

// arm writes down what there is, and has systemd start the process that takes the change back.
func (a *unitApplier) arm(all []prepared) (state appliedState, file string, err error) {
	dir := "/run"
	if a.place.User {
		dir = a.place.RuntimeDir
	}
	file = filepath.Join(dir, fmt.Sprintf("memjail-apply-%d.json", os.Getpid()))
	others, _ := filepath.Glob(filepath.Join(dir, "memjail-apply-*.json*")) // the pattern is well-formed
	if len(others) > 0 {
		return state, file, fmt.Errorf("another \"memjail systemd apply\" is at work: %s", others[0])
	}
	for _, p := range all {
		active, err := a.show(p.unit, "ActiveState")
		if err != nil {
			return state, file, err
		}
		state.Units = append(state.Units, appliedUnit{p.unit, active == "active" || active == "reloading"})
	}
	text, err := json.Marshal(state)
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		return state, file, fmt.Errorf("writing down what there is: %w", err)
	}
	args := []string{"--quiet", "--collect", "--unit=" + a.watcher(file), "--property=Type=exec"}
	if a.place.User {
		args = append(args, "--user")
	}
	exe, err := os.Executable()
	if err == nil {
		args = append(args, "--", exe, "systemd", "apply", "--state", file, "--after", strconv.Itoa(os.Getpid()),
			"--within", a.longest(all).String())
		if a.place.User {
			args = append(args, "--user")
		}
		var output string
		if output, err = systemdRun(args); err != nil {
			err = errors.New(firstLine(output, err))
		}
	}
	if err != nil {
		os.Remove(file)
		return state, file, fmt.Errorf("arming the way back: %w", err)
	}
	return state, file, nil
}

func (a *unitApplier) watcher(file string) string {
	return strings.TrimSuffix(filepath.Base(file), ".json") + ".service"
}

// disarm ends the process that would take the change back.
func (a *unitApplier) disarm(file string) {
	_ = a.systemctl("stop", a.watcher(file)) // it has ended, or finds nothing to do
}

// longest is how long all checks may take.
func (a *unitApplier) longest(all []prepared) time.Duration {
	tries := 1
	if a.harden {
		tries = 2 + len(steps(all))
	}
	return time.Duration(tries) * a.within
}

// steps are the options of all units that are tried, one after the other.
func steps(all []prepared) [][]systemd.Setting {
	var found [][]systemd.Setting
	for _, p := range all {
		for _, step := range systemd.Steps(p.wrapping.Harden) {
			if !slices.ContainsFunc(found, func(other []systemd.Setting) bool { return other[0] == step[0] }) {
				found = append(found, step)
			}
		}
	}
	return found
}

// tryAll makes the change. With options of systemd it leaves out those with which the check does
// not succeed: all are tried at once, and only if that fails one after the other.
func (a *unitApplier) tryAll(ctx context.Context, all []prepared) error {
	failed := a.try(ctx, all)
	if failed == nil || !a.harden || ctx.Err() != nil {
		return failed
	}
	fmt.Fprintf(a.io.err, "memjail: with all options %v; trying them one by one\n", failed)
	tried := steps(all)
	set := func(keep []systemd.Setting) error {
		for i := range all {
			p := &all[i]
			w := p.wrapping
			w.Harden = slices.DeleteFunc(slices.Clone(w.Harden), func(s systemd.Setting) bool {
				return !slices.Contains(keep, s)
			})
			var err error
			if p.text, err = p.unwrapped.DropIn(w); err != nil {
				return err
			}
		}
		return a.try(ctx, all)
	}
	if err := set(nil); err != nil {
		return err
	}
	var keep []systemd.Setting
	works := true
	for _, step := range tried {
		err := set(slices.Concat(keep, step))
		if works = err == nil; works {
			keep = append(keep, step...)
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fmt.Fprintf(a.io.err, "memjail: left out %s=%s: %v\n", step[0].Key, step[0].Value, err)
	}
	if works {
		return nil
	}
	return set(keep)
}

// try makes the change and checks it.
func (a *unitApplier) try(ctx context.Context, all []prepared) error {
	var units []string
	for _, p := range all {
		if _, err := a.trial().Write(p.unit, p.text); err != nil {
			return err
		}
		units = append(units, p.unit)
	}
	if err := a.systemctl("daemon-reload"); err != nil {
		return err
	}
	_ = a.systemctl(a.unitWords("reset-failed", units)...) // none has failed
	ctx, cancel := context.WithTimeout(ctx, a.within)
	defer cancel()
	if out, err := a.during(ctx, append([]string{"systemctl"}, a.words("restart", units...)...)...); err != nil {
		return fmt.Errorf("the restart failed: %s", firstLine(out, err))
	}
	const pause = 500 * time.Millisecond
	for {
		out, err := a.checkOnce(ctx, units)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the check did not succeed within %v: %s", a.within,
				firstLine(strings.TrimSpace(out), err))
		case <-time.After(pause):
		}
	}
}

func (a *unitApplier) words(verb string, units ...string) []string {
	words := append([]string{verb, "--"}, units...)
	if a.place.User {
		words = append([]string{"--user"}, words...)
	}
	return words
}

// during runs a command, with all that it starts, for no longer than the context.
func (a *unitApplier) during(ctx context.Context, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, // Ctrl-C is not for it
		Pdeathsig: unix.SIGKILL}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// checkOnce runs the command, and looks whether the units are active.
func (a *unitApplier) checkOnce(ctx context.Context, units []string) (string, error) {
	if a.checking != "" {
		if out, err := a.during(ctx, "/bin/sh", "-c", a.checking); err != nil {
			return out, err
		}
	} else {
		select { // no check: as long as a service takes to fail at its start
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	for _, unit := range units {
		p := a.properties([]string{unit}, "ActiveState", "Result", "Type")[unit]
		done := p["Type"] == "oneshot" && p["ActiveState"] == "inactive"
		if p["Result"] != "success" || p["ActiveState"] != "active" && !done {
			return "", fmt.Errorf("%s is %s (%s)", unit, p["ActiveState"], p["Result"])
		}
	}
	return "", nil
}

// takeBack makes everything as it was before.
func (a *unitApplier) takeBack(state appliedState, file string) error {
	var errs []error
	var restart, stop, units []string
	for _, u := range state.Units {
		if _, err := a.trial().Remove(u.Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		units = append(units, u.Name)
		if u.Active {
			restart = append(restart, u.Name)
		} else {
			stop = append(stop, u.Name)
		}
	}
	errs = append(errs, a.systemctl("daemon-reload"))
	_ = a.systemctl(a.unitWords("reset-failed", units)...) // none has failed
	if len(restart) > 0 {
		errs = append(errs, a.systemctl(a.unitWords("restart", restart)...))
	}
	if len(stop) > 0 {
		errs = append(errs, a.systemctl(a.unitWords("stop", stop)...))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return os.Remove(file)
}

func (a *unitApplier) unitWords(verb string, units []string) []string {
	return append([]string{verb, "--"}, units...)
}

// complete makes the drop-ins of the trial those that stay.
func (a *unitApplier) complete(state appliedState, file string) error {
	for _, u := range state.Units {
		text, err := os.ReadFile(a.trial().DropIn(u.Name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it is done
		}
		if err != nil {
			return fmt.Errorf("reading the drop-in of the trial: %w", err)
		}
		if _, err := a.place.Write(u.Name, string(text)); err != nil {
			return err
		}
		if _, err := a.trial().Remove(u.Name); err != nil {
			return err
		}
	}
	if err := a.systemctl("daemon-reload"); err != nil {
		return err
	}
	return os.Remove(file)
}

// watch waits for the end of the process that makes the change, and completes the change or
// takes it back.
func (a *unitApplier) watch() error {
	const late = time.Minute // for starting and stopping, besides the time of the check
	if pidfd, err := kernel.OpenPIDFD(a.after); err == nil {
		defer pidfd.Close()
		deadline := time.Now().Add(2*a.within + late)
		fds := []unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}
		for time.Now().Before(deadline) {
			n, err := unix.Poll(fds, int(time.Until(deadline).Milliseconds())+1)
			if n > 0 || err != nil && err != unix.EINTR {
				break
			}
		}
	}
	for _, file := range []string{a.state, a.state + committed} {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var state appliedState
		if err == nil {
			err = json.Unmarshal(text, &state)
		}
		if err != nil {
			return misused(err)
		}
		if file == a.state {
			return a.takeBack(state, file)
		}
		return a.complete(state, file)
	}
	return nil
}
