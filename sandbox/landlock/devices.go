package landlock

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// deviceRule is one row of the list of devices that are granted: character
// devices through which no other memory is reached. A list of what must not be
// granted could never be complete, since every driver may bring a new node. Nodes
// that type are not on it: what is written to an input device comes as keys to
// whoever sits there, and a serial line or the console can be made to take its own
// output for input.
type deviceRule struct {
	// dir is the directory below /dev, "" for /dev itself.
	dir string
	// name is the node's name there; one that ends in "*" is a prefix. It only
	// saves looking at every node: what decides is the number.
	name string
	// major and first..last are the device numbers,
	// Documentation/admin-guide/devices.txt.
	major, first, last uint32
}

const anyMinor = 1<<20 - 1

var deviceRules = [...]deviceRule{
	{"", "null", 1, 3, 3},
	{"", "zero", 1, 5, 5},
	{"", "full", 1, 7, 7},
	{"", "random", 1, 8, 8},
	{"", "urandom", 1, 9, 9},
	{"", "tty", 5, 0, 0},
	{"", "ptmx", 5, 2, 2},
	{"", "video*", 81, 0, anyMinor},
	{"", "v4l-*", 81, 0, anyMinor},
	{"", "vbi*", 81, 0, anyMinor},
	{"", "radio*", 81, 0, anyMinor},
	{"dri", "*", 226, 0, anyMinor},
	{"snd", "*", 116, 0, anyMinor},
	{"pts", "*", 136, 0, anyMinor},    // and up to 143: see grantable
	{"", "console", 136, 0, anyMinor}, // a container's, which is a pseudo-terminal
}

const lastPtsMajor = 143

// basicDevices are granted under path rules too, which name everything else.
var basicDevices = []string{"null", "zero", "full", "random", "urandom", "tty", "ptmx"}

// wholeDeviceDirs are the directories of /dev that are file systems or plain
// directories of their own and granted as such.
var wholeDeviceDirs = []string{"pts", "shm", "mqueue", "hugepages"}

// terminalMajors are the majors of terminals that a program is started on:
// virtual consoles and serial lines, USB serial lines, modems, low-density
// serial ports, hypervisor consoles.
var terminalMajors = []uint32{4, 166, 188, 204, 229}

// isTerminal reports whether a character device is a terminal, other than the
// pseudo-terminals of the list: by its major, or /dev/console.
func isTerminal(rdev uint64) bool {
	return slices.Contains(terminalMajors, unix.Major(rdev)) || rdev == unix.Mkdev(5, 1)
}

// wantsNode tells by its name whether a node in a directory of /dev can be on
// the list; dir is "" for /dev itself.
func wantsNode(dir, name string) bool {
	for i := range deviceRules {
		r := &deviceRules[i]
		if r.dir != dir {
			continue
		}
		prefix, open := strings.CutSuffix(r.name, "*")
		if name == r.name || open && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// walkedDeviceDir reports whether a directory of /dev can hold nodes of the list.
func walkedDeviceDir(name string) bool {
	for i := range deviceRules {
		if deviceRules[i].dir == name {
			return true
		}
	}
	return false
}

// grantable reports whether a character device is on the list.
func grantable(rdev uint64) bool {
	major, minor := unix.Major(rdev), unix.Minor(rdev)
	for i := range deviceRules {
		r := &deviceRules[i]
		if major == r.major && r.first <= minor && minor <= r.last {
			return true
		}
	}
	return 136 < major && major <= lastPtsMajor
}

// terminal is a device node by path and number.
type terminal struct {
	path string
	rdev uint64
}

// startTerminals returns the terminals that descriptors 0, 1 and 2 are, beyond
// those on the list. A program has business only with the one that it was started
// on, of which it holds a descriptor anyway.
func startTerminals() []terminal {
	var found []terminal
	for fd := range 3 {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR {
			continue
		}
		rdev := uint64(st.Rdev)
		if !isTerminal(rdev) {
			continue
		}
		path, err := pathOf(fd)
		if t := (terminal{path, rdev}); err == nil && !slices.Contains(found, t) {
			found = append(found, t)
		}
	}
	return found
}
