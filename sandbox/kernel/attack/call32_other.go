//go:build !amd64

package attack

import "golang.org/x/sys/unix"

// call32: a 64-bit process cannot make 32-bit calls here.
func call32(_, _, _, _, _, _, _ uintptr) uintptr {
	refused := -int64(unix.ENOSYS)
	return uintptr(refused)
}
