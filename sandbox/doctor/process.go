package doctor

import (
	"io/fs"
	"strconv"
	"strings"

	"github.com/memjail/memjail/policy"
)

// parseStatus reads the fields of /proc/PID/status (proc_pid_status(5)).
func parseStatus(text string) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			fields[name] = strings.TrimSpace(value)
		}
	}
	return fields
}

// effective are the capabilities that this process has; ok is false if the
// status does not say it.
func (f *facts) effective() (mask uint64, ok bool) {
	mask, err := strconv.ParseUint(f.status["CapEff"], 16, 64)
	return mask, err == nil
}

func (f *facts) holds(capability string) bool {
	mask, _ := f.effective()
	c, ok := policy.ParseCapability(capability)
	return ok && mask&(1<<c.Bit) != 0
}

// root reports whether this process has uid 0 in effect.
func (f *facts) root() bool {
	uids := strings.Fields(f.status["Uid"])
	return len(uids) > 1 && uids[1] == "0"
}

// sameIDs reports whether real, effective and saved IDs are the same.
func (f *facts) sameIDs() bool {
	for _, key := range []string{"Uid", "Gid"} {
		ids := strings.Fields(f.status[key])
		if len(ids) > 2 && (ids[0] != ids[1] || ids[1] != ids[2]) {
			return false
		}
	}
	return true
}

func (f *facts) privileges() Finding {
	g := Finding{ID: "privileges", Title: "this process"}
	if _, ok := f.effective(); !ok {
		g.Value, g.Verdict, g.Why = "could not tell", Unknown, "/proc/self/status could not be read."
		return g
	}
	var held []string
	for _, c := range policy.MemoryCapabilities() {
		if f.holds(c.Name) {
			held = append(held, c.Name)
		}
	}
	g.Value = "ordinary user"
	if f.root() {
		g.Value = "root"
	}
	if len(held) > 0 {
		g.Value += ", " + strconv.Itoa(len(held)) + " capabilities"
		g.Why = "They give access to memory. Dropped inside, unless the policy keeps them: " +
			strings.Join(held, " ") + "."
	}
	return g
}

// filters reports whether seccomp filters are already installed. Whether one of them has a
// listener can only be found out by trying to add another.
func (f *facts) filters() Finding {
	g := Finding{ID: "filters", Title: "seccomp filters above", Value: "none"}
	switch n, mode := f.status["Seccomp_filters"], f.status["Seccomp"]; {
	case f.status == nil:
		g.Value, g.Verdict, g.Why = "could not tell", Unknown, "/proc/self/status could not be read."
	case mode == "0" || mode == "" || n == "0":
	default:
		g.Value, g.Verdict = n, Unknown
		if n == "" {
			g.Value = "some"
		}
		g.Why = "If one of them has a listener (another memjail, some container managers), the sandbox " +
			"cannot have a supervisor; only a trial shows whether one has."
	}
	return g
}

// container looks for the marks that container managers leave. It is a hint for the reader;
// nothing depends on it.
func (f *facts) container() Finding {
	g := Finding{ID: "container", Title: "container", Value: "no sign of one"}
	if text, err := f.text("run/systemd/container"); err == nil && text != "" {
		g.Value = "yes (" + text + ")"
		return g
	}
	for _, mark := range []struct{ path, name string }{{".dockerenv", "docker"}, {"run/.containerenv", "podman"}} {
		if _, err := fs.Stat(f.Root, mark.path); err == nil {
			g.Value = "yes (" + mark.name + ")"
			return g
		}
	}
	text, _ := f.text("proc/self/cgroup")
	for _, mark := range []string{"kubepods", "docker", "libpod", "lxc", "containerd"} {
		if strings.Contains(text, mark) {
			g.Value = "yes (" + mark + ")"
		}
	}
	return g
}
