//go:build amd64 || 386

package main

import "golang.org/x/sys/unix"

func calls() []call {
	var all []call
	owner := uintptr(unix.Getuid())
	group := uintptr(unix.Getgid())
	for _, mode := range []uintptr{0o740, 0o7755, 0o177777} {
		all = append(all, call{"chmod", unix.SYS_CHMOD, "path", []uintptr{mode}, 0},
			call{"fchmod", unix.SYS_FCHMOD, "fd", []uintptr{mode}, 0},
			call{"fchmodat", unix.SYS_FCHMODAT, "at", []uintptr{mode}, 0},
			call{"fchmodat2", unix.SYS_FCHMODAT2, "at", []uintptr{mode}, 3})
	}
	for _, ids := range [][2]uintptr{{owner, group}, {^uintptr(0), ^uintptr(0)}, {^uintptr(0), group}, {1, 1},
		{0xffff, 0xffff}} {
		rest := ids[:]
		all = append(all, call{"chown", unix.SYS_CHOWN, "path", rest, 0},
			call{"lchown", unix.SYS_LCHOWN, "path", rest, 0},
			call{"fchown", unix.SYS_FCHOWN, "fd", rest, 0}, call{"fchownat", unix.SYS_FCHOWNAT, "at", rest, 4},
			call{"chown32", chown32, "path", rest, 0}, call{"lchown32", lchown32, "path", rest, 0},
			call{"fchown32", fchown32, "fd", rest, 0})
		back := []uintptr{owner, group}
		all = append(all, call{"chown back", unix.SYS_CHOWN, "path", back, 0},
			call{"fchown back", unix.SYS_FCHOWN, "fd", back, 0})
	}
	for _, times := range []uintptr{0, badAddress, words(1000000000, 5, 1100000000, 7), words(1, -1, 1, 0),
		words(1, 2000000, 1, 0)} {
		all = append(all, call{"utimes", unix.SYS_UTIMES, "path", []uintptr{times}, 0},
			call{"futimesat", unix.SYS_FUTIMESAT, "at", []uintptr{times}, 0},
			call{"utime", unix.SYS_UTIME, "path", []uintptr{times}, 0})
	}
	for _, times := range []uintptr{0, badAddress, words(1200000000, 123456789, 1300000000, 0),
		words(0, unix.UTIME_OMIT, 1400000000, 0),
		words(0, unix.UTIME_NOW, 0, unix.UTIME_OMIT), words(0, unix.UTIME_OMIT, 0, unix.UTIME_OMIT),
		words(1, 1000000000, 1, 0)} {
		all = append(all, call{"utimensat", unix.SYS_UTIMENSAT, "at", []uintptr{times}, 3})
	}
	for _, times := range []uintptr{0, words64(5000000000, 123, 1300000000, 5), words64(1, 1<<32|7, 2, 8),
		words64(1, 1000000000, 1, 0)} {
		all = append(all, call{"utimensat_time64", utimensat64, "at", []uintptr{times}, 3})
	}
	for _, name := range []uintptr{text("user.test"), text("user.longer"), text(""), badAddress} {
		value := bytesAt([]byte("a value that has 28 bytes...."))
		all = append(all, call{"setxattr", unix.SYS_SETXATTR, "path", []uintptr{name, value, 28, 0}, 0},
			call{"lsetxattr", unix.SYS_LSETXATTR, "path", []uintptr{name, value, 28, 0}, 0},
			call{"fsetxattr", unix.SYS_FSETXATTR, "fd", []uintptr{name, value, 28, 0}, 0},
			call{"setxattrat", 463, "at", []uintptr{0, name, words64(int64(value), 28), 16}, 2},
			call{"removexattr", unix.SYS_REMOVEXATTR, "path", []uintptr{name}, 0},
			call{"lremovexattr", unix.SYS_LREMOVEXATTR, "path", []uintptr{name}, 0},
			call{"fremovexattr", unix.SYS_FREMOVEXATTR, "fd", []uintptr{name}, 0},
			call{"removexattrat", 466, "at", []uintptr{0, name}, 2})
	}
	return all
}
