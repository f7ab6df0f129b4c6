package procmem

import (
	"bytes"
	"os"

	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

var pageSize = uint64(os.Getpagesize())

// firstRead is how much of a string is asked for at first: nearly every path is
// shorter, and a longer read costs time.
const firstRead = 256

// ReadCString copies the string at address of the thread tid, up to and with its
// NUL byte, into buf and returns its length without the NUL. It never reads
// across a page of which the string may have no part, so that a string at the end
// of mapped memory is read as the kernel reads it. Errors, bare: ENAMETOOLONG, no
// NUL within len(buf); EFAULT; ESRCH; EPERM.
//
// The thread is named by number: before the caller uses the result it must check that the
// number still means the same thread (for a seccomp notification, that its ID is valid).
func ReadCString(tid int, unsafeAddress uint64, buf []byte) (int, error) {
	return ReadCStringBy(kernel.ReadProcessMemory, tid, unsafeAddress, buf)
}

// ReadCStringBy is ReadCString with another function than [kernel.ReadProcessMemory]; read
// has the same contract.
func ReadCStringBy(read func(tid int, buf []byte, address uint64) (int, error), tid int, unsafeAddress uint64,
	buf []byte) (int, error) {
	have, chunk := 0, uint64(firstRead)
	for have < len(buf) {
		at := unsafeAddress + uint64(have)
		want := min(chunk, uint64(len(buf)-have))
		if toPageEnd := pageSize - at%pageSize; want > toPageEnd {
			want = toPageEnd
		}
		n, err := read(tid, buf[have:have+int(want)], at)
		if err != nil {
			return 0, err
		}
		if end := bytes.IndexByte(buf[have:have+n], 0); end >= 0 {
			return have + end, nil
		}
		if n == 0 {
			return 0, unix.EFAULT
		}
		have += n
		chunk = pageSize
	}
	return 0, unix.ENAMETOOLONG
}
