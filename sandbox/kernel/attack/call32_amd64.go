package attack

// call32 is int $0x80.
func call32(number, a1, a2, a3, a4, a5, a6 uintptr) uintptr
