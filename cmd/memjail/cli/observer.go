package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/report"
	"github.com/memjail/memjail/sandbox/session"
	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

// A runner is the observer of its session.
var _ session.Observer = (*runner)(nil)

func (r *runner) Prepared(plan *sandbox.Plan) error {
	r.explainPlan(plan)
	r.plan = plan
	entry := r.startEntry(plan)
	if r.observer != nil {
		abi := 0
		if plan.Rules != nil {
			abi = plan.Rules.ABI.Version
		}
		if err := sendStart(r.observer, r.env, abi); err != nil {
			r.printf("warning: CMD is not observed: %v", err)
		}
	}
	switch {
	case !r.becomes:
		r.journal.log(entry)
	case plan.Mode != sandbox.ModeSupervised: // otherwise the supervisor logs it
		return r.journal.sendFromHelper(entry)
	}
	return nil
}

func (r *runner) Nested() {
	if r.options.verbose {
		r.printf("another supervisor already serves this process: it decides which files of /proc are " +
			"granted; memory was found closed")
	}
}

func (r *runner) Refused(e supervisor.Event) {
	if r.collect != nil {
		r.collect.add(e)
	}
}

func (r *runner) Mounted(m *session.MountError) { r.journal.log(mountEntry(r.policy.Name, m)) }

func (r *runner) SupervisorEnded(pid int) { r.journal.log(supervisorEndEntry(r.policy.Name, pid)) }

// Warn prints a warning and logs it: who reads a log later has not seen standard error.
func (r *runner) Warn(err error) {
	text := report.Printable(err.Error())
	r.printf("warning: %s", text)
	if r.collect != nil {
		r.collect.warn(text, r.logKind())
	}
	var mount *session.MountError
	if !errors.As(err, &mount) && !errors.Is(err, session.ErrSupervisorKilled) { // these have their own entries
		r.journal.log(warningEntry(r.policy.Name, text))
	}
}

// exit ends memjail as the command ended: with its exit status, or by the same signal.
func (r *runner) exit(status session.Status, err error) error {
	if r.collect != nil {
		r.collect.close()
	}
	r.journal.close()
	failed := err == nil && (status.Exit != 0 || status.Signal != 0)
	switch {
	case r.collect == nil || r.options.quiet:
	case r.tellsAll():
		r.collect.summary(r.summary())
		if failed || r.options.verbose && err == nil {
			r.printDropped()
		}
		if failed && (r.watchesAll() || r.policy.Paths.Rules.Restricted() || len(r.policy.Syscalls.Deny) > 0) {
			if text := unreported(r.policy, r.plan, r.watchesAll()); text != "" {
				r.printf("%s", text)
			}
		}
	case failed && r.journal == nil:
		r.collect.brief(r.summary())
	}
	if err != nil {
		return err
	}
	if status.Signal != 0 {
		session.DieOf(status.Signal)
		return statusError(exitSignal + int(status.Signal))
	}
	return statusError(status.Exit)
}

// summary is what the summary of r needs.
func (r *runner) summary() summary {
	s := summary{out: r.io.err, policy: r.policy, env: r.env, command: r.args}
	s.places, _ = learnPlaces(r.env) // without them advice names absolute paths
	if f, ok := r.io.err.(*os.File); ok {
		s.style = styleOf(f, r.env)
	}
	return s
}

// detachedConfig is what the observer of a detached supervisor is made from.
type detachedConfig struct {
	Log    logKind
	Policy string
	// Start is the journal's entry of the start.
	Start []byte
	// Observed: the file is a connection to memjail systemd learn, and there is no log.
	Observed bool
}

// detached describes how the supervisor that exec starts reports.
func (r *runner) detached() (session.Detached, error) {
	d := session.Detached{Refused: (r.log != nil || r.journal != nil) && r.collect != nil, Mounted: r.journal != nil}
	if r.observer != nil {
		d = session.Detached{File: session.DupFile(int(r.observer.Fd()))}
	}
	d.Config = func(plan *sandbox.Plan) (json.RawMessage, error) {
		config, err := json.Marshal(detachedConfig{Log: r.logKind(), Policy: r.policy.Name,
			Start: r.startEntry(plan), Observed: r.observer != nil})
		if err != nil {
			return nil, fmt.Errorf("describing the log: %w", err)
		}
		return config, nil
	}
	switch {
	case r.observer != nil:
	case r.journal != nil:
		d.File, d.ExitMessage = r.journal.handover(), supervisorEndEntry(r.policy.Name, os.Getpid())
	case r.log != nil:
		d.File = session.DupFile(int(r.log.Fd()))
	default:
		return d, nil
	}
	if d.File == nil {
		return d, fmt.Errorf("passing the log to the supervisor: %w", unix.EMFILE)
	}
	return d, nil
}

// superviseMain runs a detached supervisor.
func superviseMain(stderr io.Writer) int {
	if err := session.Supervise(observeDetached); err != nil {
		fmt.Fprintf(stderr, "memjail: supervising: %v\n", err)
		return exitFailed
	}
	return exitOK
}

// detachedObserver logs to the journal, or to a file.
type detachedObserver struct {
	session.Silent
	config  detachedConfig
	journal *journal
	report  func(supervisor.Event)
	sender  *useSender
}

func observeDetached(file *os.File, config json.RawMessage) (session.DetachedObserver, error) {
	o := &detachedObserver{}
	if err := json.Unmarshal(config, &o.config); err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	switch {
	case o.config.Observed:
		o.report, o.sender = func(supervisor.Event) {}, &useSender{file: file}
	case o.config.Log == logJournal:
		o.journal = newJournal(int(file.Fd()), o.config.Policy)
		o.report = o.journal.refused
	case file == nil:
		return nil, errors.New("no log was passed")
	default:
		o.report = session.ReportLines(file, o.config.Log.entry())
	}
	return o, nil
}

func (o *detachedObserver) Serving()                   { o.journal.log(o.config.Start) }
func (o *detachedObserver) Refused(e supervisor.Event) { o.report(e) }
func (o *detachedObserver) Mounted(m *session.MountError) {
	o.journal.log(mountEntry(o.config.Policy, m))
}
func (o *detachedObserver) Ended()                              { o.journal.close() }
func (o *detachedObserver) Observed(use supervisor.Observation) { o.sender.send(use) }
