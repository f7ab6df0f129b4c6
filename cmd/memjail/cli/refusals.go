package cli

// allowFlag is the flag that a policy key stands for.
func allowFlag(key string) string {
	switch key {
	case "":
		return ""
	case "memory.access":
		return "--memory allow"
	case "memory.ptrace":
		return "--allow ptrace=children (a debugger's own children) or ptrace=allow"
	case "ipc.namespaces":
		return "--allow namespaces=user"
	case "network.unix":
		return "a [network] without unix"
	case "network.bind-tcp":
		return "--bind-tcp PORT and binding to it, or --bind-tcp 0 (any free port)"
	case "network.connect-tcp":
		return "a [network] without connect-tcp and bind-tcp"
	default:
		return "--allow " + key + "=allow"
	}
}
