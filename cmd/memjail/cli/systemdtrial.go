package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/memjail/memjail/cmd/memjail/systemd"
)

// trialTime is how long systemd may take to start memjail once.
const trialTime = 30 * time.Second

// tryStart has the running systemd start memjail as the unit would, before anything is
// written. Where that cannot be tried, only the unit's options are judged.
func (o *unitOptions) tryStart(u *systemd.Unit, w systemd.Wrapping, io streams) error {
	args := u.Trial(w)
	if len(args) == 0 || o.place.Root != "" || !o.managerRuns() {
		return nil
	}
	if o.place.User {
		args = append([]string{"--user"}, args...)
	}
	for {
		output, err := systemdRun(args)
		var exit *exec.ExitError
		switch {
		case err == nil:
			return nil
		case dropUnknown(&args, output):
			continue
		case !errors.As(err, &exit), strings.HasPrefix(output, "Failed to "):
			fmt.Fprintf(io.err, "memjail: could not try whether %s can start memjail: %s\n", u.Name,
				firstLine(output, err))
			return nil
		}
		return misusedf("nothing was written: as %s would start it, \"memjail exec -- memjail version\" "+
			"ends with status %d: %s\n"+
			"for details: systemd-run %s\n(--force writes the drop-in anyway)", u.Name, exit.ExitCode(),
			trialReason(exit.ExitCode(), output, w.Memjail), shellQuoted(args))
	}
}

// managerRuns reports whether a systemd runs that can be asked.
func (o *unitOptions) managerRuns() bool {
	dir := "/run/systemd/system" // sd_booted(3)
	if o.place.User {
		dir = o.place.RuntimeDir + "/systemd/private"
	} else if os.Geteuid() != 0 {
		return false
	}
	_, err := os.Stat(dir)
	return err == nil
}

func systemdRun(args []string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), trialTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemd-run", args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// unknownOption begins what systemd-run says of an option that transient units lack.
const unknownOption = "Unknown assignment: "

// dropUnknown leaves out an option that systemd-run does not know, and reports whether
// there was one.
func dropUnknown(args *[]string, output string) bool {
	_, assignment, found := strings.Cut(output, unknownOption)
	key, _, _ := strings.Cut(assignment, "=")
	if !found || key == "" {
		return false
	}
	kept := make([]string, 0, len(*args))
	for _, arg := range *args {
		if !strings.HasPrefix(arg, "--property="+key+"=") {
			kept = append(kept, arg)
		}
	}
	dropped := len(kept) < len(*args)
	*args = kept
	return dropped
}

// trialReason explains a status of systemd.exec(5), or returns memjail's own message.
func trialReason(status int, output, memjail string) string {
	const exec, chroot, namespace = 203, 210, 226
	switch {
	case output != "":
		return firstLine(output, nil)
	case status == exec:
		return "it cannot execute " + memjail + ": install -m 755 " + memjail +
			" /usr/local/bin/memjail, and --memjail /usr/local/bin/memjail"
	case status == chroot:
		return "its root directory cannot be entered"
	case status == namespace:
		return "its view of the files cannot be made"
	}
	return "see the journal"
}

func firstLine(output string, err error) string {
	if output == "" {
		return fmt.Sprint(err)
	}
	line, _, _ := strings.Cut(output, "\n")
	return line
}
