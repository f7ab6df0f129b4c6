package session

import (
	"os"
	"strconv"
	"strings"

	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// remaining waits for the processes that the command left behind, and kills them where
// that is wanted. Since this process is their reaper, they are its descendants; so is a
// successor, which ends by itself when they have.
func (s *session) remaining() {
	for {
		if s.options.Remaining == RemainingKilled || s.killedByMount.Load() {
			s.killDescendants(os.Getpid())
		}
		pid, err := unix.Wait4(-1, nil, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil { // ECHILD: nobody is left
			return
		}
		if s.successor != nil && pid == s.successor.pid {
			s.successor.ended = true
		}
	}
}

func (s *session) killDescendants(of int) {
	for _, pid := range children(of) {
		if s.successor != nil && pid == s.successor.pid {
			continue
		}
		s.killDescendants(pid)
		unix.Kill(pid, unix.SIGKILL)
	}
}

// children lists the processes whose parent is pid. A number is not used again
// before this process, as their reaper, has waited for them or their parent has.
func children(pid int) []int {
	if kernel.ProveOwnProcfs() != nil {
		return nil // its numbers are those of other processes
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []int
	for _, entry := range entries {
		n, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err != nil {
			continue
		}
		// The name in parentheses can contain anything; the parent is the second
		// field behind its end.
		_, after, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')'):]), ") ")
		if fields := strings.Fields(after); len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			found = append(found, n)
		}
	}
	return found
}
