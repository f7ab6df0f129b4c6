package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// The names under which this program is started again, as its first argument.
const (
	victimName   = "probe-victim"
	directorName = "probe-director"
	attackerName = "probe-attacker"
	agentName    = "probe-agent"
)

// Stage is what is prepared outside for a whole run, before the sandbox starts.
// Directors and attackers know it by the environment variable stageVariable.
type Stage struct {
	// Dir is a directory for files, reachable from inside.
	Dir string `json:"dir"`
	// Mounts is a directory for mount points. Nothing ever removes it recursively:
	// what is mounted there may be the machine's own file system.
	Mounts string `json:"mounts,omitempty"`
	// Made says where what was prepared is, by the preparations' own names.
	Made map[string]string `json:"made,omitempty"`
	// Guests are victims outside that were prepared, by attempt: one for the
	// control, one for the sandbox.
	Guests map[string][2]Victim `json:"guests,omitempty"`
	// Outside is the victim outside.
	Outside Victim `json:"outside"`
	// Launcher is the number of the process that the launcher was started as, 0 in
	// the control.
	Launcher int `json:"launcher,omitempty"`
	// Pace is how slow the machine is.
	Pace pace `json:"pace"`
	// Control: this is the run without a sandbox.
	Control bool `json:"control"`
	// Prepared says which preparations were made, by attempt name.
	Prepared map[string]bool `json:"prepared"`

	backstage // the runner's own side
}

const stageVariable = "MEMJAIL_PROBE_STAGE"

func (s *Stage) environment() (string, error) {
	text, err := json.Marshal(s)
	return stageVariable + "=" + string(text), err
}

func readStage() (*Stage, error) {
	var s Stage
	if err := json.Unmarshal([]byte(os.Getenv(stageVariable)), &s); err != nil {
		return nil, fmt.Errorf("reading the stage from %s: %w", stageVariable, err)
	}
	return &s, nil
}

// Scene is what one attempt works with, in director and attacker.
type Scene struct {
	*Stage
	Attempt *Attempt
	// Dir is a directory of this attempt's own, writable, removed afterwards.
	Dir string
	own *memory // the canaries of this process
}

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
