package cli

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/doctor"
	"github.com/memjail/memjail/sandbox/report"
	"golang.org/x/sys/unix"
)

// Exit statuses. Those of run are the command's own otherwise.
const (
	exitOK         = 0
	exitFinding    = 1   // doctor: something is bad; probe: something is open
	exitMisused    = 2   // probe: usage or policy
	exitUnproven   = 3   // probe: something that was asked for could not be proven
	exitFailed     = 125 // memjail itself: usage, policy, kernel, setup
	exitCannotExec = 126 // the command cannot be executed
	exitNotFound   = 127 // the command was not found
	exitSignal     = 128 // + n: the command died of signal n
)

// exitStatus maps errors to exit statuses.
func exitStatus(err error) int {
	var probing *probeError
	if errors.As(err, &probing) {
		return probing.status
	}
	var command *sandbox.CommandError
	if !errors.As(err, &command) {
		return exitFailed
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOENT) {
		return exitNotFound
	}
	return exitCannotExec
}

// oneLine keeps a message in one line, so that it is not mistaken for the command's output;
// the errors of a policy file are one line each. What it quotes may be anything.
func oneLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	for i, line := range lines {
		lines[i] = report.Printable(strings.TrimRight(line, "\r"))
	}
	return strings.Join(lines, "\nmemjail: ")
}

// lastWords are what is said about an error by a process that cannot return.
func lastWords(err error) (text string, status int) {
	return "memjail: " + oneLine(err.Error()) + "\n", exitStatus(err)
}

func runDoctor(io streams, asJSON bool) error {
	findings := doctor.Examine(doctor.Here())
	var err error
	if asJSON {
		err = doctor.JSON(io.out, findings)
	} else {
		err = doctor.Text(io.out, findings, isTerminal(io.out))
	}
	if err == nil && doctor.Worst(findings) == doctor.Bad {
		err = statusError(exitFinding)
	}
	return err
}
