package cli

import "golang.org/x/sys/unix"

// allowFlag returns the flag that loosens a policy key for a call with these arguments.
func allowFlag(key string, args [6]uint64) string {
	switch key {
	case "":
		return ""
	case "memory.access":
		return "--memory allow"
	case "memory.ptrace":
		// A program that asks to be traced needs no more. LeakSanitizer, like a debugger
		// that attaches, does not ask.
		if args[0] == unix.PTRACE_TRACEME {
			return "--allow ptrace=children"
		}
		return "--allow ptrace=allow"
	case "ipc.namespaces":
		// A program that wants mounts too can make none in any namespace.
		if args[0]&unix.CLONE_NEWNS != 0 {
			return ""
		}
		return "--allow namespaces=user"
	case "network.unix":
		return `--unix all (in a policy: network.unix = "all")`
	case "network.bind-tcp":
		return "--bind-tcp PORT and binding to it, or --bind-tcp 0 (any free port)"
	case "network.connect-udp":
		return "a [network] without connect-udp and bind-udp"
	case "network.connect-tcp":
		return "a [network] without connect-tcp and bind-tcp"
	default:
		return "--allow " + key + "=allow"
	}
}
