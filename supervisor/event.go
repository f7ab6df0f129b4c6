package supervisor

import (
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/memjail/memjail/sandbox/kernel"
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
)

// Event is one refused attempt. Path and Comm come from inside the sandbox and
// can hold anything.
type Event struct {
	Time   time.Time `json:"time"`
	PID    int       `json:"pid"`
	TID    int       `json:"tid"`
	Comm   string    `json:"comm"`
	Call   string    `json:"call"`
	Path   string    `json:"path,omitempty"`
	Access string    `json:"access,omitempty"` // "read", "write"
	Layer  Layer     `json:"layer"`
	Errno  string    `json:"errno"`
	// Reason says what the attempt would have been good for.
	Reason string `json:"reason,omitempty"`
	// Allow says what would allow it; empty: nothing does.
	Allow string `json:"allow,omitempty"`
	// Predicted: the kernel decides after the supervisor has looked, so this is
	// what it will say about the object that was looked at.
	Predicted bool `json:"predicted,omitempty"`
}

// identity is what /proc/TID/status says of a thread.
type identity struct {
	tgid     int
	ownPID   int // the process's number in its own pid namespace
	uid, gid int // of the file system, setfsuid(2)
	groups   []uint32
	caps     kernel.CapSet // in effect
}

// readIdentity reads it; the caller asks afterwards whether the thread is still
// the one that it means.
func readIdentity(tid int) (identity, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(tid) + "/status")
	if err != nil {
		return identity{}, err
	}
	var id identity
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		switch key {
		case "Tgid":
			id.tgid = last(fields)
		case "NStgid":
			id.ownPID = last(fields)
		case "Uid": // real, effective, saved, file system
			id.uid = last(fields)
		case "Gid":
			id.gid = last(fields)
		case "Groups":
			for _, f := range fields {
				g, _ := strconv.ParseUint(f, 10, 32)
				id.groups = append(id.groups, uint32(g))
			}
		case "CapEff":
			set, _ := strconv.ParseUint(strings.TrimSpace(value), 16, 64) // none on a mistake
			id.caps = kernel.CapSet(set)
		}
	}
	return id, nil
}

func last(fields []string) int {
	if len(fields) == 0 {
		return -1
	}
	n, err := strconv.Atoi(fields[len(fields)-1])
	if err != nil {
		return -1
	}
	return n
}

func comm(tid int) string {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(tid) + "/comm")
	if err != nil {
		return "?"
	}
	return strings.TrimSuffix(string(data), "\n")
}
