// Package attack has the raw means of the probe suite: any system call, in the
// 64-bit and the 32-bit interface, and addresses of a process's own memory. It is
// for package probe alone; nothing that enforces a policy imports it.
package attack

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Call makes a system call of the native interface. What arguments point to must
// be kept alive by the caller.
func Call(number uintptr, args ...uintptr) (uintptr, unix.Errno) {
	var a [6]uintptr
	copy(a[:], args)
	r, _, errno := unix.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
	return r, errno
}

// Call32 makes a system call of the 32-bit interface from this 64-bit process
// (int $0x80 on x86-64). Pointers must lie below 4 GiB: see [Low]. ENOSYS where
// there is no such interface to call that way.
func Call32(number uintptr, args ...uintptr) (uintptr, unix.Errno) {
	var a [6]uintptr
	copy(a[:], args)
	r := int32(call32(number, a[0], a[1], a[2], a[3], a[4], a[5]))
	if r < 0 && r > -4096 {
		return 0, unix.Errno(-r)
	}
	return uintptr(uint32(r)), 0
}

// Address is where b's first byte lies. b comes to lie on the heap, where the
// garbage collector does not move it; the caller keeps it alive.
func Address(b []byte) uintptr {
	first := unsafe.SliceData(b)
	escaped.Store(first) // what is on a stack moves with it
	return uintptr(unsafe.Pointer(first))
}

// escaped is there to be stored into.
var escaped atomic.Pointer[byte]

// View is a slice over n bytes of this process's own memory at address.
func View(address uintptr, n int) []byte {
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&address))), n)
}

// String is a C string for a call's argument.
func String(s string) []byte { return append([]byte(s), 0) }

// Keep keeps what calls point to alive up to here.
func Keep(things ...any) { runtime.KeepAlive(things) }

// Low copies b to memory below 4 GiB, which pointers of the 32-bit interface
// reach, and returns the copy. It is never given back: attempts are short-lived.
func Low(b []byte) ([]byte, error) {
	const map32Bit = 0x40
	m, err := unix.Mmap(-1, 0, max(len(b), 1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|
		unix.MAP_ANONYMOUS|map32Bit)
	if err != nil {
		return nil, fmt.Errorf("mapping memory below 4 GiB: %w", err)
	}
	copy(m, b)
	return m[:len(b)], nil
}

// ThreadEnd has the kernel note the end of the calling thread, whatever ends it, while
// other threads of the process live on, and returns what reports whether it has come:
// set_tid_address(2). It needs no /proc, and sees the main thread's end, too, after
// which that is a zombie which can still be sent signals.
func ThreadEnd() (ended func() bool) {
	word := new(atomic.Int32)
	word.Store(1)
	unix.RawSyscall(unix.SYS_SET_TID_ADDRESS, uintptr(unsafe.Pointer(word)), 0, 0) // cannot fail
	return func() bool { return word.Load() == 0 }
}
