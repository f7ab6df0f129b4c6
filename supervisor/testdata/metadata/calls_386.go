package main

import "golang.org/x/sys/unix"

const (
	chown32     = unix.SYS_CHOWN32
	lchown32    = unix.SYS_LCHOWN32
	fchown32    = unix.SYS_FCHOWN32
	utimensat64 = unix.SYS_UTIMENSAT_TIME64
)
