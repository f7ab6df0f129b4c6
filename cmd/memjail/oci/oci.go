// Package oci puts memjail in front of what an OCI runtime starts: it understands a
// runtime's command line as far as needed, and rewrites the configuration of a bundle
// (config.json) and of a process in it.
//
// A configuration is not decoded into the types of the runtime specification, which lose
// fields that they do not know: those of newer versions, of a runtime, of an engine. It is
// decoded level by level, and what is not changed stays as it is.
//
// Everything here is a function of its arguments; reading, writing and executing are the
// command's.
package oci

import (
	"strconv"
	"strings"
)

// Name is the program name under which memjail is this wrapper.
const Name = "memjail-oci"

// Directory is where a container has memjail: a read-only file system of its own, in /dev,
// which is a file system of every container's own. So nothing in there can be replaced or
// renamed from inside, and no trace of it is left in an image. (In a directory that the
// image has, a process could rename the parent and put a program of its own in its place,
// which the next exec would start.)
const Directory = "/dev/.memjail"

// ProgramPath is memjail in a container.
const ProgramPath = Directory + "/memjail"

// policyDirectory has the policy files in a container, by the paths that they have outside.
const policyDirectory = Directory + "/policy"

// PolicyPath is the path that a policy file has in a container.
func PolicyPath(file string) string { return policyDirectory + file }

// HostPath is the path outside of a policy file that a container has at a path.
func HostPath(path string) (file string, ok bool) {
	file, ok = strings.CutPrefix(path, policyDirectory+"/")
	return "/" + file, ok
}

// Prefix is what is put in front of the command of a process.
type Prefix struct {
	Policy  string // of memjail exec: a built-in policy, or a path in the container
	Memory  string // "": as the policy says
	KeepFDs []int  // descriptors that the command inherits
	// Silent prints no summary of what was refused, if standard error is a terminal: in a
	// container that is the command's own, and nobody there can act on it.
	Silent bool
}

// Args returns the prefix as arguments, the last of which is "--".
func (p Prefix) Args() []string {
	args := []string{ProgramPath, "exec", "-p", p.Policy}
	if p.Memory != "" {
		args = append(args, "--memory", p.Memory)
	}
	if p.Silent {
		args = append(args, "--report", "off")
	}
	for _, fd := range p.KeepFDs {
		args = append(args, "--keep-fd", strconv.Itoa(fd))
	}
	return append(args, "--")
}

// cutPrefix splits arguments that begin with those of a Prefix.
func cutPrefix(args []string) (p Prefix, count int, ok bool) {
	if len(args) < 5 || args[0] != ProgramPath || args[1] != "exec" || args[2] != "-p" {
		return p, 0, false
	}
	p.Policy = args[3]
	for i := 4; i < len(args); i += 2 {
		if args[i] == "--" {
			return p, i + 1, true
		}
		if i+1 == len(args) {
			break
		}
		switch args[i] {
		case "--memory":
			p.Memory = args[i+1]
		case "--report":
			p.Silent = true
		case "--keep-fd":
			fd, err := strconv.Atoi(args[i+1])
			if err != nil {
				return p, 0, false
			}
			p.KeepFDs = append(p.KeepFDs, fd)
		default:
			return p, 0, false
		}
	}
	return p, 0, false
}
