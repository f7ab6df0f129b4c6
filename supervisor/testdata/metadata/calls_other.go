//go:build !amd64 && !386

package main

import "golang.org/x/sys/unix"

func calls() []call {
	value := bytesAt([]byte("a value that has 28 bytes...."))
	name := text("user.test")
	return []call{{"fchmod", unix.SYS_FCHMOD, "fd", []uintptr{0o640}, 0},
		{"fchmodat", unix.SYS_FCHMODAT, "at", []uintptr{0o600}, 0},
		{"fchown", unix.SYS_FCHOWN, "fd", []uintptr{1, 1}, 0},
		{"fchownat", unix.SYS_FCHOWNAT, "at", []uintptr{1, 1}, 4},
		{"utimensat", unix.SYS_UTIMENSAT, "at", []uintptr{words(1200000000, 123456789, 1300000000, 0)}, 3},
		{"setxattr", unix.SYS_SETXATTR, "path", []uintptr{name, value, 28, 0}, 0},
		{"fsetxattr", unix.SYS_FSETXATTR, "fd", []uintptr{name, value, 28, 0}, 0}}
}
