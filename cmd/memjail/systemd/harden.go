package systemd

import (
	"slices"
	"strings"
)

// Policy is what hardening has to know of a policy.
type Policy struct {
	// Writable are the paths that it lets be written; nil: there are no rules for paths.
	Writable []string
	// NoWritableCode: memory.writable-code = "deny".
	NoWritableCode bool
	// Tried: each option is tried, so that those count, too, that services usually do without.
	Tried bool
	// Clock: it lets the clock be set.
	Clock bool
}

// rootsCapabilities are those that services of root use, and memjail's supervisor.
const rootsCapabilities = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_NET_BIND_SERVICE CAP_SETGID " +
	"CAP_SETUID CAP_SYS_CHROOT CAP_SYS_PTRACE"

// Hardening are options of systemd that a policy implies and the unit does not set, in the
// order in which they are to be tried: what is refused to the service by memjail anyway, or
// by the policy's rules for paths.
func (u *Unit) Hardening(p Policy) []Setting {
	var all []Setting
	add := func(key, value string) {
		if len(u.list(key)) == 0 {
			all = append(all, Setting{Section: "Service", Key: key, Value: value})
		}
	}
	for _, key := range []string{"NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectKernelTunables",
		"ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectHostname",
		"RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID", "LockPersonality"} {
		add(key, "yes")
	}
	if !p.Clock {
		add("ProtectClock", "yes")
	}
	inHomes := func(path string) bool { return isBelow(path, "/home") || isBelow(path, "/root") }
	if !slices.ContainsFunc(p.Writable, inHomes) {
		add("ProtectHome", "yes")
	}
	if p.NoWritableCode {
		add("MemoryDenyWriteExecute", "yes")
	}
	add("SystemCallArchitectures", "native")
	add("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK")
	add("CapabilityBoundingSet", u.neededCapabilities(p))
	if len(u.list("ProtectSystem")) == 0 {
		if p.Writable == nil {
			add("ProtectSystem", "full")
		} else {
			all = append(all, Setting{Section: "Service", Key: "ProtectSystem", Value: "strict"})
			if paths := unitPaths(p.Writable); paths != "" {
				all = append(all, Setting{Section: "Service", Key: "ReadWritePaths", Value: paths})
			}
		}
	}
	add("ProtectProc", "invisible")
	add("KeyringMode", "private")
	add("RemoveIPC", "yes")
	if len(u.list("SystemCallFilter")) == 0 {
		all = append(all, Setting{Section: "Service", Key: "SystemCallFilter", Value: "@system-service"},
			Setting{Section: "Service", Key: "SystemCallErrorNumber", Value: "EPERM"})
	}
	if p.Tried {
		all = append(all, u.usual(p)...)
	}
	return all
}

// usual are options that most services do with, and some do not.
func (u *Unit) usual(p Policy) []Setting {
	var all []Setting
	add := func(key, value string) { all = append(all, Setting{Section: "Service", Key: key, Value: value}) }
	for key, value := range map[string]string{"UMask": "0027", "ProcSubset": "pid",
		"RestrictAddressFamilies": "~AF_NETLINK"} {
		if len(u.list(key)) == 0 {
			add(key, value)
		}
	}
	slices.SortFunc(all, func(a, b Setting) int { return strings.Compare(a.Key, b.Key) })
	if len(u.list("UMask")) == 0 {
		add("UMask", "0077") // after the other, which stays where this one fails
	}
	if len(u.list("MemoryDenyWriteExecute")) == 0 && !p.NoWritableCode {
		add("MemoryDenyWriteExecute", "yes")
	}
	if len(u.list("SystemCallFilter")) == 0 {
		add("SystemCallFilter", "~@resources")
	}
	if len(u.list("CapabilityBoundingSet")) == 0 && u.asRoot() {
		add("CapabilityBoundingSet", "~CAP_SYS_CHROOT")
		add("CapabilityBoundingSet", "~CAP_NET_BIND_SERVICE")
	}
	return all
}

// neededCapabilities are those that a service keeps: an ordinary user's only what it is given.
func (u *Unit) neededCapabilities(p Policy) string {
	names := rootsCapabilities
	if !u.asRoot() {
		names = ""
	}
	if p.Clock {
		names += " CAP_SYS_TIME CAP_SYS_NICE CAP_SYS_RESOURCE CAP_IPC_LOCK CAP_NET_BIND_SERVICE"
	}
	for _, s := range u.list("AmbientCapabilities") {
		if !strings.HasPrefix(s.Value, "~") {
			names += " " + s.Value
		}
	}
	return strings.TrimSpace(names)
}

// unitPaths writes paths for ReadWritePaths=; those that are missing are left out at the start.
func unitPaths(paths []string) string {
	var words []string
	for _, path := range paths {
		path = strings.TrimPrefix(path, "?")
		if strings.HasPrefix(path, "/") && path != "/tmp" && path != "/var/tmp" {
			words = append(words, quoteWord("-"+path, false))
		}
	}
	return strings.Join(words, " ")
}

// Steps groups settings that only work together, so that each step can be tried by itself.
func Steps(settings []Setting) [][]Setting {
	var steps [][]Setting
	for _, s := range settings {
		last := len(steps) - 1
		if s.Key == "ReadWritePaths" || s.Key == "SystemCallErrorNumber" {
			steps[last] = append(steps[last], s)
			continue
		}
		steps = append(steps, []Setting{s})
	}
	return steps
}
