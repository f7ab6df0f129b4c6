package supervisor

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/supervisor/resolve"
	"golang.org/x/sys/unix"
)

// Layer is what refused an attempt.
type Layer string

const (
	// Landlock: the kernel's domain refused the object.
	Landlock Layer = "landlock"
	// Seccomp: the filter refused the call.
	Seccomp Layer = "seccomp"
	// Policy: the supervisor knows that the policy gives it to nobody.
	Policy Layer = "policy"
	// Mounts: the sandbox's private view shows the object read-only.
	Mounts Layer = "mounts"
	// Capabilities: the kernel refused the call without a capability, which the sandbox drops.
	Capabilities Layer = "capabilities"
)

// Event is one refused attempt. Path and Comm come from inside the sandbox and
// can hold anything.
type Event struct {
	Time time.Time `json:"time"`
	// Policy is the name of the policy.
	Policy string `json:"policy"`
	PID    int    `json:"pid"`
	TID    int    `json:"tid"`
	Comm   string `json:"comm"`
	Call   string `json:"call"`
	Path   string `json:"path,omitempty"`
	Access string `json:"access,omitempty"` // "read", "write"
	// Target is what Path leads to, absolute and without symbolic links, where that is known.
	Target string `json:"target,omitempty"`
	// Use is the access more exactly, where that is known: names are made and removed, too.
	Use   Access `json:"use,omitempty"`
	Layer Layer  `json:"layer"`
	Errno string `json:"errno"`
	// Reason is what the attempt would have allowed.
	Reason string `json:"reason,omitempty"`
	// Rule is the key of the policy that decides, such as "memory.access".
	Rule string `json:"rule,omitempty"`
	// Remedy would allow it; none: nothing does.
	Remedy policy.Remedy `json:"remedy,omitzero"`
	// Harmless is why programs do without what was refused; empty: they may not.
	Harmless string `json:"harmless,omitempty"`
	// Predicted: the kernel decides after the supervisor has looked, so this is
	// what it will say about the object that was looked at.
	Predicted bool `json:"predicted,omitempty"`
}

// identity is a thread's identity as /proc/TID/status shows it.
type identity struct {
	tid       int
	tgid      int
	ownPID    int // the process's number in its own pid namespace
	parent    int // process
	euid      int
	egid      int
	tracer    int // the thread that traces it, or 0
	filters   int // of seccomp; -1: not known
	uid, gid  int // of the file system, setfsuid(2)
	groups    []uint32
	effective namespaceCaps
	// permitted are those that it can put into effect.
	permitted namespaceCaps
}

// namespaceCaps are capabilities in a thread's own user namespace, which may be one that
// it has made itself. What they are worth elsewhere says [receiver.capsHere] alone.
type namespaceCaps kernel.CapSet

// statusSize is the length in bytes of a thread's status with about a hundred groups; a
// longer one is read in pieces.
const statusSize = 4096

// readIdentity reads it; the caller asks afterwards whether the thread is still
// the one that it means. It goes around package os, which makes a dozen calls of
// these three.
func readIdentity(procfs *resolve.Procfs, tid int) (identity, error) {
	fd, err := procfs.OpenThread(tid, "status", unix.O_RDONLY)
	if err != nil {
		return identity{}, err
	}
	defer unix.Close(fd)
	var room [statusSize]byte
	text := room[:0]
	for {
		if len(text) == cap(text) {
			text = append(text, make([]byte, statusSize)...)[:len(text)]
		}
		n, err := unix.Read(fd, text[len(text):cap(text)])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return identity{}, err
		}
		text = text[:len(text)+n]
		// The file is one record of seq_file, so a short reading has all of it.
		if n == 0 || len(text) < cap(text) {
			id := parseIdentity(text)
			if id.tgid < 0 || id.uid < 0 || id.gid < 0 || id.euid < 0 || id.egid < 0 {
				return identity{}, unix.EINVAL // nobody is taken for root because a line is missing
			}
			id.tid = tid
			return id, nil
		}
	}
}

// parseIdentity reads the lines of a status file, proc_pid_status(5).
func parseIdentity(text []byte) identity {
	id := identity{tgid: -1, ownPID: -1, parent: -1, euid: -1, egid: -1, tracer: -1, filters: -1, uid: -1, gid: -1}
	for len(text) > 0 {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte{'\n'})
		key, value, _ := bytes.Cut(line, []byte{':'})
		switch string(key) {
		case "Tgid":
			id.tgid = last(value)
		case "NStgid":
			id.ownPID = last(value)
		case "PPid":
			id.parent = last(value)
		case "Seccomp_filters":
			id.filters = last(value)
		case "TracerPid":
			id.tracer = last(value)
		case "Uid": // real, effective, saved, file system
			id.euid, id.uid = second(value), last(value)
		case "Gid":
			id.egid, id.gid = second(value), last(value)
		case "Groups":
			for field := range bytes.FieldsSeq(value) {
				if g, err := strconv.ParseUint(string(field), 10, 32); err == nil {
					id.groups = append(id.groups, uint32(g))
				}
			}
		case "CapPrm":
			id.permitted = namespaceCaps(capSet(value))
		case "CapEff":
			id.effective = namespaceCaps(capSet(value))
		}
	}
	return id
}

// capSet reads a set of capabilities; it is empty on a mistake.
func capSet(value []byte) kernel.CapSet {
	set, _ := strconv.ParseUint(string(bytes.TrimSpace(value)), 16, 64)
	return kernel.CapSet(set)
}

// second returns the second number of a line, or -1.
func second(value []byte) int {
	value = bytes.TrimSpace(value)
	_, rest, _ := bytes.Cut(value, []byte{'\t'})
	number, _, _ := bytes.Cut(rest, []byte{'\t'})
	return last(number)
}

// last returns the last number of a line, or -1.
func last(value []byte) int {
	value = bytes.TrimSpace(value)
	n, err := strconv.Atoi(string(value[bytes.LastIndexByte(value, '\t')+1:]))
	if err != nil || n < 0 {
		return -1
	}
	return n
}

func comm(procfs *resolve.Procfs, tid int) string {
	fd, err := procfs.OpenThread(tid, "comm", unix.O_RDONLY)
	if err != nil {
		return "?"
	}
	defer unix.Close(fd)
	var name [64]byte
	n, err := unix.Read(fd, name[:])
	if err != nil {
		return "?"
	}
	return strings.TrimSuffix(string(name[:n]), "\n")
}
