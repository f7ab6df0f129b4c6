package supervisor

import (
	"strings"

	"golang.org/x/sys/unix"
)

// harmlessRefusals are refusals that the programs which meet them do without.
var harmlessRefusals = []struct {
	matches func(e *Event, args *[6]uint64) bool
	why     string
}{
	{func(e *Event, _ *[6]uint64) bool {
		return e.Rule == "memory.access" && strings.HasSuffix(e.Path, "/coredump_filter")
	},
		"Java chooses what a core dump would hold, and there is none"},
	// Programs that make sockets for themselves rarely ask for all of these flags at once (the
	// GNU C library; musl's, without the last one, asks like everybody).
	{func(e *Event, args *[6]uint64) bool {
		return e.Call == "socket" && args[0] == unix.AF_UNIX &&
			args[1] == unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK
	},
		"the C library looks for a name server cache (nscd) first, and goes on without"},
	{func(e *Event, _ *[6]uint64) bool {
		return strings.HasSuffix(e.Call, "setxattr") && e.Errno == "ENOTSUP" && e.Reason != unreadableReason
	},
		"what copies files goes on without their access control lists"},
	{func(e *Event, _ *[6]uint64) bool { return e.Call == "clone3" && e.Rule == "" },
		"the C library calls clone then, whose flags can be seen"},
	{func(e *Event, _ *[6]uint64) bool { return e.Call == "io_uring_setup" },
		"most programs go on without rings, as on a kernel that has none"},
	{func(e *Event, _ *[6]uint64) bool { return strings.Contains(e.Target, "/go/telemetry") },
		"the Go tools count their own use there, and go on without"},
}

// harmless is why a refusal does no harm to common programs that meet it; "": it may.
func harmless(e *Event, args *[6]uint64) string {
	for _, h := range harmlessRefusals {
		if h.matches(e, args) {
			return h.why
		}
	}
	return ""
}
