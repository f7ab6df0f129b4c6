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
	"golang.org/x/sys/unix"
)

// Runner starts commands for the tests of one policy.
type Runner struct {
	// Program is this program, which tries the accesses.
	Program string
	// Inside is what starts a command in the sandbox of the policy: it is followed
	// by the command, and writes to descriptor 3 what "memjail run --status-fd" does.
	Inside []string
	// Tries starts one in the same sandbox with what the trying program needs.
	Tries []string
}

// runTime is how long a test's own program may take.
const runTime = time.Minute

// Tests tries the policy's own tests inside, and outside for the control: a
// refusal that is there without the sandbox as well proves nothing, and neither
// does a permission for what nobody can do.
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
		result := Result{Policy: name, Kind: KindTest, ID: "test/" + t.Name, Value: object(t), Origin: p.Origins.Of("test", t.Name)}
		switch {
		case t.Access == policy.ActionRun:
			run.program(ctx, t, &result)
		case outsideErr != nil || insideErr != nil:
			result.Status, result.What = Unproven, fmt.Sprintf("nothing could be tried: %v", errors.Join(outsideErr, insideErr))
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

// judge holds what happened against what the test expects.
func judge(t policy.Test, outside, inside attempt, result *Result) {
	act := fmt.Sprintf("%s %s", t.Access, object(t))
	result.What = fmt.Sprintf("%s: inside %s, outside %s", act, inside, outside)
	// A call's arguments are wrong on purpose, so its errno is what tells whether
	// it came to the kernel.
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
		result.Fix = "name something that can be done without the sandbox"
	case allowed == (t.Expect == policy.ExpectAllow):
		result.Status = Held
	default:
		result.Status = Failed
		result.Fix = fmt.Sprintf("memjail policy explain %s %s", result.Policy, question(t))
	}
}

// question is the test as policy explain asks it.
func question(t policy.Test) string {
	flag := map[policy.Action]string{policy.ActionRead: "--read", policy.ActionWrite: "--write", policy.ActionExecute: "--exec",
		policy.ActionConnect: "--connect", policy.ActionBind: "--bind",
		policy.ActionSend: "--send", policy.ActionReceive: "--receive", policy.ActionCall: "--call"}[t.Access]
	return flag + " " + object(t)
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
		err = fmt.Errorf("%d of %d accesses were tried", len(results), len(tests))
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

// judgeProgram holds how a program ended against what the test expects. Where the
// sandbox did not start, the program was not stopped by it.
func judgeProgram(t policy.Test, outside, inside ending, result *Result) {
	result.What = fmt.Sprintf("run %s: inside %s, outside %s", object(t), inside.how, outside.how)
	switch {
	case !outside.ok:
		result.Status, result.Fix = Unproven, "name a program that succeeds without the sandbox"
	case inside.unknown:
		result.Status, result.Fix = Unproven, "run it with memjail run to see why it says nothing of the policy"
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
	said, says, err := os.Pipe()
	if err != nil {
		return ending{unknown: true, how: err.Error()}
	}
	defer said.Close()
	if launcher != nil {
		cmd.ExtraFiles = []*os.File{says}
	}
	err = cmd.Run()
	says.Close()
	switch {
	case ctx.Err() != nil:
		return ending{unknown: true, how: "not ended in time"}
	case err == nil:
		return ending{ok: true, how: "status 0"}
	}
	end := ending{how: strings.TrimSpace(err.Error() + " " + lastLine(stderr.String()))}
	end.unknown = launcher != nil && !ranOrRefused(said)
	return end
}

// ranOrRefused reads whose exit status it was: the command's, or memjail's because
// the command could not be executed or found, which the policy can be the reason of.
func ranOrRefused(said *os.File) bool {
	// Who inherited the other end may keep it open for longer than the command.
	if err := said.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return false
	}
	var status struct {
		Who  string `json:"who"`
		Exit int    `json:"exit"`
	}
	const cannotExecute, notFound = 126, 127
	err := json.NewDecoder(said).Decode(&status)
	return err == nil && (status.Who == "command" || status.Exit == cannotExecute || status.Exit == notFound)
}

// lastLine is what a program said last, in brackets.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return "(" + last + ")"
	}
	return ""
}

// Kernel is the release of the running kernel.
func Kernel() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(name.Release[:])
}
