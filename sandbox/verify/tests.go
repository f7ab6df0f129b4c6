package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/memjail/memjail/policy"
)

// Runner starts commands for the tests of one policy.
type Runner struct {
	// Program is this program, which tries the accesses.
	Program string
	// Inside starts the command that follows it in the sandbox of the policy, and writes
	// to descriptor 3 what "memjail run --status-fd" does.
	Inside []string
	// Tries does so in the same sandbox, with what Program needs besides.
	Tries []string
	// NoPrograms leaves out the tests that run a program of their own, which are executed
	// without a sandbox as well: they are not proven.
	NoPrograms bool
}

// runTime is how long a test's own program may take.
const runTime = time.Minute

// Tests tries the policy's own tests inside, and outside as the control: a refusal that
// happens without the sandbox as well proves nothing.
func (r *Report) Tests(ctx context.Context, name string, p policy.Policy, run Runner) {
	var tried []policy.Test
	for _, t := range p.Tests {
		if t.Access != policy.ActionRun {
			tried = append(tried, t)
		}
	}
	outside, outsideErr := run.try(ctx, nil, tried)
	inside, insideErr := run.try(ctx, run.Tries, tried)
	next := 0
	for _, t := range p.Tests {
		result := Result{Policy: name, Kind: KindTest, ID: "test/" + t.Name, Value: object(t),
			Origin: p.Origins.Of("test", t.Name)}
		switch {
		case t.Access == policy.ActionRun && run.NoPrograms:
			result.Status, result.What = Unproven, fmt.Sprintf("run %s: left out", object(t))
		case t.Access == policy.ActionRun:
			run.program(ctx, t, &result)
		case outsideErr != nil || insideErr != nil:
			result.Status, result.What = Unproven, fmt.Sprintf("the tests could not be run: %v",
				errors.Join(outsideErr, insideErr))
		default:
			judge(t, outside[next], inside[next], &result)
		}
		if t.Access != policy.ActionRun {
			next++
		}
		r.Results = append(r.Results, result)
	}
}

// object is what a test is about.
func object(t policy.Test) string {
	switch t.Access {
	case policy.ActionConnect, policy.ActionBind, policy.ActionSend, policy.ActionReceive:
		return fmt.Sprint(t.Port)
	case policy.ActionCall:
		return t.Call
	case policy.ActionRun:
		return strings.Join(t.Run, " ")
	}
	return t.Path
}

// judge compares what happened with what the test expects.
func judge(t policy.Test, outside, inside attempt, result *Result) {
	act := fmt.Sprintf("%s %s", t.Access, object(t))
	result.What = fmt.Sprintf("%s: inside %s, outside %s", act, inside, outside)
	// A call's arguments are wrong on purpose, so its errno shows whether the call
	// reached the kernel.
	allowed := inside.Done
	possible := outside.Done
	if t.Access == policy.ActionCall {
		allowed, possible = inside == outside, true
		if !outside.Done && (outside.Errno == "ENOSYS" || outside.Errno == "EPERM") {
			possible = false
		}
	}
	switch {
	case inside.Untried != "" || outside.Untried != "", !possible:
		result.Status = Unproven
		result.Fix = "test something that succeeds without the sandbox"
	case allowed == (t.Expect == policy.ExpectAllow):
		result.Status = Held
	default:
		result.Status = Failed
		result.Fix = fmt.Sprintf("memjail policy explain %s %s", policy.ShellWord(result.Policy), question(t))
	}
}

// question is the test as arguments of policy explain.
func question(t policy.Test) string {
	flag := map[policy.Action]string{policy.ActionRead: "--read", policy.ActionWrite: "--write",
		policy.ActionExecute: "--exec",
		policy.ActionConnect: "--connect", policy.ActionBind: "--bind",
		policy.ActionSend: "--send", policy.ActionReceive: "--receive", policy.ActionCall: "--call"}[t.Access]
	return flag + " " + policy.ShellWord(object(t))
}

// try has this program try the accesses, started by launcher; nil is outside.
func (run Runner) try(ctx context.Context, launcher []string, tests []policy.Test) ([]attempt, error) {
	if len(tests) == 0 {
		return nil, nil
	}
	list, err := json.Marshal(tests)
	if err != nil {
		return nil, err
	}
	argv := append(append([]string{}, launcher...), run.Program, tryName)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = bytes.NewReader(list)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var results []attempt
	if err == nil {
		err = json.Unmarshal(out, &results)
	}
	if err == nil && len(results) != len(tests) {
		err = fmt.Errorf("only %d of %d accesses were tried", len(results), len(tests))
	}
	if err != nil {
		return nil, fmt.Errorf("%w %s", err, lastLine(stderr.String()))
	}
	return results, nil
}

// program runs a test's own program inside and outside.
func (run Runner) program(ctx context.Context, t policy.Test, result *Result) {
	judgeProgram(t, start(ctx, nil, t.Run), start(ctx, run.Inside, t.Run), result)
}

// judgeProgram compares how a program ended with what the test expects. A sandbox that
// did not start has not stopped the program.
func judgeProgram(t policy.Test, outside, inside ending, result *Result) {
	result.What = fmt.Sprintf("run %s: inside %s, outside %s", object(t), inside.how, outside.how)
	switch {
	case !outside.ok:
		result.Status, result.Fix = Unproven, "test a program that succeeds without the sandbox"
	case inside.unknown:
		result.Status, result.Fix = Unproven, "run it with memjail run to see why it did not finish"
	case inside.ok == (t.Expect == policy.ExpectAllow):
		result.Status = Held
	default:
		result.Status, result.Fix = Failed, "run it with memjail run -v to see what was refused"
	}
}

// ending is how a program ended.
type ending struct {
	ok      bool   // with status 0
	unknown bool   // it did not run, or not to its end, for a reason that is not the policy's
	how     string // in words
}

// start runs a program to its end, by launcher if that is not nil.
func start(ctx context.Context, launcher, argv []string) ending {
	ctx, cancel := context.WithTimeout(ctx, runTime)
	defer cancel()
	argv = append(append([]string{}, launcher...), argv...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = time.Second
	status, statusEnd, err := os.Pipe()
	if err != nil {
		return ending{unknown: true, how: err.Error()}
	}
	defer status.Close()
	if launcher != nil {
		cmd.ExtraFiles = []*os.File{statusEnd}
	}
	err = cmd.Run()
	statusEnd.Close()
	switch {
	case ctx.Err() != nil:
		return ending{unknown: true, how: "still running when its time was over"}
	case err == nil:
		return ending{ok: true, how: "status 0"}
	}
	end := ending{how: strings.TrimSpace(err.Error() + " " + lastLine(stderr.String()))}
	end.unknown = launcher != nil && !ranOrRefused(status)
	return end
}

// ranOrRefused reports whether the exit status was the command's, or memjail's because
// the command could not be executed or found, which the policy may have caused.
func ranOrRefused(status *os.File) bool {
	// A process that inherited the other end may keep it open longer than the command.
	if err := status.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return false
	}
	var ended struct {
		Who  string `json:"who"`
		Exit int    `json:"exit"`
	}
	const cannotExecute, notFound = 126, 127
	err := json.NewDecoder(status).Decode(&ended)
	return err == nil && (ended.Who == "command" || ended.Exit == cannotExecute || ended.Exit == notFound)
}

// lastLine is a program's last line of output, in parentheses.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return "(" + last + ")"
	}
	return ""
}
