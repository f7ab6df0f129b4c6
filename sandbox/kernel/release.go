package kernel

import "golang.org/x/sys/unix"

// Release returns the release of the running kernel, as uname(2) has it: "6.12.57-amd64";
// "unknown" if it cannot be asked.
func Release() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(name.Release[:])
}
