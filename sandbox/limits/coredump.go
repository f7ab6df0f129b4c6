package limits

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/memjail/memjail/sandbox/starter"
	"golang.org/x/sys/unix"
)

const (
	coredumpFilter = "/proc/self/coredump_filter"
	corePattern    = "/proc/sys/kernel/core_pattern"
)

// NoCoreDumps returns the limit that keeps core dumps away: 1 also keeps a handler behind a
// pipe from being started. An empty coredump_filter, which is inherited and which nothing
// inside can open, keeps memory out of any dump that happens all the same.
func NoCoreDumps(e Effort) (starter.Limit, error) {
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &now); err != nil {
		return starter.Limit{}, fmt.Errorf("reading the limit RLIMIT_CORE: %w", err)
	}
	limit := min(now.Max, 1)
	none := starter.Limit{Name: "RLIMIT_CORE", Resource: unix.RLIMIT_CORE, Value: unix.Rlimit{Cur: limit, Max: limit}}
	return none, emptyCoreDumps(limit, e)
}

// emptyCoreDumps has dumps hold no memory. Where procfs is read-only, as in other
// sandboxes, the limit RLIMIT_CORE has to do: neither a file nor a pipe (for which the
// value 1 stands for "none", but not 0) gets a dump then, but a socket does, core(5).
func emptyCoreDumps(limit uint64, e Effort) error {
	unwritable := setCoredumpFilter()
	if unwritable == nil {
		return nil
	}
	pattern, err := os.ReadFile(corePattern)
	pipe, socket := strings.HasPrefix(string(pattern), "|"), strings.HasPrefix(string(pattern), "@")
	if err != nil || socket || pipe && limit == 0 {
		return e.DropOrFail("preventing core dumps of memory", unwritable)
	}
	e.Warn(fmt.Sprintf("core dumps are prevented by RLIMIT_CORE only, which the kernel ignores if kernel.core_pattern "+
		"is set to a socket later: %v", unwritable))
	return nil
}

func setCoredumpFilter() error {
	failure := os.WriteFile(coredumpFilter, []byte("0"), 0)
	if failure == nil {
		return nil
	}
	// Inside another memjail it cannot be opened for writing, and is 0 already.
	now, err := os.ReadFile(coredumpFilter)
	if err == nil && strings.Trim(string(now), "0\n") == "" {
		return nil
	}
	return fmt.Errorf("writing %s: %w", coredumpFilter, errnoOf(failure))
}

// errnoOf is the errno in an error, for messages that name the file already.
func errnoOf(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
