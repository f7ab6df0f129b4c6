package probe

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/memjail/memjail/sandbox/capability"
	"github.com/memjail/memjail/sandbox/kernel/attack"
	"golang.org/x/sys/unix"
)

// job is what the suite asks an agent for, one JSON object a line.
type job struct {
	Name  string `json:"name"`
	Setup Setup  `json:"setup"`
	// Deadline is how long it may take.
	Deadline time.Duration `json:"deadline"`
}

// done is the agent's answer.
type done struct {
	Name    string  `json:"name"`
	PID     int     `json:"pid"` // of the runner
	Outcome Outcome `json:"outcome"`
	// Effect: it came about, as far as can be judged inside.
	Effect bool `json:"effect"`
	// Failure: the attempt itself could not be made, or did not end in time.
	Failure string `json:"failure,omitempty"`
	// Unready: the failure is the suite's, from before the attempt began.
	Unready bool `json:"unready,omitempty"`
	// Late: it did not end in time.
	Late bool `json:"late,omitempty"`
	// Dropped, in an agent's first answer: it has dropped the memory capability.
	Dropped bool `json:"dropped,omitempty"`

	// died: the agent ended, or the whole sandbox; status is the launcher's then.
	died   bool
	status unix.WaitStatus
}

// Serve is the part of this program as which the suite starts it again. main calls it
// before anything else, in every program that calls [Run], with the command line without
// the program's name, the standard streams, and a catalogue that has the attempts of that
// Run. mine is false if the arguments are not for it.
func Serve(args []string, in io.Reader, out, stderr io.Writer, catalogue Catalogue) (status int, mine bool) {
	if len(args) == 0 {
		return 0, false
	}
	var err error
	switch args[0] {
	case victimName:
		err = victimMain(args[1:], in, out)
	case agentName:
		err = agentMain(args[1:], in, out)
	case runnerName:
		err = runnerMain(args[1:], out, catalogue)
	case attackerName:
		err = attackerMain(args[1:], out, catalogue)
	default:
		return 0, false
	}
	if err != nil {
		fmt.Fprintf(stderr, "probe: %s: %v\n", args[0], err)
		return 1, true
	}
	return 0, true
}

// agentMain carries out the jobs on its input, each in a separate process, so that an
// attempt that crashes or hangs ends nothing else. Its argument is the path by
// which the launcher was asked to start this program.
func agentMain(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 1 {
		return unix.EINVAL
	}
	if err := os.Setenv(programVariable, args[0]); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	enc := json.NewEncoder(out)
	dropped, err := capability.Dropped()
	if err != nil { // it cannot be asked; it decides nothing but a layer's name
		dropped = false
	}
	if err := enc.Encode(done{Name: agentName, PID: os.Getpid(), Dropped: dropped}); err != nil { // ready
		return err
	}
	for lines.Scan() {
		var j job
		if err := json.Unmarshal(lines.Bytes(), &j); err != nil {
			return fmt.Errorf("reading a job: %w", err)
		}
		if err := enc.Encode(startRunner(j)); err != nil {
			return err
		}
	}
	return lines.Err()
}

// startRunner starts the runner of one attempt and waits for it, up to its deadline.
func startRunner(j job) done {
	d := done{Name: j.Name, Unready: true}
	cmd, err := self(runnerName, j.Name, newToken())
	if err != nil {
		d.Failure = err.Error()
		return d
	}
	env, err := j.Setup.environment()
	if err != nil {
		d.Failure = err.Error()
		return d
	}
	cmd.Env = append(os.Environ(), env)
	cmd.SysProcAttr.Setpgid = true
	cmd.Stderr = nil
	var output bytes.Buffer
	cmd.Stdout = &output
	cmd.WaitDelay = time.Second // a victim that holds the pipe
	if err := cmd.Start(); err != nil {
		d.Failure = fmt.Sprintf("starting the attempt: %v", err)
		return d
	}
	d.PID, d.Unready = cmd.Process.Pid, false
	deadline := time.AfterFunc(j.Deadline, func() { unix.Kill(-cmd.Process.Pid, unix.SIGKILL) })
	err = cmd.Wait()
	if !deadline.Stop() {
		// Whether it would have got through is not known.
		d.Failure, d.Unready, d.Late = fmt.Sprintf("it did not end within %v", j.Deadline), true, true
		return d
	}
	unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // what it left behind; ESRCH: nothing
	if jsonErr := json.Unmarshal(output.Bytes(), &d); jsonErr != nil {
		d.Failure = endOf(err)
	}
	return d
}

func endOf(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "the attempt ended without an answer: " + exit.String()
	}
	return "the attempt ended without an answer"
}

// newEnv is what runner and attacker begin with.
func newEnv(name string, catalogue Catalogue) (*Env, error) {
	// Attempts change rights, namespaces and tracers of a thread.
	runtime.LockOSThread()
	debug.SetGCPercent(-1) // what raw calls point to stays; these processes are short-lived
	setup, err := readSetup()
	if err != nil {
		return nil, err
	}
	a, err := catalogue.find(name)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(setup.Scratch(), "attempt-")
	if err != nil {
		return nil, err
	}
	if err := os.Chdir(dir); err != nil { // where core files go
		return nil, err
	}
	return &Env{Setup: setup, Attempt: a, Dir: dir}, nil
}

// runnerMain makes the victims of an attempt, has it made, and judges it.
func runnerMain(args []string, out io.Writer, catalogue Catalogue) error {
	if len(args) != 2 {
		return unix.EINVAL
	}
	answer := func(s *Env, d done, err error) error {
		if s != nil {
			removeDir(s.Dir)
		}
		d.Name, d.PID = args[0], os.Getpid()
		if err != nil {
			d.Failure = err.Error()
		}
		return json.NewEncoder(out).Encode(d)
	}
	s, err := newEnv(args[0], catalogue)
	if err != nil {
		return answer(nil, done{Unready: true}, err)
	}
	d, err := s.makeAttempt(func(d done, err error) {
		answer(s, d, err) // an error cannot be reported anywhere else
	})
	return answer(s, d, err)
}

// makeAttempt makes the attempt on this thread and judges it. If that ends the thread, and
// nothing but the thread, its outcome is passed to afterDeath.
func (s *Env) makeAttempt(afterDeath func(done, error)) (done, error) {
	d := done{Unready: true}
	var err error
	if s.own, err = newMemory(""); err != nil {
		return d, err
	}
	v := s.own.victim
	state := func() (State, error) { return s.own.state(), nil }
	switch s.Attempt.Target {
	case Thread:
		v.TID = anotherThread()
	case Child, Sibling:
		p, err := startVictim(s.Pace, VictimOptions{})
		if err != nil {
			return d, err
		}
		defer p.End()
		v, state = p.Victim, p.State
	case Outside, Monitor:
		v, state = s.Outside, func() (State, error) { return State{}, nil }
	}
	if s.Attempt.Target == Parent || s.Attempt.Target == Sibling {
		o, err := s.byAttacker(v)
		if err != nil {
			return done{}, err
		}
		return s.finish(v, o, state)
	}
	stop := onThreadDeath(func() { afterDeath(s.finish(v, killed, state)) })
	o := s.attack(v)
	stop()
	return s.finish(v, o, state)
}

// finish judges an attempt that has been made.
func (s *Env) finish(v Victim, o Outcome, state func() (State, error)) (done, error) {
	d := done{Outcome: o}
	if o.Unready {
		d.Unready, d.Failure = true, o.Detail
		return d, nil
	}
	after, err := state()
	if err != nil && !s.Attempt.survives() {
		return d, err
	}
	d.Effect = s.judge(v, d.Outcome, after, err != nil)
	return d, nil
}

// judge reports whether the effect came about. What an attacker reports to have read
// is compared with the canary.
func (s *Env) judge(v Victim, o Outcome, after State, gone bool) bool {
	if s.Attempt.Check != nil {
		return s.Attempt.Check(s, v, o)
	}
	return s.Attempt.judge(o, after, gone)
}

// judgeCanary reports by the victim's own word whether an effect on its memory came about.
func judgeCanary(e Effect, o Outcome, after State) bool {
	switch e {
	case Read:
		canary, err := hex.DecodeString(after.Canary)
		return err == nil && len(canary) == CanarySize && bytes.HasPrefix(o.Data, canary)
	case Write: // the page that is shared counts as memory as well
		return after.Changed[string(Write)] || after.Changed[string(Obtain)]
	case WriteRO, WriteCode:
		return after.Changed[string(e)]
	default:
		return o.Done
	}
}

// byAttacker has the attack made by a child of this process.
func (s *Env) byAttacker(v Victim) (Outcome, error) {
	var o Outcome
	text, err := json.Marshal(v)
	if err != nil {
		return o, err
	}
	cmd, err := self(attackerName, s.Attempt.Name(), string(text))
	if err != nil {
		return o, err
	}
	output, err := cmd.Output()
	if jsonErr := json.Unmarshal(output, &o); jsonErr != nil {
		return o, errors.New(endOf(err))
	}
	return o, nil
}

// attackerMain makes an attack that another process than the runner has to make.
func attackerMain(args []string, out io.Writer, catalogue Catalogue) error {
	if len(args) != 2 {
		return unix.EINVAL
	}
	s, err := newEnv(args[0], catalogue)
	if err != nil {
		return json.NewEncoder(out).Encode(Outcome{Unready: true, Detail: err.Error()})
	}
	defer removeDir(s.Dir)
	var v Victim
	if err := json.Unmarshal([]byte(args[1]), &v); err != nil {
		return err
	}
	stop := onThreadDeath(func() {
		json.NewEncoder(out).Encode(killed) // an error cannot be reported anywhere else
	})
	o := s.attack(v)
	stop()
	return json.NewEncoder(out).Encode(o)
}

// killed is the outcome of an attempt in which the kernel ended the attacking thread,
// as filters do that answer a call with SECCOMP_RET_KILL_THREAD.
var killed = Outcome{Step: "killed", Detail: "the kernel ended the thread that made the attempt"}

// onThreadDeath calls what it is given when the calling thread ends before stop is
// called, and then ends the process: main cannot, since it waits for that thread, and
// whoever started the process reads its answer. The runtime loses what it had lent to the
// thread that ended, so the watcher has a separate thread.
func onThreadDeath(then func()) (stop func()) {
	runtime.GOMAXPROCS(max(4, runtime.GOMAXPROCS(0)))
	ended := attack.ThreadEnd()
	var stopped atomic.Bool
	go func() {
		runtime.LockOSThread()
		for !stopped.Load() {
			if ended() {
				then()
				unix.Kill(os.Getpid(), unix.SIGKILL)
			}
			unix.Nanosleep(&unix.Timespec{Nsec: 10e6}, nil) // EINTR: it looks earlier
		}
	}()
	return func() { stopped.Store(true) }
}

// anotherThread starts a thread that sleeps as long as the process lives.
func anotherThread() int {
	tid := make(chan int)
	go func() {
		runtime.LockOSThread()
		tid <- unix.Gettid()
		time.Sleep(time.Hour)
	}()
	return <-tid
}
