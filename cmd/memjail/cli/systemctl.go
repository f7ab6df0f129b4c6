package cli

import (
	"bytes"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// command is a systemctl command as a user types it.
func (o *unitOptions) command(words ...string) string {
	if o.place.User {
		words = append([]string{"--user"}, words...)
	}
	return shellWords(append([]string{"systemctl"}, words...))
}

func (o *unitOptions) systemctl(words ...string) error {
	_, err := o.ask(words...)
	return err
}

// show returns a property of a unit.
func (o *unitOptions) show(unit, property string) (string, error) {
	return o.ask("show", "--value", "-p", property, "--", unit)
}

func (o *unitOptions) ask(words ...string) (string, error) {
	if o.place.User {
		words = append([]string{"--user"}, words...)
	}
	cmd := exec.Command("systemctl", words...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is not for it
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		return "", misusedf("%s: %s", shellWords(cmd.Args), firstLine(strings.TrimSpace(stderr.String()), err))
	}
	return strings.TrimSpace(string(text)), nil
}

// journalctl returns what the journal says.
func journalctl(args ...string) (string, error) {
	out, err := exec.Command("journalctl", append([]string{"--no-pager", "--quiet"}, args...)...).Output()
	return string(out), err
}

// monotonicNow is the time since the boot by which systemd tells times, CLOCK_MONOTONIC.
func monotonicNow() (time.Duration, error) {
	var now unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return time.Duration(now.Nano()), err
}
