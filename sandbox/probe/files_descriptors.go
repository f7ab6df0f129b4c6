package probe

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// The descriptors with which launchers are started for the attempts below.
const (
	inheritedReadFD  = 9
	inheritedWriteFD = 10
	inheritedDirFD   = 11
)

// descriptorAttempts use descriptors that somebody else opened.
func descriptorAttempts() []Attempt {
	return []Attempt{
		donatedAttempt(Read), donatedAttempt(Write),
		inheritedAttempt(Read, inheritedReadFD), inheritedAttempt(Write, inheritedWriteFD),
		inheritedDirAttempt(Read), inheritedDirAttempt(Write),
	}
}

// donatedAttempt receives the memory of a process outside from that process.
func donatedAttempt(effect Effect) Attempt {
	a := Attempt{Route: "descriptors", Spelling: "scm-rights", Target: Outside, Effect: effect,
		Explain:   "a process outside sends its own open /proc/PID/mem over a UNIX socket",
		Reference: "unix(7) (SCM_RIGHTS)",
		Promise:   Open,
		Why:       "somebody outside cooperates: rights travel with an open file, and who sends one gives them"}
	name := a.Name()
	socket := func(s *Stage, i int) string { return filepath.Join(s.Dir, fmt.Sprintf("donor-%s-%d", effect, i)) }
	a.Prepare = func(s *Stage) (func(), error) {
		return nil, s.invite(name, func(i int) []string { return []string{victimOption(donateOption, socket(s, i))} })
	}
	a.Attack = func(s *Scene, v Victim) Outcome {
		fd, step, err := receive(socket(s.Stage, index(!s.Control)))
		if err != nil {
			return Refused(step, err)
		}
		defer unix.Close(fd)
		return useMem(fd, v, effect)
	}
	return a
}

// receive connects to a socket and takes the descriptor that comes.
func receive(path string) (fd int, step string, err error) {
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, "socket", err
	}
	defer unix.Close(socket)
	if err := unix.Connect(socket, &unix.SockaddrUnix{Name: path}); err != nil {
		return -1, "connect", err
	}
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, "recvmsg", err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) == 0 {
		return -1, "recvmsg", unix.ENOMSG
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return -1, "recvmsg", unix.ENOMSG
	}
	return fds[0], "recvmsg", nil
}

// inheritedAttempt uses a descriptor that the launcher was started with.
func inheritedAttempt(effect Effect, number int) Attempt {
	a := Attempt{Route: "descriptors", Spelling: "inherited", Target: Outside, Effect: effect,
		Explain:   "the launcher was started with an open descriptor of another process's memory",
		Reference: "execve(2), close_range(2)", Layer: "descriptors"}
	name := a.Name()
	a.Prepare = func(s *Stage) (func(), error) {
		if err := s.invite(name, func(int) []string { return nil }); err != nil {
			return nil, err
		}
		for i, guest := range s.Guests[name] {
			f, err := guest.openMem()
			if err != nil {
				return nil, err
			}
			s.hand(i, number, f)
		}
		return nil, nil
	}
	a.Attack = func(_ *Scene, v Victim) Outcome {
		// The number may meanwhile be a descriptor of this program's own.
		if at, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", number)); err != nil || !strings.HasSuffix(at, "/mem") {
			return Refused("pread", unix.EBADF)
		}
		return useMem(number, v, effect)
	}
	return a
}

// inheritedDirAttempt looks /proc up in a directory that the launcher was started
// with.
func inheritedDirAttempt(effect Effect) Attempt {
	return Attempt{Route: "descriptors", Spelling: "inherited-directory", Target: Self, Effect: effect,
		Explain:   "openat2(2) below an O_PATH descriptor of /proc with which the launcher was started",
		Reference: "openat2(2) (RESOLVE_IN_ROOT)", Layer: "descriptors", Permits: permitsMemory(effect),
		Prepare: func(s *Stage) (func(), error) {
			return s.once("inherited directory", func() (func(), error) {
				for i := range s.inherit {
					fd, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
					if err != nil {
						return nil, err
					}
					s.hand(i, inheritedDirFD, os.NewFile(uintptr(fd), "/proc"))
				}
				return nil, nil
			})
		},
		Attack: func(_ *Scene, v Victim) Outcome {
			if at, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", inheritedDirFD)); err != nil || at != "/proc" {
				return Refused("openat2", unix.EBADF)
			}
			fd, err := unix.Openat2(inheritedDirFD, filepath.Base(v.ProcDir("/proc"))+"/mem", &unix.OpenHow{Flags: unix.O_RDWR | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
			if err != nil {
				return Refused("openat2", err)
			}
			defer unix.Close(fd)
			return useMem(fd, v, effect)
		}}
}

// hand has agents started with f as the descriptor of that number: which is 0 for
// the control's, 1 for the sandbox's.
func (s *Stage) hand(which, number int, f *os.File) {
	const first = 3 // exec.Cmd.ExtraFiles
	for len(s.inherit[which]) <= number-first {
		s.inherit[which] = append(s.inherit[which], nil)
	}
	s.inherit[which][number-first] = f
}
