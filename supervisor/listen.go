package supervisor

import (
	"slices"

	"github.com/memjail/memjail/supervisor/decide"
	"golang.org/x/sys/unix"
)

// The kernel gives a TCP socket that listens without being bound a free port, and no rule of
// Landlock is asked. A supervisor that examined the socket and continued the call would lose
// the race: another thread could put another socket in the descriptor's place. So it makes
// the call itself, on the open file that it has examined.

// listen answers listen(2).
func (r *receiver) listen(q *request, number int32) {
	id, err := readIdentity(r.s.resolver.Procfs, q.tid)
	if err != nil {
		r.refuse(q, number)
		return
	}
	err = r.as(q, id, true, func() error {
		fd, err := foreignDescriptor(q.tid, id.tgid, int(int32(q.args[0])))
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if !r.s.listener.Valid(q.id) {
			return unix.EINTR // the call is gone
		}
		return listenOn(fd, int(int32(q.args[1])), r.s.options.Policy.Network.BindTCP.List())
	})
	switch errno := errnoOf(err); {
	case err == nil:
		r.answer(q, decide.Done{}, noFile)
	case errno == unix.EACCES, errno == unix.EPERM: // not looked at, so not known to be harmless
		r.refuse(q, number)
	default:
		r.answer(q, decide.Refuse{Errno: errno}, noFile)
	}
}

// foreignDescriptor duplicates a descriptor of a thread, or, before Linux 6.9, of its
// process: a thread rarely has its own table.
func foreignDescriptor(tid, tgid, fd int) (int, error) {
	const thread = unix.O_EXCL // PIDFD_THREAD, linux/pidfd.h
	pidfd, err := unix.PidfdOpen(tid, thread)
	if err == unix.EINVAL {
		pidfd, err = unix.PidfdOpen(tgid, 0)
	}
	if err != nil {
		return -1, unix.EACCES
	}
	defer unix.Close(pidfd)
	return unix.PidfdGetfd(pidfd, fd, 0)
}

// listenOn has a socket listen, if it takes no port but those of the list.
func listenOn(fd, backlog int, ports []uint16) error {
	free, ok := mayListen(fd, ports)
	if !ok {
		return unix.EACCES
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return err
	}
	if !free && !slices.Contains(ports, boundPort(fd)) {
		unix.Shutdown(fd, unix.SHUT_RDWR) // it was connected, and lost its port meanwhile
		return unix.EACCES
	}
	return nil
}

// mayListen reports whether a socket that is going to listen takes only ports of the list.
// One that listens has its port already; one of another family than TCP's has none: these
// are free.
func mayListen(fd int, ports []uint16) (free, ok bool) {
	ask := func(option int) int {
		v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, option)
		if err != nil {
			return -1
		}
		return v
	}
	switch domain, protocol := ask(unix.SO_DOMAIN), ask(unix.SO_PROTOCOL); {
	case domain == -1, ask(unix.SO_ACCEPTCONN) == 1:
		return true, true // the kernel says that it is no socket; it listens
	case domain == unix.AF_SMC:
	case domain != unix.AF_INET && domain != unix.AF_INET6:
		return true, true
	case protocol != unix.IPPROTO_TCP && protocol != unix.IPPROTO_MPTCP:
		return true, true
	}
	// A port that connect(2) brought is lost with the connection, in another thread too,
	// and a socket in that state does not listen. So it must be there before and after it
	// is seen to be closed: then it was bound to it, and keeps it.
	before, state, after := boundPort(fd), tcpState(fd), boundPort(fd)
	const closed = 7 // TCP_CLOSE, net/tcp_states.h
	return false, state == closed && before == after && slices.Contains(ports, before)
}

// boundPort is the port of a socket; 0: none.
func boundPort(fd int) uint16 {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return 0
	}
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return uint16(name.Port)
	case *unix.SockaddrInet6:
		return uint16(name.Port)
	}
	return 0
}

// tcpState is the state of a TCP socket; 0: not known.
func tcpState(fd int) uint8 {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0
	}
	return info.State
}
