//go:build amd64 || 386

package main

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const openCall, creatCall = unix.SYS_OPEN, unix.SYS_CREAT

func open(path string, flags int) (int, syscall.Errno) {
	p, _ := unix.BytePtrFromString(path)
	fd, _, errno := unix.Syscall(openCall, uintptr(unsafe.Pointer(p)), uintptr(flags), 0o600)
	return int(fd), errno
}

func creat(path string) (int, syscall.Errno) {
	p, _ := unix.BytePtrFromString(path)
	fd, _, errno := unix.Syscall(creatCall, uintptr(unsafe.Pointer(p)), 0o600, 0)
	return int(fd), errno
}
