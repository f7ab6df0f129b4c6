package policy

import (
	"slices"
	"strings"
)

// Capability is one of the capabilities that open memory: a process with it can get around
// what protects memory. See capabilities(7).
type Capability struct {
	Name string // as in capabilities(7): "CAP_SYS_PTRACE"
	Bit  uint   // its number, for masks and prctl(PR_CAPBSET_DROP)
}

// memoryCapabilities is the one list of them, sorted by name.
var memoryCapabilities = [...]Capability{
	{"CAP_BPF", 39},                // programs that read any memory
	{"CAP_CHECKPOINT_RESTORE", 40}, // /proc/PID/map_files of others, the links of their exe
	{"CAP_DAC_READ_SEARCH", 2},     // open_by_handle_at reaches what no rule granted
	{"CAP_MAC_ADMIN", 33},          // changes what the security modules enforce
	{"CAP_MAC_OVERRIDE", 32},       // gets around what they enforce
	{"CAP_MKNOD", 27},              // a new device node for any driver
	{"CAP_PERFMON", 38},            // read-only access to other address spaces (5.9, 6.15)
	{"CAP_SYSLOG", 34},             // kernel addresses
	{"CAP_SYS_ADMIN", 21},          // mounts, namespaces, most of the others
	{"CAP_SYS_BOOT", 22},           // kexec: another kernel in this one's memory
	{"CAP_SYS_MODULE", 16},         // code in the kernel
	{"CAP_SYS_PTRACE", 19},         // tracing any process
	{"CAP_SYS_RAWIO", 17},          // /dev/mem, I/O ports, MSRs
}

// MemoryCapabilities lists the capabilities that a sandbox drops, also from the bounding
// set, unless the policy keeps them. They are sorted by name. The caller owns the slice.
func MemoryCapabilities() []Capability {
	all := memoryCapabilities
	return all[:]
}

// limitsCapability lifts every hard limit, setrlimit(2).
var limitsCapability = Capability{"CAP_SYS_RESOURCE", 24}

// KeepableCapabilities lists the capabilities that capabilities.keep can name: those of
// [MemoryCapabilities], and the one that a policy with limits drops. They are sorted by
// name. The caller owns the slice.
func KeepableCapabilities() []Capability {
	all := append(MemoryCapabilities(), limitsCapability)
	slices.SortFunc(all, func(a, b Capability) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// DroppedCapabilities lists those that a sandbox with this policy drops, also from the
// bounding set.
func (p *Policy) DroppedCapabilities() []Capability {
	return slices.DeleteFunc(KeepableCapabilities(), func(c Capability) bool {
		return slices.Contains(p.Capabilities.Keep, c.Name) || c == limitsCapability && len(p.Limits) == 0
	})
}

// ParseCapability returns the one of [KeepableCapabilities] with this name, in any case and
// with or without "CAP_"; ok is false if there is none.
func ParseCapability(s string) (c Capability, ok bool) {
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "CAP_") {
		name = "CAP_" + name
	}
	for _, c := range KeepableCapabilities() {
		if c.Name == name {
			return c, true
		}
	}
	return Capability{}, false
}
