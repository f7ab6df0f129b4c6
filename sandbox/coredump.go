package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	coredumpFilter = "/proc/self/coredump_filter"
	corePattern    = "/proc/sys/kernel/core_pattern"
)

// emptyCoreDumps has dumps hold no memory. Where procfs is read-only, as in other
// sandboxes, the limit RLIMIT_CORE has to do: neither a file nor a pipe (for which the
// value 1 stands for "none", but not 0) gets a dump then, but a socket does, core(5).
func (p *Plan) emptyCoreDumps(limit uint64) error {
	unwritable := setCoredumpFilter()
	if unwritable == nil {
		return nil
	}
	pattern, err := os.ReadFile(corePattern)
	pipe, socket := strings.HasPrefix(string(pattern), "|"), strings.HasPrefix(string(pattern), "@")
	if err != nil || socket || pipe && limit == 0 {
		return p.cannot("keeping memory out of core dumps", unwritable)
	}
	p.Warnings = append(p.Warnings, fmt.Sprintf("only the limit RLIMIT_CORE keeps core dumps away, which kernel.core_pattern would go past "+
		"if somebody set it to a socket meanwhile: %v", unwritable))
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
