package supervisor

import "strings"

// harmlessRefusals are refusals that the programs which meet them do without.
var harmlessRefusals = []struct {
	matches func(e *Event) bool
	why     string
}{
	{func(e *Event) bool { return e.Rule == "memory.access" && strings.HasSuffix(e.Path, "/coredump_filter") },
		"Java chooses what a core dump would hold, and there is none"},
	{func(e *Event) bool { return e.Call == "socket" && e.Rule == "network.unix" },
		"the C library looks for a name server cache (nscd) first, and goes on without"},
	{func(e *Event) bool { return strings.HasSuffix(e.Call, "setxattr") && e.Errno == "ENOTSUP" },
		"what copies files goes on without their access control lists"},
	{func(e *Event) bool { return strings.Contains(e.Target, "/go/telemetry") },
		"the Go tools count their own use there, and go on without"},
}

// harmless is why a refusal does no harm to common programs that meet it; "": it may.
func harmless(e *Event) string {
	for _, h := range harmlessRefusals {
		if h.matches(e) {
			return h.why
		}
	}
	return ""
}
