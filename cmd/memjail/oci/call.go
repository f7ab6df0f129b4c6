package oci

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Call is the command line of an OCI runtime, with memjail's own flags among the global ones.
type Call struct {
	Runtime string // --runtime: "" if it is not given
	Config  string // --config
	Policy  string // --policy

	Globals []string // the runtime's flags in front of the verb
	Verb    string   // "" if there is none
	Args    []string // what follows the verb
	LogFile string   // --log: where an engine looks for the reason of a failure
	LogJSON bool
}

// verbs are those of runc, crun and youki. They matter only behind a global flag that is
// not known, which may or may not take the next argument as its value.
var verbs = []string{"checkpoint", "completion", "create", "delete", "events", "exec", "features", "help", "info",
	"init", "kill", "list", "mounts", "pause", "ps", "restore", "resume", "run", "spec", "start", "state", "update"}

// flagTable lists flags without their dashes.
type flagTable struct{ values, switches []string }

var (
	globalFlags = flagTable{
		values:   []string{"log", "log-format", "log-level", "root", "criu", "rootless", "cgroup-manager", "l", "r"},
		switches: []string{"debug", "systemd-cgroup", "help", "h", "?", "usage", "version", "v", "V"},
	}
	createFlags = flagTable{
		values: []string{"bundle", "b", "console-socket", "pidfd-socket", "pid-file", "preserve-fds", "config", "f"},
		switches: []string{"detach", "d", "keep", "no-subreaper", "no-pivot", "no-new-keyring", "help", "h",
			"?", "usage"},
	}
	execFlags = flagTable{
		values: []string{"console-socket", "pidfd-socket", "cwd", "env", "e", "user", "u", "additional-gids", "g",
			"process", "p", "pid-file", "process-label", "apparmor", "cap", "c", "preserve-fds", "cgroup"},
		switches: []string{"tty", "t", "detach", "d", "no-new-privs", "ignore-paused", "help", "h", "?", "usage"},
	}
)

// flag is a flag of a command line.
type flag struct {
	name    string
	value   string
	at      int    // the index of the argument that has the value
	before  string // what stands before the value in that argument
	doubted bool   // not known, so that the next argument may be its value
}

// scan reads the flag that begins at args[i], and returns the index behind it.
func (t flagTable) scan(args []string, i int) ([]flag, int) {
	text := strings.TrimPrefix(strings.TrimPrefix(args[i], "-"), "-")
	name, value, given := strings.Cut(text, "=")
	if given {
		return []flag{{name: name, value: value, at: i, before: strings.TrimSuffix(args[i], value)}}, i + 1
	}
	switch {
	case slices.Contains(t.switches, name):
		return []flag{{name: name}}, i + 1
	case slices.Contains(t.values, name):
		if i+1 == len(args) {
			return []flag{{name: name}}, i + 1
		}
		return []flag{{name: name, value: args[i+1], at: i + 1}}, i + 2
	case strings.HasPrefix(args[i], "--"):
		return []flag{{name: name, doubted: true}}, i + 1
	}
	return t.cluster(args, i)
}

// cluster reads short flags in one argument, as getopt(3) does: -td, -bDIR.
func (t flagTable) cluster(args []string, i int) ([]flag, int) {
	var found []flag
	for at := 1; at < len(args[i]); at++ {
		name := args[i][at : at+1]
		switch {
		case slices.Contains(t.switches, name):
			found = append(found, flag{name: name})
		case !slices.Contains(t.values, name):
			return []flag{{name: args[i][1:], doubted: true}}, i + 1
		case at+1 < len(args[i]):
			return append(found, flag{name: name, value: args[i][at+1:], at: i, before: args[i][:at+1]}), i + 1
		case i+1 < len(args):
			return append(found, flag{name: name, value: args[i+1], at: i + 1}), i + 2
		}
	}
	return found, i + 1
}

// isFlag reports whether an argument is a flag.
func isFlag(arg string) bool { return len(arg) > 1 && arg[0] == '-' && arg != "--" }

// ParseCall reads the command line of a runtime, without the program's name. Flags and
// verbs that it does not know are left as they are.
func ParseCall(args []string) (Call, error) {
	var c Call
	own := map[string]*string{"runtime": &c.Runtime, "config": &c.Config, "policy": &c.Policy}
	table := globalFlags
	for name := range own {
		table.values = append(slices.Clip(table.values), name)
	}
	doubted := false
	for i := 0; i < len(args); {
		if !isFlag(args[i]) {
			if doubted && !slices.Contains(verbs, args[i]) {
				c.Globals, doubted = append(c.Globals, args[i]), false
				i++
				continue
			}
			c.Verb, c.Args = args[i], args[i+1:]
			return c, nil
		}
		flags, next := table.scan(args, i)
		doubted = false
		for _, f := range flags {
			doubted = doubted || f.doubted
			switch f.name {
			case "log":
				c.LogFile = f.value
			case "log-format":
				c.LogJSON = f.value == "json"
			}
			if target, ok := own[f.name]; ok && strings.HasPrefix(args[i], "--") {
				if *target = f.value; f.value == "" {
					return c, fmt.Errorf("--%s needs a value", f.name)
				}
				i = next
			}
		}
		c.Globals = append(c.Globals, args[i:next]...)
		i = next
	}
	return c, nil
}

// asksHelp reports whether a runtime prints its help instead of doing something.
func asksHelp(flags []flag) bool {
	return slices.ContainsFunc(flags, func(f flag) bool {
		return slices.Contains([]string{"help", "h", "?", "usage"}, f.name)
	})
}

// Create is the call that makes a container.
type Create struct {
	Bundle  string // its directory
	KeepFDs int    // descriptors from 3 on that are passed to the container, besides sockets
}

// Create reads the arguments of "create" or "run". ok is false if the call creates nothing.
func (c Call) Create() (created Create, ok bool, err error) {
	created.Bundle = "."
	var names []string
	for i := 0; i < len(c.Args); {
		if !isFlag(c.Args[i]) {
			if c.Args[i] != "--" {
				names = append(names, c.Args[i])
			}
			i++
			continue
		}
		flags, next := createFlags.scan(c.Args, i)
		if asksHelp(flags) {
			return created, false, nil
		}
		for _, f := range flags {
			switch f.name {
			case "bundle", "b":
				created.Bundle = f.value
			case "config", "f":
				return created, true, fmt.Errorf("%s --%s: memjail rewrites config.json only", c.Verb, f.name)
			case "preserve-fds":
				if created.KeepFDs, err = descriptorCount(f.value); err != nil {
					return created, true, err
				}
			case "":
				return created, true, fmt.Errorf("%s: cannot read the argument %q", c.Verb, c.Args[i])
			}
		}
		// A flag that is not known may take a value, which is then not the container's name:
		// that is the last argument.
		if flags[len(flags)-1].doubted && next < len(c.Args)-1 && !isFlag(c.Args[next]) {
			next++
		}
		i = next
	}
	if len(names) > 1 {
		return created, true, fmt.Errorf("%s: cannot tell which container is meant: %s", c.Verb,
			strings.Join(names, ", "))
	}
	return created, len(names) == 1, nil
}

// Exec is the call that starts a process in a container.
type Exec struct {
	Container string
	Files     []string // with a process each (--process), instead of a command
	KeepFDs   int

	call    Call
	command int // where the command begins in call.Args
}

// Exec reads the arguments of "exec". ok is false if the call starts nothing.
func (c Call) Exec() (e Exec, ok bool, err error) {
	e.call = c
	var unknown string
	for i := 0; i < len(c.Args); {
		if !isFlag(c.Args[i]) {
			if c.Args[i] == "--" {
				i++
			}
			if i == len(c.Args) {
				return e, false, nil
			}
			e.Container, e.command = c.Args[i], i+1
			break
		}
		flags, next := execFlags.scan(c.Args, i)
		if asksHelp(flags) {
			return e, false, nil
		}
		for _, f := range flags {
			switch f.name {
			case "process", "p":
				e.Files = append(e.Files, f.value)
			case "preserve-fds":
				if e.KeepFDs, err = descriptorCount(f.value); err != nil {
					return e, true, err
				}
			}
			if f.doubted {
				unknown = c.Args[i]
			}
		}
		i = next
	}
	switch {
	case e.Container == "":
		return e, false, nil
	case unknown != "":
		return e, true, fmt.Errorf("exec %s: this flag is not known, so it is not clear where the command begins; "+
			"write it as %s=VALUE", unknown, unknown)
	case len(e.Files) == 0 && e.command == len(c.Args):
		return e, false, nil
	}
	return e, true, nil
}

// Wrapped returns the call with a prefix in front of the command.
func (e Exec) Wrapped(p Prefix) Call {
	c := e.call
	if len(e.Files) > 0 {
		return c
	}
	at := e.command
	if at < len(c.Args) && c.Args[at] == "--" { // getopt(3) takes it away
		at++
	}
	c.Args = slices.Concat(c.Args[:at], p.Args(), c.Args[at:])
	return c
}

// descriptorCount reads the value of --preserve-fds.
func descriptorCount(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > 4096 {
		return 0, fmt.Errorf("--preserve-fds %s: want a number of descriptors", text)
	}
	return n, nil
}

// Passed returns the arguments for the runtime.
func (c Call) Passed() []string {
	args := slices.Clone(c.Globals)
	if c.Verb != "" {
		args = append(args, c.Verb)
	}
	return append(args, c.Args...)
}

// State returns the arguments with which the same runtime reports on a container. What it
// logs about that is not the engine's business.
func (c Call) State(container string) []string {
	var args []string
	for i := 0; i < len(c.Globals); {
		if !isFlag(c.Globals[i]) {
			args = append(args, c.Globals[i])
			i++
			continue
		}
		flags, next := globalFlags.scan(c.Globals, i)
		if name := flags[0].name; name != "log" && name != "log-format" && name != "l" {
			args = append(args, c.Globals[i:next]...)
		}
		i = next
	}
	return append(args, "state", container)
}

// ConfigFile is the configuration of a bundle.
func ConfigFile(bundle string) string { return filepath.Join(bundle, "config.json") }
