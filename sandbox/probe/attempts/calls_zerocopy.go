package attempts

import (
	"bytes"
	"crypto/rand"
	"errors"

	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

var sendtoCall = number{unix.SYS_SENDTO, 369}

const zerocopyManual = "Documentation/networking/msg_zerocopy.rst"

// sentSize is more than the receiver takes at once, and less than what a process may pin.
const sentSize = 48 << 10

func zerocopyAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, abi := range both {
		all = append(all, probe.Attempt{Route: "zerocopy", Spelling: "later-writes", Target: probe.Child,
			Effect: probe.Read, ABI: abi, Check: believed, Permits: permitsReading,
			Explain:   "what its owner has sent with MSG_ZEROCOPY is received as the owner has changed it since",
			Reference: zerocopyManual,
			Attack:    func(*probe.Env, probe.Victim) probe.Outcome { return receiveLater(abi) }})
	}
	return all
}

// receiveLater has a child send pages over loopback, and change the last one while it waits
// to be sent.
func receiveLater(abi probe.ABI) probe.Outcome {
	sender, receiver, err := narrowConnection()
	if err != nil {
		return probe.Refused("socket", err)
	}
	defer unix.Close(sender)
	defer unix.Close(receiver)
	told, err := newPipe()
	if err != nil {
		return probe.Refused("pipe2", err)
	}
	defer told.close()
	pages, one := low(make([]byte, sentSize)), low(pack(uint32(1)))
	last := attack.Address(pages) + sentSize - probe.CanarySize
	learn := orEnd(attack.Step{Number: unix.SYS_READ, Args: [6]uintptr{uintptr(told.r), last, probe.CanarySize}})
	if _, err := unix.Write(told.w, probe.Marker); err != nil { // the page becomes the child's own
		return probe.Refused("write", err)
	}
	child, err := attack.Spawn(0, 0, learn,
		orEnd(setsockoptCall.step(abi, uintptr(sender), unix.SOL_SOCKET, unix.SO_ZEROCOPY, attack.Address(one), 4)),
		orEnd(sendtoCall.step(abi, uintptr(sender), attack.Address(pages), sentSize, unix.MSG_ZEROCOPY|
			unix.MSG_DONTWAIT, 0, 0)), learn)
	if err != nil {
		return probe.Refused("fork", err)
	}
	defer child.End()
	for step, name := range map[int]string{1: "setsockopt", 2: "sendto"} {
		if err := child.Until(step); err != nil {
			return probe.Refused(name, err)
		}
	}
	secret := make([]byte, probe.CanarySize)
	rand.Read(secret)
	if _, err := unix.Write(told.w, secret); err != nil {
		return probe.Refused("write", err)
	}
	if err := child.Until(3); err != nil {
		return probe.Refused("read", err)
	}
	if err := unix.SetsockoptInt(receiver, unix.SOL_SOCKET, unix.SO_RCVBUF, 4*sentSize); err != nil {
		return probe.Refused("setsockopt", err)
	}
	got := make([]byte, sentSize)
	for n := 0; n < len(got); {
		more, err := unix.Read(receiver, got[n:])
		if err == unix.EINTR { // by a signal of the runtime's: a socket with SO_RCVTIMEO is not read again
			continue
		}
		if err != nil || more == 0 {
			return probe.Refused("recv", errors.Join(err, errors.New("not all has been sent")))
		}
		n += more
	}
	if !bytes.Equal(got[sentSize-probe.CanarySize:], secret) {
		return probe.Refused("recv", errors.New("what is received has not followed the memory"))
	}
	return probe.Did("a socket showed what another process wrote to its memory later")
}

// narrowConnection is a TCP connection over loopback whose receiver takes little at once,
// and does not wait for ever.
func narrowConnection() (sender, receiver int, err error) {
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, -1, err
	}
	defer unix.Close(listener)
	const least = 2304
	loopback := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if err := errors.Join(unix.SetsockoptInt(listener, unix.SOL_SOCKET, unix.SO_RCVBUF, least),
		unix.Bind(listener, loopback), unix.Listen(listener, 1)); err != nil {
		return -1, -1, err
	}
	address, err := unix.Getsockname(listener)
	if err != nil {
		return -1, -1, err
	}
	if sender, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, -1, err
	}
	if err = unix.Connect(sender, address); err == nil {
		receiver, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC)
	}
	if err != nil {
		unix.Close(sender)
		return -1, -1, err
	}
	patience := unix.Timeval{Sec: 2}
	if err := errors.Join(unix.SetsockoptInt(sender, unix.SOL_SOCKET, unix.SO_SNDBUF, 4*sentSize),
		unix.SetsockoptTimeval(receiver, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience)); err != nil {
		unix.Close(sender)
		unix.Close(receiver)
		return -1, -1, err
	}
	return sender, receiver, nil
}
