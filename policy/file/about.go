package file

import (
	"slices"

	"github.com/memjail/memjail/policy"
)

// about describes each key in a sentence, and each table; docs/policy.md has the details.
// A test compares it with the table of keys.
var about = map[string]string{
	"version":            "Version of the format: 1.",
	"extends":            "Layers below this file, the lowest first: names of policies, and files.",
	"min-abi":            "Refuse to start on kernels with a lower Landlock ABI; 0 starts on any.",
	"private-mounts":     "Own mount namespace, as root: covers instances of procfs and tracefs other than /proc.",
	"on-mount":           "What happens if procfs or the like is mounted from outside where the sandbox can reach it.",
	"on-supervisor-exit": "What happens to the command if the supervisor ends before it.",

	"memory":                "Access to the memory of processes.",
	"memory.access":         "Access to the memory of any process, including the calling one.",
	"memory.ptrace":         "Tracing processes: debuggers, strace.",
	"memory.code-files":     "Whether the system's program and library directories are read-only.",
	"memory.anonymous-exec": "Executing a memfd, a file in no directory.",
	"memory.writable-code":  "Executing memory that the program has written; deny breaks Java, node and browsers.",
	"memory.shared-files":   "Memory that processes share through a file; deny breaks Java and databases.",
	"memory.core-dumps":     "Core dumps: files with the memory of a process that crashed.",
	"memory.pin":            "Run the command and its libraries from copies that nobody outside can change, as root.",

	"procfs":           "Files of /proc that are granted although /proc as a whole is closed.",
	"procfs.processes": "Processes whose maps, environ and the like may be read.",
	"procfs.write":     "Files of its own in /proc that a process may write.",
	"procfs.system":    "Files of /proc that describe the system: cpuinfo, meminfo, sys, ...",

	"paths":              "Paths that are granted. From the first list on, nothing else is.",
	"paths.ls":           "Directories that can be listed, without reading files in them.",
	"paths.ro":           "Paths that can be read; \"?\" in front: the path may be missing.",
	"paths.rox":          "Paths that can be read and executed.",
	"paths.rw":           "Paths that can be read and written, created, removed and renamed.",
	"paths.rwx":          "Paths that can be read, written and executed.",
	"paths.devices":      "Device nodes besides the harmless ones.",
	"paths.deny":         "Paths that are closed, with all that is below them, whatever else grants them.",
	"paths.on-deny-lost": "What happens if a path that is denied in a writable tree is replaced from outside.",
	"paths.optional":     "Older spelling of \"?\": paths of the other lists that may be missing.",
	"paths.metadata":     "Changing owner, mode, times and extended attributes of files.",
	"paths.view":         "Which files exist: all, or only those that the path rules grant.",
	"paths.tmp":          "Whether /tmp, /var/tmp and /dev/shm are those of the system or empty directories.",
	"paths.make-caches":  "Make missing caches of installed tools that rules with \"?\" let be written.",

	"home":         "The home directory.",
	"home.private": "Mount another directory over the home directory.",
	"home.dir":     "Directory that is mounted over the home directory and kept; absent: an empty one in memory.",

	"ipc":                  "What processes inside can do to processes outside.",
	"ipc.signals":          "Processes that can be sent signals.",
	"ipc.abstract-sockets": "Abstract UNIX sockets that can be connected to.",
	"ipc.namespaces":       "Creating user namespaces.",
	"ipc.terminals":        "Controls of terminals and keyboards that turn output into input.",

	"network":             "Sockets. A list allows what it has and nothing else; absent: as usual.",
	"network.families":    "Address families of sockets; empty: no network at all.",
	"network.connect-tcp": "TCP ports to connect to.",
	"network.bind-tcp":    "TCP ports to bind and listen on; 0 is any free port.",
	"network.connect-udp": "UDP ports to send datagrams to (Linux 7.2).",
	"network.bind-udp":    "Local UDP ports; 0 is any free port (Linux 7.2).",
	"network.unix":        "UNIX sockets that can be connected to.",

	"environment":      "Environment variables of the command.",
	"environment.keep": "Names of the variables that the command gets; \"*\" at the end matches anything.",
	"environment.drop": "Patterns of names of variables that the command does not get; \"!\" in front: it gets them.",
	"environment.set":  "Variables that are set.",

	"capabilities":      "Capabilities of root.",
	"capabilities.keep": "Capabilities that open memory and are kept nevertheless.",

	"limits":            "Resource limits, setrlimit(2); \"SOFT:HARD\" for two values.",
	"limits.as":         "Address space, in bytes.",
	"limits.cpu":        "Processor time, in seconds.",
	"limits.data":       "Data segment, in bytes.",
	"limits.fsize":      "Size of files that are written, in bytes.",
	"limits.memlock":    "Memory that is locked, in bytes.",
	"limits.msgqueue":   "POSIX message queues, in bytes.",
	"limits.nice":       "Priority: 20 minus the lowest nice value.",
	"limits.nofile":     "Number of open files.",
	"limits.nproc":      "Number of processes of the user; it does not hold for root.",
	"limits.rtprio":     "Real-time priority.",
	"limits.rttime":     "Processor time in real-time scheduling without a blocking call, in microseconds.",
	"limits.sigpending": "Number of queued signals.",
	"limits.stack":      "Stack, in bytes.",

	"syscalls":      "System calls.",
	"syscalls.deny": "System calls that are refused besides those that open memory, by name or group (\"@mount\").",
	"syscalls.abi":  "Whether 32-bit system calls can be made.",

	"report":         "Reports of what was refused.",
	"report.denials": "When refusals are reported.",

	testTable:             "Claims of the policy, which \"memjail verify\" tries.",
	testTable + ".name":   "What is claimed, one line, unique in the file.",
	testTable + ".access": "What is tried.",
	testTable + ".path":   "Path to read, write or execute.",
	testTable + ".port":   "Port to connect to, bind, send to or receive on.",
	testTable + ".call":   "Name of a system call.",
	testTable + ".run":    "Program and its arguments.",
	testTable + ".expect": "Whether it is allowed.",
}

// KeyInfo describes a key, for completion on the command line.
type KeyInfo struct {
	Name, About string
	// Values are those of a key with a closed set; a list can have several.
	Values []string
	// Flag is the flag that sets the key, if it is not --allow.
	Flag string
}

// Keys lists all keys of a policy.
func Keys() []KeyInfo {
	var list []KeyInfo
	for _, k := range keys() {
		info := KeyInfo{Name: k.name, About: about[k.name], Flag: k.flag}
		schema := k.schema()
		switch item, isList := schema["items"].(node); {
		case schema["type"] == "boolean":
			info.Values = []string{"true", "false"}
		case k.name == "syscalls.deny":
			info.Values = append(groupNames(), policy.CallNames()...)
		case k.name == "capabilities.keep":
			info.Values = capabilityNames()
		case k.name == "network.families":
			info.Values = familyNames()
		case isList:
			info.Values, _ = item["enum"].([]string)
		default:
			info.Values, _ = schema["enum"].([]string)
		}
		list = append(list, info)
	}
	return slices.Clip(list)
}

// describe adds the descriptions of a table's keys to its schema.
func describe(name string, table node) {
	if text := about[name]; text != "" {
		table["description"] = text
	}
	properties, _ := table["properties"].(node)
	for key, schema := range properties {
		full := key
		if name != "" {
			full = name + "." + key
		}
		if inner, ok := schema.(node); ok {
			describe(full, inner)
		}
	}
}
