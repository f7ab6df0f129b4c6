package decide

// largeFile is O_LARGEFILE as 32-bit programs and some C libraries give it. x/sys
// has 0, because on this machine it is always on.
const largeFile = 0x20000
