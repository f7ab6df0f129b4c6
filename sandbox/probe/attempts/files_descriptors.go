package attempts

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

// The descriptors with which launchers are started for the attempts below.
const (
	inheritedReadFD  = 9
	inheritedWriteFD = 10
	inheritedDirFD   = 11
	foreignDirFD     = 15 // those between: calls_inherited.go, calls_exec.go
)

// descriptorAttempts use descriptors that somebody else opened.
func descriptorAttempts() []probe.Attempt {
	return []probe.Attempt{
		donatedAttempt(probe.Read), donatedAttempt(probe.Write),
		inheritedAttempt(probe.Read, inheritedReadFD), inheritedAttempt(probe.Write, inheritedWriteFD),
		inheritedDirAttempt(probe.Read), inheritedDirAttempt(probe.Write),
		foreignDirAttempt(probe.Read), foreignDirAttempt(probe.Write),
	}
}

// donatedAttempt receives the memory of a process outside from that process.
func donatedAttempt(effect probe.Effect) probe.Attempt {
	a := probe.Attempt{Route: "descriptors", Spelling: "scm-rights", Target: probe.Outside, Effect: effect,
		Explain:   "a process outside sends its own open /proc/PID/mem over a UNIX socket",
		Reference: "unix(7) (SCM_RIGHTS)",
		Promise:   probe.PromiseOpen,
		Why:       "somebody outside cooperates: rights travel with an open file, and who sends one gives them"}
	name := a.Name()
	socket := func(s *probe.Setup, i int) string { return filepath.Join(s.Dir, fmt.Sprintf("donor-%s-%d", effect, i)) }
	a.Setup = func(s *probe.Setup) (func(), error) {
		return nil, s.StartVictims(name,
			func(side int) probe.VictimOptions { return probe.VictimOptions{DonationSocket: socket(s, side)} })
	}
	a.Attack = func(s *probe.Env, v probe.Victim) probe.Outcome {
		fd, step, err := receive(socket(s.Setup, s.Side()))
		if err != nil {
			return probe.Refused(step, err)
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
func inheritedAttempt(effect probe.Effect, number int) probe.Attempt {
	a := probe.Attempt{Route: "descriptors", Spelling: "inherited", Target: probe.Outside, Effect: effect,
		Explain:   "the launcher was started with an open descriptor of another process's memory",
		Reference: "execve(2), close_range(2)", Layer: "descriptors"}
	name := a.Name()
	a.Setup = func(s *probe.Setup) (func(), error) {
		if err := s.StartVictims(name, noOptions); err != nil {
			return nil, err
		}
		for i, victim := range s.ExternalVictims[name] {
			f, err := victim.OpenMem()
			if err != nil {
				return nil, err
			}
			if err := s.Inherit(i, number, f); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}
	a.Attack = func(_ *probe.Env, v probe.Victim) probe.Outcome {
		// The number may meanwhile be a descriptor of this program's own.
		if at, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", number)); err != nil ||
			!strings.HasSuffix(at, "/mem") {
			return probe.Refused("pread", unix.EBADF)
		}
		return useMem(number, v, effect)
	}
	return a
}

// inheritedDirAttempt looks /proc up in a directory that the launcher was started
// with.
func inheritedDirAttempt(effect probe.Effect) probe.Attempt {
	return probe.Attempt{Route: "descriptors", Spelling: "inherited-directory", Target: probe.Self, Effect: effect,
		Explain:   "openat2(2) below an O_PATH descriptor of /proc with which the launcher was started",
		Reference: "openat2(2) (RESOLVE_IN_ROOT)", Layer: "descriptors", Permits: permitsMemory(effect),
		Setup: func(s *probe.Setup) (func(), error) {
			return s.Once("inherited directory", func() (func(), error) {
				for i := range probe.Sides {
					fd, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
					if err != nil {
						return nil, err
					}
					if err := s.Inherit(i, inheritedDirFD, os.NewFile(uintptr(fd), "/proc")); err != nil {
						return nil, err
					}
				}
				return nil, nil
			})
		},
		Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome {
			if at, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", inheritedDirFD)); err != nil || at != "/proc" {
				return probe.Refused("openat2", unix.EBADF)
			}
			fd, err := unix.Openat2(inheritedDirFD, filepath.Base(v.ProcDir("/proc"))+"/mem",
				&unix.OpenHow{Flags: unix.O_RDWR | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
			if err != nil {
				return probe.Refused("openat2", err)
			}
			defer unix.Close(fd)
			return useMem(fd, v, effect)
		}}
}

// foreignDirAttempt opens memory below a directory of another mount namespace: a procfs is
// mounted there that no mount table inside, and none that the launcher can read, has.
func foreignDirAttempt(effect probe.Effect) probe.Attempt {
	return probe.Attempt{Route: "descriptors", Spelling: "foreign-directory", Target: probe.Self, Effect: effect,
		Explain:   "a procfs in another mount namespace, by a directory descriptor with which the launcher was started",
		Reference: "mount_namespaces(7), openat(2)", Layer: "descriptors", Permits: permitsMemory(effect),
		Setup: prepareForeignDir,
		Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome {
			// The number may meanwhile be a descriptor of this program's own.
			var fs unix.Statfs_t
			if err := unix.Fstatfs(foreignDirFD, &fs); err != nil || fs.Type != unix.PROC_SUPER_MAGIC {
				return probe.Refused("openat", unix.EBADF)
			}
			name := filepath.Join(filepath.Base(v.ProcDir("/proc")), "mem")
			fd, err := unix.Openat(foreignDirFD, name, unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				return probe.Refused("openat", err)
			}
			defer unix.Close(fd)
			return useMem(fd, v, effect)
		}}
}

// prepareForeignDir opens a procfs that a thread has mounted in a namespace of which
// nothing but the descriptor is left.
func prepareForeignDir(s *probe.Setup) (func(), error) {
	return s.Once("foreign directory", func() (func(), error) {
		if err := s.NeedMounts(); err != nil {
			return nil, err
		}
		fd, err := foreignProcfs(s.Dir)
		if err != nil {
			return nil, err
		}
		for side := range probe.Sides {
			copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				return nil, err
			}
			if err := s.Inherit(side, foreignDirFD, os.NewFile(uintptr(copied), "foreign procfs")); err != nil {
				return nil, err
			}
		}
		return nil, unix.Close(fd)
	})
}

// foreignProcfs mounts a procfs on dir in a mount namespace that ends with the thread.
func foreignProcfs(dir string) (fd int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err = unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return
		}
		if err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return
		}
		if err = mounting("proc")(dir); err != nil {
			return
		}
		fd, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}()
	<-done
	if err != nil {
		return -1, fmt.Errorf("mounting in another namespace: %w", err)
	}
	return fd, nil
}
