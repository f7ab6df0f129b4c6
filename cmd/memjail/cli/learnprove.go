package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/report"
	"github.com/memjail/memjail/supervisor"
)

// maxCompared bounds how much of an output is kept to be compared, in bytes.
const maxCompared = 16 << 20

// outcome is one run of a command.
type outcome struct {
	status   int
	out, err bytes.Buffer
}

// differs names what two outcomes differ in; empty: nothing.
func (o *outcome) differs(other *outcome) []string {
	var found []string
	if o.status != other.status {
		found = append(found, fmt.Sprintf("exit status %d instead of %d", other.status, o.status))
	}
	if !bytes.Equal(o.out.Bytes(), other.out.Bytes()) {
		found = append(found, "standard output")
	}
	if !bytes.Equal(o.err.Bytes(), other.err.Bytes()) {
		found = append(found, "standard error")
	}
	return found
}

// limitedBuffer keeps the beginning of what is written to it.
type limitedBuffer struct{ *bytes.Buffer }

func (b limitedBuffer) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:max(0, min(len(p), maxCompared-b.Len()))])
	return len(p), nil
}

// prover runs a command several times: to learn, under what was learned, and, if these
// differ, once more without path rules.
type prover struct {
	options *learnOptions
	command []string
	env     []string
	io      streams
}

// run runs memjail with the arguments before the command. show passes on what it prints.
func (p *prover) run(show bool, args ...string) (*outcome, error) {
	var o outcome
	cmd := exec.Command("/proc/self/exe", append(append(args, "--"), p.command...)...)
	cmd.Args[0], cmd.Env, cmd.Stdin = "memjail", p.env, p.stdin()
	cmd.Stdout, cmd.Stderr = limitedBuffer{&o.out}, limitedBuffer{&o.err}
	if show {
		cmd.Stdout, cmd.Stderr = io.MultiWriter(p.io.out, cmd.Stdout), io.MultiWriter(p.io.err, cmd.Stderr)
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, fmt.Errorf("running memjail again: %w", err)
	}
	o.status = cmd.ProcessState.ExitCode()
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		o.status = exitSignal + int(ws.Signal())
	}
	return &o, nil
}

// stdin is that of each run: a file from its beginning, anything else only once, for the
// first.
func (p *prover) stdin() io.Reader {
	if st, err := os.Stdin.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil
	}
	os.Stdin.Seek(0, io.SeekStart)
	return os.Stdin
}

// prove learns and then runs the command again under the policy.
func (p *prover) prove() error {
	args := []string{"learn", "--quiet", "--output", p.options.output}
	if p.options.secrets {
		args = append(args, "--secrets")
	}
	learned, err := p.run(true, args...)
	if err != nil {
		return err
	}
	if _, err := os.Stat(p.options.output); err != nil { // it did not come to a policy, and has said why
		return statusError(learned.status)
	}
	log, err := os.CreateTemp("", "memjail-learn-")
	if err != nil {
		return fmt.Errorf("--prove: %w", err)
	}
	defer os.Remove(log.Name())
	defer log.Close()
	under, err := p.run(false, "run", "--quiet", "-p", withSlash(p.options.output), "--log", log.Name(),
		"--log-format", "json")
	if err != nil {
		return err
	}
	p.printRefused(log)
	differences := learned.differs(under)
	if len(differences) > 0 {
		again, err := p.run(false, "run", "--quiet")
		if err != nil {
			return err
		}
		if len(again.differs(under)) == 0 {
			fmt.Fprintf(p.io.err, "memjail: proven: under %s CMD does what it does without (its first "+
				"run differs from any other)\n", p.options.output)
			return nil
		}
		if len(learned.differs(again)) > 0 {
			fmt.Fprintf(p.io.err, "memjail: two runs of CMD differ without any rules, too (%s), so the "+
				"following may mean nothing\n",
				strings.Join(learned.differs(again), ", "))
		}
	}
	if len(differences) == 0 {
		fmt.Fprintf(p.io.err, "memjail: proven: under %s CMD has the same exit status and output\n", p.options.output)
		return nil
	}
	fmt.Fprintf(p.io.err, "memjail: under %s CMD differs: %s\n", p.options.output, strings.Join(differences, ", "))
	return statusError(exitFinding)
}

// printRefused prints what the log says was refused.
func (p *prover) printRefused(log io.Reader) {
	lines := json.NewDecoder(log)
	const most = 10
	seen := map[string]bool{}
	for {
		var e supervisor.Event
		if lines.Decode(&e) != nil {
			return
		}
		if e.Call == "" { // one of memjail's warnings
			continue
		}
		text := fmt.Sprintf("%s: %s %s", e.Comm, e.Call, policy.ShellWord(e.Path))
		if seen[text] {
			continue
		}
		seen[text] = true
		if len(seen) > most {
			fmt.Fprintln(p.io.err, "memjail: refused: more")
			return
		}
		fmt.Fprintf(p.io.err, "memjail: refused: %s; to allow it: %s\n", report.Printable(text),
			report.Printable(e.Allow))
	}
}
