package policy

import (
	"slices"
)

// capabilityCall is a system call, or some uses of it, that the kernel allows only with
// one of [MemoryCapabilities]. See capabilities(7) and the manual page of the call.
type capabilityCall struct {
	call, capability string // no capability: the kernel's domain refuses it to all
	uses             string // "" is every use
}

// capabilityCalls are those that no other part of the sandbox refuses.
var capabilityCalls = [...]capabilityCall{
	{"clone", "CAP_SYS_ADMIN", "creating namespaces without a new user namespace"},
	{"fanotify_init", "CAP_SYS_ADMIN", "watching whole file systems, and deciding about the access of other processes"},
	{"mknod", "", "creating a device node"},
	{"mknodat", "", "creating a device node"},
	{"prlimit64", limitsCapability.Name, "raising a hard limit"},
	{"quotactl", "CAP_SYS_ADMIN", "setting quotas, and reading those of other users"},
	{"quotactl_fd", "CAP_SYS_ADMIN", "setting quotas, and reading those of other users"},
	{"reboot", "CAP_SYS_BOOT", ""},
	{"setdomainname", "CAP_SYS_ADMIN", ""},
	{"sethostname", "CAP_SYS_ADMIN", ""},
	{"setrlimit", limitsCapability.Name, "raising a hard limit"},
	{"syslog", "CAP_SYSLOG", "everything except what kernel.dmesg_restrict = 0 lets every user read"},
	{"unshare", "CAP_SYS_ADMIN", "creating namespaces without a new user namespace"},
}

// DroppedFor returns the capability that a call, or some uses of it, need and that a sandbox
// with this policy drops. It knows the calls that no other part of the sandbox refuses.
func (p *Policy) DroppedFor(call string) (c Capability, dropped bool) {
	for _, known := range capabilityCalls {
		if known.call == call && p.dropsCapability(known.capability) {
			return ParseCapability(known.capability)
		}
	}
	return Capability{}, false
}

func (p *Policy) dropsCapability(name string) bool {
	return slices.ContainsFunc(p.DroppedCapabilities(), func(c Capability) bool { return c.Name == name })
}

// capability explains a call that the filter allows and that needs a capability, which the
// sandbox drops. It reports whether that decides.
func (e *explainer) capability(name string) bool {
	for _, c := range capabilityCalls {
		if c.call == name && c.capability == "" {
			e.note("refused: %s (no rule of the kernel's domain lets it, with any capability)", c.uses)
		}
		if c.call != name || !e.policy.dropsCapability(c.capability) {
			continue
		}
		if c.uses != "" {
			e.note("refused: %s (it needs %s, which the sandbox drops; capabilities.keep)", c.uses, c.capability)
			continue
		}
		e.decide(false, LayerCapabilities, "capabilities.keep", "", "it needs %s, which the sandbox drops",
			c.capability)
		e.remedy(SetList("capabilities.keep", c.capability))
		e.note("%s also opens memory, and a process without it is refused outside as well", c.capability)
		if e.policy.IPC.Namespaces == NamespacesUser {
			e.note("in a user namespace that it created a process has the capability over what belongs " +
				"to that namespace")
		}
		return true
	}
	return false
}
