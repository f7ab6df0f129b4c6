package kernel

import (
	"structs"
	"unsafe"
)

// OpenHow is struct open_how of openat2(2).
type OpenHow struct {
	_       structs.HostLayout
	Flags   uint64
	Mode    uint64
	Resolve uint64
}

// OpenHowSize is the size in bytes of the first version of struct open_how, the
// smallest that the kernel accepts.
const OpenHowSize = 24

// ParseOpenHow parses the structure from bytes of a target's memory. It returns false if
// there are too few bytes, or if a larger structure than OpenHow has anything but zeros
// after it.
func ParseOpenHow(b []byte) (OpenHow, bool) {
	if len(b) < OpenHowSize {
		return OpenHow{}, false
	}
	for _, c := range b[OpenHowSize:] {
		if c != 0 {
			return OpenHow{}, false
		}
	}
	return *(*OpenHow)(unsafe.Pointer(&b[0])), true
}
