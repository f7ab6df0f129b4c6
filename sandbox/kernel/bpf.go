package kernel

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands of bpf(2).
const (
	bpfObjPin            = 6
	bpfObjGet            = 7
	bpfObjGetInfoByFD    = 15
	bpfRawTracepointOpen = 17
)

func bpf(command uintptr, attributes unsafe.Pointer, size uintptr) (uintptr, error) {
	r, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(attributes), size)
	if errno != 0 {
		return 0, errno
	}
	return r, nil
}

// AttachLSM attaches a loaded BPF LSM program to the hook that it was loaded for. It stays
// attached as long as the returned link is open or pinned. Errors: E2BIG, too many programs
// are at the hook; ENOTSUPP, the kernel has no trampolines (Linux 5.7; arm64: 6.0).
func AttachLSM(program int) (*os.File, error) {
	attributes := struct {
		name    uint64
		program uint32
		_       uint32
	}{program: uint32(program)}
	fd, err := bpf(bpfRawTracepointOpen, unsafe.Pointer(&attributes), unsafe.Sizeof(attributes))
	if err != nil {
		return nil, err
	}
	return os.NewFile(fd, "link of a BPF program"), nil
}

type bpfObject struct {
	path  uint64
	fd    uint32
	flags uint32
}

// PinBPF pins a BPF object at a path on a bpffs, which keeps it when it is closed.
func PinBPF(object *os.File, path string) error {
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	attributes := bpfObject{path: uint64(uintptr(unsafe.Pointer(name))), fd: uint32(object.Fd())}
	_, err = bpf(bpfObjPin, unsafe.Pointer(&attributes), unsafe.Sizeof(attributes))
	runtime.KeepAlive(name)
	if err != nil {
		return fmt.Errorf("pinning %q: %w", path, err)
	}
	return nil
}

// OpenPinnedBPF opens a pinned BPF object by its path on a bpffs.
func OpenPinnedBPF(path string) (*os.File, error) {
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return nil, err
	}
	attributes := bpfObject{path: uint64(uintptr(unsafe.Pointer(name)))}
	fd, err := bpf(bpfObjGet, unsafe.Pointer(&attributes), unsafe.Sizeof(attributes))
	runtime.KeepAlive(name)
	if err != nil {
		return nil, fmt.Errorf("opening the pinned %q: %w", path, err)
	}
	return os.NewFile(fd, path), nil
}

// LinkedProgram returns the number that the kernel has given the program of a link
// (bpf_link_info in linux/bpf.h, Linux 5.8).
func LinkedProgram(link *os.File) (uint32, error) {
	var info struct {
		kind, id, program uint32
		_                 [61]uint32 // what depends on the kind of link, and room for more
	}
	attributes := struct {
		fd, size uint32
		info     uint64
	}{uint32(link.Fd()), uint32(unsafe.Sizeof(info)), uint64(uintptr(unsafe.Pointer(&info)))}
	_, err := bpf(bpfObjGetInfoByFD, unsafe.Pointer(&attributes), unsafe.Sizeof(attributes))
	runtime.KeepAlive(&info)
	if err != nil {
		return 0, fmt.Errorf("asking for a link's program: %w", err)
	}
	return info.program, nil
}

// WaitForBPF waits until every BPF program has ended that was running when it was called and
// cannot sleep: until the end of an RCU grace period. Errors: EINVAL, the kernel runs
// processors without a clock tick (nohz_full=).
func WaitForBPF() error {
	const global = 1 // MEMBARRIER_CMD_GLOBAL
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, global, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
