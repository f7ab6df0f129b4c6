package probe

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// The names under which this program is started again, as its first argument.
const (
	victimName   = "probe-victim"
	runnerName   = "probe-runner"
	attackerName = "probe-attacker"
	agentName    = "probe-agent"
)

// Env is what an attempt works with inside, in the runner and in the attacker.
type Env struct {
	*Setup
	Attempt *Attempt
	// Dir is a writable directory of this attempt alone, which is removed afterwards. It
	// is the working directory.
	Dir string
	own *memory // the canaries of this process
}

// Own returns this process as a victim. Attempts on a [Parent] or a [Sibling] are made
// by a process that is none, and must not call it.
func (s *Env) Own() Victim { return s.own.victim }

// Canary returns the bytes that are at the addresses of [Env.Own].
func (s *Env) Canary() []byte { return s.own.canary }

// programVariable names this program to what is started from it inside, where
// /proc/self/exe may not be there to be asked.
const programVariable = "MEMJAIL_PROBE_PROGRAM"

// program is the file that this program was started from.
func program() (string, error) {
	exe, err := os.Executable()
	if err == nil {
		return exe, nil
	}
	if named := os.Getenv(programVariable); named != "" {
		return named, nil
	}
	return "", fmt.Errorf("finding the probe's own program: %w", err)
}

// self is this program, to be started again.
func self(args ...string) (*exec.Cmd, error) {
	exe, err := program()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, args...)
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return cmd, nil
}

func errnoOf(err error) (unix.Errno, bool) {
	var errno unix.Errno
	return errno, errors.As(err, &errno)
}
