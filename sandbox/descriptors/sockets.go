package descriptors

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// harmlessFamilies are the families of sockets (linux/socket.h) that move bytes and
// reach nobody's memory. AF_XDP and AF_RDS have the kernel read and write memory of the
// process that made the socket, for whoever holds it; what is not known is not let in.
var harmlessFamilies = []int{
	unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK, unix.AF_PACKET, unix.AF_CAN, unix.AF_TIPC,
	unix.AF_BLUETOOTH, unix.AF_VSOCK, unix.AF_QIPCRTR, unix.AF_SMC,
}

// harmlessSocket judges an inherited socket by its family. zerocopy: memory may be read.
func harmlessSocket(fd int, zerocopy bool) (what string, ok bool) {
	family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return "a socket of unknown family", false
	}
	if family == unix.AF_XDP {
		return "an AF_XDP socket, which reads and writes the memory of the process that made it", false
	}
	if v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ZEROCOPY); err == nil && v != 0 && !zerocopy {
		return "a socket with SO_ZEROCOPY, whose receiver sees later changes of memory", false
	}
	return fmt.Sprintf("a socket of address family %d", family), slices.Contains(harmlessFamilies, family)
}

// hasOwner reports whether an open file has an owner that it signals (F_SETOWN, fcntl(2)).
// One in another pid namespace is not seen.
func hasOwner(fd int) bool {
	// The number of a process group comes back negative, which looks like an error.
	owner, err := unix.FcntlInt(uintptr(fd), unix.F_GETOWN, 0)
	return owner != 0 || err != nil
}
