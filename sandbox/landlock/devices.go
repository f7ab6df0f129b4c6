package landlock

import (
	"slices"
	"strings"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

// deviceRule is one row of the list of devices that are granted: character
// devices through which no other memory is reached. A list of what must not be
// granted could never be complete, since every driver may bring a new node. Nodes that can
// type are not on it: what is written to an input device arrives as keys at whoever uses
// the machine, and a serial line or the console can be made to read its own output as input.
type deviceRule struct {
	// dir is the directory below /dev, "" for /dev itself.
	dir string
	// name is the node's name there; one that ends in "*" is a prefix. It only saves
	// examining every node: the number decides.
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

// wholeDeviceDirs are the directories of /dev that hold no devices of drivers and are
// granted as a whole.
var wholeDeviceDirs = []string{"pts", "shm", "mqueue", "hugepages"}

// terminalMajors are the major numbers of terminals that a program may be started on:
// virtual consoles and serial lines, USB serial lines, modems, low-density
// serial ports, hypervisor consoles.
var terminalMajors = []uint32{4, 166, 188, 204, 229}

// isTerminal reports whether a character device is a terminal, other than the
// pseudo-terminals of the list: by its major, or /dev/console.
func isTerminal(rdev uint64) bool {
	return slices.Contains(terminalMajors, unix.Major(rdev)) || rdev == unix.Mkdev(5, 1)
}

// wantsNode reports, by its name, whether a node in a directory of /dev can be on the list;
// dir is "" for /dev itself.
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

// startTerminals returns the terminals that descriptors 0, 1 and 2 are open on, besides
// those on the list. Of these terminals a program needs only the one that it was started
// on, which it has a descriptor of anyway.
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

// DeviceGranted reports whether a device that is already open is one that the sandbox could
// open itself: a character device of the list, a terminal, or a node that the policy names.
func DeviceGranted(rdev uint64, block bool, named []policy.Device) bool {
	if !block && (grantable(rdev) || isTerminal(rdev)) {
		return true
	}
	kind := uint32(unix.S_IFCHR)
	if block {
		kind = unix.S_IFBLK
	}
	return slices.ContainsFunc(named, func(d policy.Device) bool {
		var st unix.Stat_t
		return unix.Stat(d.Path, &st) == nil && st.Mode&unix.S_IFMT == kind && st.Rdev == rdev
	})
}
