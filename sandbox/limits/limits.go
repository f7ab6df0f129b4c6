// Package limits decides about the resource limits of a program: those of its policy, the
// one that keeps core dumps away, and those that memjail raised for itself.
package limits

import (
	"errors"
	"fmt"

	"github.com/memjail/memjail/sandbox/kernel/early"
	"github.com/memjail/memjail/sandbox/starter"
	"golang.org/x/sys/unix"
)

// Effort handles limits that cannot be applied.
type Effort interface {
	// DropOrFail returns an error to fail with, or nil to continue without the limit.
	DropOrFail(what string, err error) error
	// Warn adds a line that is shown at the start.
	Warn(text string)
}

// Raise raises the limits of this process that stand in the way of preparing a start, as
// far as it may, and returns them as they were, for the program to get back: how many
// descriptors the rules take, or how long a copy of a program is, is not its business.
func Raise() []starter.Limit {
	var open unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &open); err == nil && open.Cur < enoughDescriptors {
		raise(unix.RLIMIT_NOFILE, open.Max, enoughDescriptors)
	}
	before := AtEntry()
	var size unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_FSIZE, nil, &size); err == nil && size.Cur != unix.RLIM_INFINITY {
		raise(unix.RLIMIT_FSIZE, size.Max, unix.RLIM_INFINITY)
		before = append(before, starter.Limit{Name: "RLIMIT_FSIZE", Resource: unix.RLIMIT_FSIZE, Value: size})
	}
	return before
}

// AtEntry returns the limits that this process was started with and that the Go runtime, or
// this program for the runtime's sake, has changed.
func AtEntry() []starter.Limit {
	before := []starter.Limit{OpenFiles()}
	if as, raised := early.AddressSpace(); raised {
		before = append(before, starter.Limit{Name: "RLIMIT_AS", Resource: unix.RLIMIT_AS,
			Value: unix.Rlimit{Cur: as[0], Max: as[1]}})
	}
	return before
}

// OpenFiles returns the limit of open files that memjail was started with; the Go runtime
// raises it.
func OpenFiles() starter.Limit {
	return starter.Limit{Name: "RLIMIT_NOFILE", Resource: unix.RLIMIT_NOFILE,
		Value: unix.Rlimit{Cur: early.Nofile[0], Max: early.Nofile[1]}}
}

// enoughDescriptors is a number of descriptors that rules for a system of the usual kind
// do not take.
const enoughDescriptors = 1024

// raise raises a limit to wanted, or where that is not allowed to the hard limit.
func raise(resource int, hard, wanted uint64) {
	if hard >= wanted || unix.Prlimit(0, resource, &unix.Rlimit{Cur: wanted, Max: wanted}, nil) != nil {
		unix.Prlimit(0, resource, &unix.Rlimit{Cur: hard, Max: hard}, nil)
	}
}

// Hint names the limit that an error of a start has met, for a user to raise; empty:
// it is no such error.
func Hint(err error) string {
	switch {
	case errors.Is(err, unix.EMFILE):
		return fmt.Sprintf(": RLIMIT_NOFILE (ulimit -n) is %d, and memjail needs about 100 descriptors, "+
			"more with many path rules: raise it",
			early.Nofile[1])
	case errors.Is(err, unix.EAGAIN):
		return ": RLIMIT_NPROC (ulimit -u) or the cgroup's limit (TasksMax=, pids.max) is too low for " +
			"memjail's processes: raise it"
	case errors.Is(err, unix.EFBIG):
		return ": RLIMIT_FSIZE (ulimit -f) is too low: raise it"
	}
	return ""
}
