package decide

import (
	"strings"
	"sync"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

// Gate is what the kernel checks of an opener besides the file's mode.
type Gate uint8

const (
	// GateNone: nothing; the mode alone decides.
	GateNone Gate = iota
	// GatePtrace: ptrace access to the process (PTRACE_MODE_READ_FSCREDS, see
	// ptrace(2)). The kernel checks only the opener, once, so such a file is
	// opened for its own process, for the process that traces it, and under
	// procfs.processes = "sandbox" for other processes of the sandbox, who must have
	// that access then.
	GatePtrace
)

// Who is whose files a row grants.
type Who uint8

const (
	// Own: the caller's own process and its threads.
	Own Who = iota
	// Any: every process that the procfs shows.
	Any
)

// Grant is a row of the closed table of procfs files that are granted under a policy that
// closes memory. A file that is in no row is granted to no process.
type Grant struct {
	// Class is Process (below /proc/PID and, where it exists there, below
	// /proc/PID/task/TID) or System.
	Class Class
	// Name is a path below the process directory or the procfs root; a last
	// element "*" stands for one name, "**" for one or more.
	Name string
	Gate Gate
	Who  Who
	// Write is a grant to write (and to read and write).
	Write policy.ProcfsWrite
	// Writes: the row is about writing.
	Writes bool
	// IDMap: a file that gives a new user namespace its users and groups. The kernel
	// judges a write by the credentials that the file was opened with, and by the
	// writer's; so it is opened with the caller's own and no further capability. Its process is the
	// caller's own or a child of that.
	IDMap bool
	// Why the row is harmless, for the documentation.
	Why string
}

// grants is the whole table. Most programs open no file of procfs, so it is made for the first.
var grants = sync.OnceValue(buildGrants)

// Grants returns the table, for documentation and tests.
func Grants() []Grant { return append([]Grant(nil), grants()...) }

func buildGrants() []Grant {
	var table []Grant
	add := func(class Class, gate Gate, who Who, why string, names ...string) {
		for _, name := range names {
			table = append(table, Grant{Class: class, Name: name, Gate: gate, Who: who, Why: why})
		}
	}
	add(Process, GateNone, Any, "numbers about the process that every user may read",
		"stat", "status", "statm", "comm", "cgroup", "cpuset", "limits", "oom_score", "oom_adj", "oom_score_adj",
		"schedstat", "sched", "autogroup", "loginuid", "sessionid", "uid_map", "gid_map", "projid_map", "setgroups",
		"mountinfo", "mounts", "wchan", "coredump_filter", "arch_status")
	add(Process, GateNone, Any, "the argument block, which the kernel shows everybody", "cmdline")
	add(Process, GateNone, Own, "the process about itself", "children", "net/**", "timens_offsets", "mountstats",
		"attr/*", "attr/*/*", "ksm_stat", "ksm_merging_pages")
	add(Process, GatePtrace, Own, "the process about itself", "timers", "timerslack_ns", "io", "personality")
	add(Process, GatePtrace, Own, "where things lie in one's own memory, which one can find out without asking",
		"maps", "smaps", "smaps_rollup", "numa_maps", "auxv", "environ", "fdinfo/*")
	for _, write := range []policy.ProcfsWrite{policy.WriteComm, policy.WriteOOMScoreAdj} {
		table = append(table, Grant{Class: Process, Name: write.String(), Who: Own, Write: write, Writes: true,
			Why: "a name and a number of one's own; the kernel asks the writer again"})
	}
	for _, name := range []string{"uid_map", "gid_map", "setgroups"} {
		table = append(table, Grant{Class: Process, Name: name, Who: Own, Writes: true, IDMap: true,
			Why: "the users and groups of a new user namespace; the kernel asks opener and writer for " +
				"the right to give them"})
	}
	add(System, GateNone, Any, "about the system, readable by every user",
		"cpuinfo", "meminfo", "stat", "uptime", "loadavg", "version", "filesystems", "devices", "diskstats",
		"partitions",
		"swaps", "vmstat", "zoneinfo", "buddyinfo", "interrupts", "softirqs", "modules", "misc", "locks", "crypto",
		"cgroups", "cmdline", "config.gz", "consoles", "dma", "execdomains", "fb", "ioports", "key-users", "mdstat",
		"schedstat", "version_signature", "bootconfig", "latency_stats", "pressure/*", "driver/**", "fs/**", "irq/**",
		"tty/**", "sysvipc/*", "asound/**", "acpi/**", "scsi/**", "bus/input/*", "sys/**")
	return table
}

// find returns the row for an object, or nil.
func find(o Object, writing bool) *Grant {
	if !plain(o.Name) {
		return nil
	}
	table := grants()
	for i := range table {
		g := &table[i]
		if g.Class != o.Class || g.Writes != writing ||
			(g.Who == Own && !o.Own && !((o.Member || o.Traced) && g.Gate == GatePtrace) && !(o.Child && g.IDMap)) {
			continue
		}
		if matches(g.Name, o.Name) {
			return g
		}
	}
	return nil
}

// plain reports whether no element of the name leads elsewhere, so that a name which matches
// a pattern lies where the pattern says.
func plain(name string) bool {
	for element := range strings.SplitSeq(name, "/") {
		if element == "" || element == "." || element == ".." {
			return false
		}
	}
	return true
}

func matches(pattern, name string) bool {
	if pattern == name {
		return true
	}
	prefix, found := strings.CutSuffix(pattern, "*")
	if !found {
		return false
	}
	deep := strings.HasSuffix(prefix, "*")
	prefix = strings.TrimSuffix(prefix, "*")
	if head, tail, ok := strings.Cut(prefix, "*/"); ok { // "attr/*/" for "attr/apparmor/current"
		rest, ok := strings.CutPrefix(name, head)
		if !ok {
			return false
		}
		_, rest, ok = strings.Cut(rest, "/")
		return ok && strings.HasPrefix(rest, tail) && validTail(rest[len(tail):], deep)
	}
	rest, ok := strings.CutPrefix(name, prefix)
	return ok && validTail(rest, deep)
}

func validTail(rest string, deep bool) bool {
	return rest != "" && (deep || !strings.Contains(rest, "/"))
}

// openFlags are the flags of open(2) whose effect on a procfs file the supervisor can
// reproduce exactly; a call with any other is left to the kernel.
const openFlags = unix.O_ACCMODE | unix.O_CREAT | unix.O_TRUNC | unix.O_APPEND | unix.O_NONBLOCK | unix.O_CLOEXEC |
	unix.O_NOCTTY | unix.O_NOFOLLOW | largeFile | unix.O_SYNC | unix.O_DSYNC | unix.O_NOATIME

// Open decides an open. What is not clearly in the table is left to the kernel, whose domain
// refuses all of procfs.
func Open(r Request, o Object, p *policy.Policy) Verdict {
	kernel := Continue{DecidedBy: ByLandlock}
	if o.Class != Process && o.Class != System {
		return kernel
	}
	if r.Flags&^openFlags != 0 || r.Flags&unix.O_ACCMODE == unix.O_ACCMODE {
		return kernel
	}
	if r.Resolve&^(unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS) != 0 {
		return kernel
	}
	g := find(o, r.Writing())
	switch {
	case g == nil:
		return kernel
	case !g.Writes && (p.Memory.Access != policy.AccessDeny || r.Flags&unix.O_TRUNC != 0):
		return kernel
	case g.IDMap && p.IPC.Namespaces != policy.NamespacesUser:
		return kernel
	case g.Writes && !g.IDMap && !writable(p, g.Write):
		return kernel
	case g.Class == System && p.Procfs.System == policy.SystemNone:
		return kernel
	case g.Who == Own && !o.Own && !o.Traced && !(o.Child && g.IDMap) && p.Procfs.Processes != policy.ProcessesSandbox:
		return kernel
	}
	return Inject{Grant: g}
}

// DependsOnMembership reports whether the open is granted only if the object's process
// is in the sandbox.
func DependsOnMembership(r Request, o Object, p *policy.Policy) bool {
	if _, granted := Open(r, o, p).(Inject); granted {
		return false
	}
	o.Member = true
	_, granted := Open(r, o, p).(Inject)
	return granted
}

// DependsOnTracer reports whether an open that is not granted otherwise is if the caller traces
// the object's process. No process traces another where the policy forbids it.
func DependsOnTracer(r Request, o Object, p *policy.Policy) bool {
	if p.Memory.Ptrace == policy.PtraceDeny {
		return false
	}
	o.Traced = true
	_, granted := Open(r, o, p).(Inject)
	return granted
}

// DependsOnParent reports whether the open is granted only if the object's process is a child
// of the caller in a new user namespace.
func DependsOnParent(r Request, o Object, p *policy.Policy) bool {
	if o.Own || !r.Writing() {
		return false
	}
	o.Child = true
	_, granted := Open(r, o, p).(Inject)
	return granted
}

func writable(p *policy.Policy, w policy.ProcfsWrite) bool {
	for _, granted := range p.Procfs.Write {
		if granted == w {
			return true
		}
	}
	return false
}

// WorldReadable reports whether the table grants a file of procfs, named below its root, to all
// processes for reading, whoever opened it: such a descriptor may be passed into a sandbox.
func WorldReadable(below string) bool {
	o := Object{Class: System, Name: below}
	if first, rest, _ := strings.Cut(below, "/"); first != "" && first[0] >= '0' && first[0] <= '9' {
		o = Object{Class: Process, Name: rest}
	}
	g := find(o, false)
	return g != nil && g.Gate == GateNone && g.Who == Any
}
