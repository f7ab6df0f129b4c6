package cli

import (
	"slices"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/learn"
	"github.com/memjail/memjail/sandbox/report"
	"github.com/memjail/memjail/supervisor"
)

// advice is what would allow everything that was refused, as a person would write it: the
// directory that a program uses instead of file after file.
type advice struct {
	flags []string
	// withheld are refusals that are better not lifted.
	withheld []learn.Withheld
}

// adviseOn combines the refusals. What is not about a path keeps its own flag.
func adviseOn(events []supervisor.Event, places learn.Places) advice {
	var a advice
	recorder := learn.NewRecorder()
	for _, e := range events {
		if e.Target != "" {
			recorder.Observe(observationOf(e))
			continue
		}
		flag := allowFlags(e)
		if strings.HasPrefix(flag, "--") && !strings.Contains(flag, ";") && !slices.Contains(a.flags, flag) {
			a.flags = append(a.flags, flag)
		}
	}
	proposal := recorder.Propose(learn.Options{Places: places})
	var paths []string
	for _, g := range proposal.Grants {
		paths = append(paths, "--"+g.Rights.String()+" "+policy.ShellWord(g.Path))
	}
	a.flags = append(paths, a.flags...)
	a.withheld = proposal.Withheld
	return a
}

// repeats reports whether the advice says no more than the event does.
func (a *advice) repeats(e supervisor.Event) bool {
	return len(a.flags) == 0 || len(a.flags) == 1 && a.flags[0] == allowFlags(e)
}

// allowFlags is what would allow a refusal on the command line.
func allowFlags(e supervisor.Event) string {
	flags, _, _ := strings.Cut(e.Allow, " (in a policy: ")
	return flags
}

func observationOf(e supervisor.Event) supervisor.Observation {
	access := e.Use
	if access == "" {
		access = supervisor.Access(e.Access)
	}
	return supervisor.Observation{Comm: e.Comm, Access: access, Path: e.Target}
}

// careful is why what would allow a refusal is dangerous; "" if it is not.
func careful(e supervisor.Event, places learn.Places) string {
	if e.Target == "" {
		return ""
	}
	a := adviseOn([]supervisor.Event{e}, places)
	if len(a.withheld) == 0 {
		return ""
	}
	return report.Printable(a.withheld[0].Why)
}

// harmless is why a refusal does no harm to common programs that meet it; "": it may.
func harmless(e supervisor.Event) string {
	switch {
	case e.Rule == "memory.access" && strings.HasSuffix(e.Path, "/coredump_filter"):
		return "Java chooses what a core dump would hold, and there is none"
	case e.Call == "socket" && e.Rule == "network.unix" || e.Call == "socket" &&
		strings.HasPrefix(e.Allow, "--network unix"):
		return "the C library looks for a name server cache (nscd) first, and goes on without"
	}
	return ""
}
