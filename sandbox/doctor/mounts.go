package doctor

import (
	"fmt"
	"strings"

	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
	"github.com/memjail/memjail/sandbox/specialfs"
)

// parseMounts reads the table; lines that are not understood are left out.
func parseMounts(text string) []mountinfo.Mount {
	var all []mountinfo.Mount
	for m, err := range mountinfo.Lines(text) {
		if err == nil {
			all = append(all, m)
		}
	}
	return all
}

func (f *facts) unknownMounts(g Finding) Finding {
	g.Value, g.Verdict = "could not tell", Unknown
	g.Why = fmt.Sprintf("Reading /proc/self/mountinfo failed: %v.", f.mountsErr)
	return g
}

// procMounts looks for procfs mounts other than /proc, which are second ways to every
// process's memory.
func (f *facts) procMounts() Finding {
	g := Finding{ID: "proc-mounts", Title: "procfs outside /proc", Value: "none"}
	if f.mountsErr != nil {
		return f.unknownMounts(g)
	}
	proper := false
	var others []string
	for _, m := range f.mounts {
		switch {
		case m.FSType != specialfs.Proc:
		case m.Point == "/proc" && m.Root == "/":
			proper = true
		case strings.HasPrefix(m.Point, "/proc/"): // a part over another part (containers)
		default:
			others = append(others, m.Point)
		}
	}
	switch {
	case !proper:
		g.Value, g.Verdict = "/proc is no procfs", Bad
		g.Why, g.Fix = "Without it memjail cannot find out what it has to close.", "mount -t proc proc /proc"
	case f.foreignProcfs():
		g.Value, g.Verdict = "/proc is another pid namespace's", Warn
		g.Why = "Its process IDs are not those of this pid namespace, so there is no supervisor: all of " +
			"/proc is closed inside, even its harmless files."
		g.Fix = "mount a procfs of this namespace: unshare --fork --pid --mount-proc"
	case len(others) > 0:
		g.Value, g.Verdict = list(others), Warn
		g.Why = "They are closed inside, too, but then nothing can be created in the directories above. " +
			"As root, private-mounts hides them instead."
		g.Fix = "unmount what is not needed"
	}
	return g
}

// foreignProcfs reports whether the procfs shows this process with more than one number:
// then it belongs to a pid namespace above this process's own. A procfs that does not
// show it at all has no status.
func (f *facts) foreignProcfs() bool {
	return f.status != nil && len(strings.Fields(f.status["NSpid"])) > 1
}

// traceMounts looks for the file systems of tracing and debugging anywhere but
// at their customary places, which are closed inside whether mounted or not.
func (f *facts) traceMounts() Finding {
	g := Finding{ID: "trace-mounts", Title: "tracefs, debugfs", Value: "not mounted"}
	if f.mountsErr != nil {
		return f.unknownMounts(g)
	}
	var all, others []string
	for _, m := range f.mounts {
		if m.FSType != "tracefs" && m.FSType != "debugfs" {
			continue
		}
		all = append(all, m.Point)
		if _, customary := specialfs.At(m.Point); customary == "" {
			others = append(others, m.Point)
		}
	}
	if len(all) > 0 {
		g.Value = list(all)
	}
	if len(others) > 0 {
		g.Verdict, g.Fix = Warn, "umount "+list(others)
		g.Why = "They can read any memory. They are closed inside, but then nothing can be created in " +
			"the directories above."
	}
	return g
}

// list writes some of the names; a machine can have thousands of mounts.
func list(names []string) string {
	const most = 5
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
