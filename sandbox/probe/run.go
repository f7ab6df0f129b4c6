package probe

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// Verdict is what an attempt and its control say together.
type Verdict string

const (
	// Held: the control got through, the attempt did not.
	Held Verdict = "held"
	// Open: both got through: a hole.
	Open Verdict = "open"
	// OpenByPolicy: both got through, on purpose; Result.Why is the reason.
	OpenByPolicy Verdict = "open-by-policy"
	// NotProven: the control did not get through, so the attempt says nothing.
	NotProven Verdict = "not-proven"
)

// Result is one attempt's.
type Result struct {
	Name     string  `json:"name"`
	Route    string  `json:"route"`
	Spelling string  `json:"spelling,omitempty"`
	Target   Target  `json:"target"`
	Effect   Effect  `json:"effect"`
	ABI      ABI     `json:"abi"`
	Verdict  Verdict `json:"verdict"`
	// Layer is what refused it: landlock, seccomp, capability, descriptors, mounts, or
	// kernel; "" unless held.
	Layer string `json:"layer,omitempty"`
	// Detail says how it ended inside; Control how the control did.
	Detail  string `json:"detail"`
	Control string `json:"control"`
	Explain string `json:"explain"`
	// Reference and Promise are the catalogue's.
	Reference string  `json:"reference"`
	Promise   Promise `json:"promise"`
	// Why says why it is open on purpose: by a setting of the policy, or, where
	// Promise is [Open], in memjail's default policy, whatever launcher was attacked.
	Why string `json:"why,omitempty"`
}

// Report is a whole run.
type Report struct {
	// Version is the version of the program that made the report, if it says so.
	Version  string `json:"version,omitempty"`
	Launcher string `json:"launcher"`
	// Policy is the name or the file of the policy that memjail itself enforced;
	// "" of a foreign launcher.
	Policy  string    `json:"policy,omitempty"`
	Kernel  string    `json:"kernel"`
	UID     int       `json:"uid"`
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	Results []Result  `json:"results"`
}

// Count returns how many results have the verdict.
func (r *Report) Count(v Verdict) int {
	n := 0
	for _, result := range r.Results {
		if result.Verdict == v {
			n++
		}
	}
	return n
}

// Options say what to attack and with what.
type Options struct {
	// Launcher is the command line that a program's is appended to.
	Launcher []string
	// Launch, if not nil, returns the launcher instead, once the directory is known
	// that attempts work in; it and this program have to be reachable inside.
	Launch func(dir string) []string
	// Title is what the report calls the launcher; "": by its command line.
	Title string
	// Policy is what the launcher enforces, if it is memjail's own; nil: a foreign
	// launcher, of which nothing is promised.
	Policy   *policy.Policy
	Attempts []Attempt
	// Log is a file to which the launcher writes refusals as JSON lines, or "".
	Log string
	// Progress, if not nil, is called before each attempt.
	Progress func(index, total int, name string)
	// Stderr gets what launcher and agents say; nil: nobody.
	Stderr io.Writer
}

// Run makes all attempts, each with its control, and judges them. As root it works
// in a mount namespace of its own, so that what attempts prepare is nobody else's;
// the goroutine is locked to its thread for that, which is not to be used for
// anything else afterwards. An error means that the suite could not run.
func Run(ctx context.Context, o Options) (*Report, error) {
	runtime.LockOSThread()
	begin := time.Now()
	title := o.Title
	if title == "" {
		title = shellWords(o.Launcher)
	}
	r := &suite{Options: o, report: &Report{Launcher: title, Kernel: kernel.Release(), UID: os.Geteuid(),
		Started: begin.UTC()}}
	if err := r.open(); err != nil {
		return nil, err
	}
	defer removeDir(r.dir)
	defer r.closeMounts()
	if err := r.runPhases(ctx); err != nil {
		return nil, err
	}
	// Those that need a preparation came last; the report is in the catalogue's order.
	place := map[string]int{}
	for i := range r.Attempts {
		place[r.Attempts[i].Name()] = i
	}
	slices.SortStableFunc(r.report.Results, func(a, b Result) int { return place[a.Name] - place[b.Name] })
	r.report.Seconds = time.Since(begin).Seconds()
	return r.report, nil
}

// suite is one run.
type suite struct {
	Options
	report  *Report
	dir     string
	log     *logTail
	agents  [2]*agent // without and with the sandbox
	started [2]bool   // whether such an agent has ever answered
	refused [2]int    // how often in a row no agent could be started
	pace    pace
	private bool  // this mount namespace is the run's own
	as      *User // of this phase
	dropped bool  // the memory capability, by what is inside
	mounts  string
	inherit [2][]*os.File
	attempt int
}

func (r *suite) open() error {
	if os.Geteuid() == 0 && unix.Unshare(unix.CLONE_NEWNS) == nil {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("making the mounts private: %w", err)
		}
		r.private = true
	}
	dir, err := os.MkdirTemp("", "memjail-probe-")
	if err == nil {
		err = openToAll(dir, filepath.Join(dir, scratchName))
	}
	if err != nil {
		return fmt.Errorf("making the probe's directory: %w (TMPDIR chooses another place)", err)
	}
	r.dir = dir
	if r.Launch != nil {
		r.Launcher = r.Launch(dir)
	}
	if r.Log != "" {
		r.log = &logTail{path: r.Log}
	}
	if r.pace, err = measurePace(); err != nil {
		return err
	}
	return r.openMounts()
}

// runPhase makes the attempts of a phase. Its preparations are all in place before the
// sandbox starts.
func (r *suite) runPhase(ctx context.Context, p phase) error {
	r.as = p.as
	var attempts []*Attempt
	missing := map[string]string{}
	setup := r.newSetup()
	defer setup.close()
	for i := range r.Attempts {
		a := &r.Attempts[i]
		if !p.has(a) {
			continue
		}
		attempts = append(attempts, a)
		undo, err := r.prepare(a, &setup)
		if err != nil {
			missing[a.Name()] = err.Error()
			continue
		}
		if undo != nil {
			defer undo()
		}
	}
	if len(attempts) == 0 {
		return nil
	}
	if err := r.giveLog(); err != nil {
		return err
	}
	r.inherit = setup.inherit
	defer r.endAgents()
	for _, a := range attempts {
		if err := ctx.Err(); err != nil {
			return err
		}
		r.attempt++
		if r.Progress != nil {
			r.Progress(r.attempt, len(r.Attempts), a.Name())
		}
		result, err := r.try(a, setup, missing[a.Name()])
		if err != nil {
			return err
		}
		r.report.Results = append(r.report.Results, result)
	}
	return nil
}

func (r *suite) endAgents() {
	for i, a := range r.agents {
		if a != nil {
			a.end()
		}
		r.agents[i], r.refused[i] = nil, 0
	}
}

// try makes one attempt with its control.
func (r *suite) try(a *Attempt, setup Setup, missing string) (Result, error) {
	result := Result{Name: a.Name(), Route: a.Route, Spelling: a.Spelling, Target: a.Target, Effect: a.Effect,
		ABI:     a.ABI,
		Explain: a.Explain, Reference: a.Reference, Promise: a.Promise}
	if missing == "" && a.Needs != nil {
		missing = a.Needs()
	}
	if missing != "" {
		result.Verdict, result.Control = NotProven, missing
		return result, nil
	}
	setup.Control = true
	begin := time.Now()
	control, err := r.make(a, setup, false, r.deadline(a, 0))
	if err == nil && control.Late && r.slower() {
		begin = time.Now()
		control, err = r.make(a, setup, false, r.deadline(a, 0))
	}
	if err != nil {
		return result, err
	}
	took := time.Since(begin)
	result.Control = control.text()
	if !control.Effect {
		result.Verdict = NotProven
		return result, nil
	}
	if r.log != nil {
		r.log.skip()
	}
	setup.Control = false
	inside, err := r.make(a, setup, true, r.deadline(a, took))
	if err == nil && inside.Late && r.slower() {
		inside, err = r.make(a, setup, true, r.deadline(a, took))
	}
	if err == nil && inside.died {
		inside, err = r.makeAgain(a, setup, r.deadline(a, took), inside)
	}
	if err != nil {
		return result, err
	}
	result.Detail = inside.text()
	r.judge(a, inside, &result)
	return result, nil
}

// makeAgain makes an attempt again that has ended its agent, or during which the agent has
// ended: a launcher may have a limit of time or memory. Only what ends so each time, and of
// a filter, is the launcher's refusal.
func (r *suite) makeAgain(a *Attempt, setup Setup, deadline time.Duration, first done) (done, error) {
	if a.SetupLate != nil && r.Policy != nil && r.Policy.OnMount == policy.OnMountEnd {
		return first, nil // as the policy says
	}
	second, err := r.make(a, setup, true, deadline)
	if err != nil || !second.died {
		return second, err
	}
	if !byFilter(first.status) || !byFilter(second.status) {
		second.Unready = true
		second.Failure = fmt.Sprintf("%v, twice: %s", errAgent, describe(second.status))
	}
	return second, nil
}

// byFilter reports whether a seccomp filter has ended the process, or, by the exit status of
// a launcher that speaks as shells do, what it started.
func byFilter(status unix.WaitStatus) bool {
	const signalled = 128
	return status.Signaled() && status.Signal() == unix.SIGSYS || status.Exited() &&
		status.ExitStatus() == signalled+int(unix.SIGSYS)
}

func describe(status unix.WaitStatus) string {
	if status.Signaled() {
		return unix.SignalName(status.Signal())
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}

func (r *suite) judge(a *Attempt, inside done, result *Result) {
	if inside.Unready {
		result.Verdict = NotProven
		if r.as != nil && r.Policy == nil { // not every launcher is for every user
			result.Control, result.Detail = fmt.Sprintf("inside, as %v: %s", r.as, result.Detail), ""
		}
		return
	}
	if !inside.Effect {
		result.Verdict, result.Layer = Held, r.layer(a, inside)
		if a.Setup != nil && inside.Outcome.Errno == unix.ENOENT {
			result.Layer = "mounts" // what was mounted outside is not there inside
		}
		return
	}
	result.Verdict = Open
	if a.Promise == PromiseOpen && (r.Policy == nil || a.ClosedBy == nil || !a.ClosedBy(*r.Policy)) {
		result.Why = a.Why
	} else if a.Permits != nil && r.Policy != nil {
		result.Why = a.Permits(*r.Policy)
	}
	if result.Why != "" && r.Policy != nil {
		result.Verdict = OpenByPolicy
	}
}

// layer is what refused: the memory capability where nothing else does, the layer that
// the launcher's own log names for this attempt, or else what follows from the errno and
// from what is known of memjail.
func (r *suite) layer(a *Attempt, d done) string {
	if r.dropped && a.ByCapability && d.Outcome.Errno == unix.EACCES {
		return "capability"
	}
	if r.log != nil {
		patience := time.Duration(0)
		if d.Outcome.Errno == unix.EPERM { // what a filter refuses, the kernel does not often
			patience = r.pace.of(logPatience)
		}
		if layer := r.log.layerSoon(d.Outcome.Step, patience); layer != "" {
			return layer
		}
	}
	switch {
	case d.Outcome.Errno == unix.ENOSYS:
		return "seccomp"
	case r.Policy != nil && d.Outcome.Errno == unix.EACCES &&
		(a.Layer == "" || strings.HasPrefix(d.Outcome.Step, "open")):
		return "landlock"
	case r.Policy != nil && a.Layer != "":
		return a.Layer
	}
	return "kernel"
}

func (d done) text() string {
	switch {
	case d.Failure != "":
		return d.Failure
	case d.Effect && d.Outcome.Detail != "":
		return "got through: " + d.Outcome.Detail
	case d.Effect:
		return "got through"
	case d.Outcome.Errno != 0 && !strings.HasSuffix(d.Outcome.Detail, d.Outcome.Errno.Error()):
		return fmt.Sprintf("%s: %s (%s)", d.Outcome.Step, unix.ErrnoName(d.Outcome.Errno), d.Outcome.Detail)
	case d.Outcome.Errno != 0:
		return fmt.Sprintf("%s: %s", d.Outcome.Step, unix.ErrnoName(d.Outcome.Errno))
	case d.Outcome.Step != "":
		return fmt.Sprintf("%s: %s", d.Outcome.Step, d.Outcome.Detail)
	default:
		return "no effect"
	}
}

// unready is what there is to say of an attempt that could not be made.
func unready(a *Attempt, err error) done {
	return done{Name: a.Name(), Failure: err.Error(), Unready: true}
}

// make has an agent make the attempt, with a victim outside where it needs one. An
// error means that no attempt can be made at all.
func (r *suite) make(a *Attempt, setup Setup, inside bool, deadline time.Duration) (done, error) {
	setup.Pace = r.pace
	ag, err := r.agentFor(inside)
	if err != nil && !r.started[index(inside)] && r.as == nil {
		return done{}, err
	}
	if err != nil {
		return unready(a, err), nil
	}
	outside := setup.externalVictim(a, inside)
	if outside == nil && (a.Target == Outside || a.Target == Monitor || a.Target == System) {
		if outside, err = startVictim(r.pace, a.outsideOptions(setup)); err != nil {
			return unready(a, err), nil
		}
		defer outside.End()
	}
	if outside != nil {
		setup.Outside = outside.Victim
		if inside {
			setup.Launcher = ag.launcher
		}
	}
	if a.SetupLate != nil {
		undo, err := a.SetupLate(&setup)
		if err != nil {
			return unready(a, err), nil
		}
		defer undo()
	}
	d, err := ag.do(job{Name: a.Name(), Setup: setup, Deadline: deadline}, deadline+r.pace.of(DefaultTimeout))
	if err != nil {
		// The attempt took its agent, or the whole sandbox, with it.
		status := ag.end()
		r.agents[index(inside)] = nil
		silent := errors.Is(err, errSilent)
		d = done{Name: a.Name(), Failure: err.Error(), Effect: a.Target == Monitor && a.Effect == Disturb &&
			!silent, Unready: silent, Late: silent, status: status}
		d.died = !silent && !d.Effect
	}
	if outside != nil && a.Check == nil && a.Target == Outside {
		if a.Judge != nil && d.Outcome.Done {
			time.Sleep(signalPatience)
		}
		after, stateErr := outside.State()
		d.Effect = a.judge(d.Outcome, after, stateErr != nil)
	}
	return d, nil
}

func index(inside bool) int {
	if inside {
		return 1
	}
	return 0
}

func (r *suite) agentFor(inside bool) (*agent, error) {
	const patience = 3
	i := index(inside)
	if r.agents[i] != nil {
		return r.agents[i], nil
	}
	if r.refused[i] == patience {
		return nil, fmt.Errorf("the probe could not be started %d times in a row, and is not tried again", patience)
	}
	var launcher []string
	if inside {
		launcher = r.Launcher
	}
	a, err := r.startAgent(launcher, r.inherit[i])
	if err != nil {
		r.refused[i]++
		return nil, err
	}
	r.agents[i], r.started[i], r.refused[i] = a, true, 0
	if inside {
		r.dropped = a.dropped
	}
	return a, nil
}

// agent is a running agent, seen from the suite.
type agent struct {
	cmd      *exec.Cmd
	dropped  bool
	launcher int // process number of what was started: the launcher itself
	in       io.WriteCloser
	out      *bufio.Reader
	pipe     *os.File
}

// startDeadline is how long a launcher may take until its agent answers, at the usual
// pace.
const startDeadline = 20 * time.Second

func (r *suite) startAgent(launcher []string, inherit []*os.File) (*agent, error) {
	exe, err := program()
	if err != nil {
		return nil, err
	}
	argv := append(append([]string(nil), launcher...), exe, agentName, exe)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stderr, cmd.ExtraFiles = r.dir, r.Stderr, inherit
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL, Setpgid: true}
	if r.as != nil {
		r.as.start(cmd.SysProcAttr)
	}
	pipe, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout = w
	a := &agent{cmd: cmd, pipe: pipe, out: bufio.NewReader(pipe)}
	if a.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	err = cmd.Start()
	w.Close() // a launcher that ends at once is to be the end of the pipe
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", filepath.Base(argv[0]), err)
	}
	a.launcher = cmd.Process.Pid
	ready, err := a.read(r.pace.of(startDeadline))
	if err != nil {
		a.end()
		return nil, fmt.Errorf("starting the probe under %q: its agent does not answer (%w); does the "+
			"launcher pass on standard input and output, and is %s visible inside?", shellWords(launcher), err, exe)
	}
	a.dropped = ready.Dropped
	return a, nil
}

var (
	errAgent  = errors.New("the sandbox or the probe inside it ended")
	errSilent = errors.New("the probe inside did not answer")
)

func (a *agent) do(j job, patience time.Duration) (done, error) {
	line, err := json.Marshal(j)
	if err != nil {
		return done{}, err
	}
	if _, err := a.in.Write(append(line, '\n')); err != nil {
		return done{}, errAgent
	}
	return a.read(patience)
}

func (a *agent) read(deadline time.Duration) (done, error) {
	var d done
	a.pipe.SetReadDeadline(time.Now().Add(deadline))
	line, err := a.out.ReadBytes('\n')
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return d, fmt.Errorf("%w within %v", errSilent, deadline)
	}
	if err != nil {
		return d, errAgent
	}
	return d, json.Unmarshal(line, &d)
}

// end ends the agent and returns how what was started ended: the launcher.
func (a *agent) end() unix.WaitStatus {
	a.in.Close()
	over := time.AfterFunc(2*time.Second, func() { unix.Kill(-a.cmd.Process.Pid, unix.SIGKILL) })
	a.cmd.Wait()
	over.Stop()
	a.pipe.Close()
	status, _ := a.cmd.ProcessState.Sys().(unix.WaitStatus)
	return status
}

// shellWords prints a command line so that it can be read.
func shellWords(words []string) string {
	text := ""
	for i, w := range words {
		if i > 0 {
			text += " "
		}
		text += w
	}
	return text
}
