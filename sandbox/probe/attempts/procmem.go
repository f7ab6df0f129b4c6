package attempts

import (
	"os"
	"path/filepath"
	"strconv"

	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

// A memOpener opens /proc/PID/mem of a victim in one particular way.
type memOpener struct {
	spelling string
	explain  string
	// own: it only reaches the attacker's own process.
	own bool
	// writes: it opens for writing whatever is asked for.
	writes bool
	abi    probe.ABI
	open   func(s *probe.Env, v probe.Victim, flags int) (int, string, error)
}

const procManual = "proc_pid_mem(5)"

// procMemAttempts are the ways to /proc/PID/mem through the file system.
func procMemAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, o := range memOpeners() {
		targets := []probe.Target{probe.Self, probe.Child, probe.Sibling, probe.Parent, probe.Outside}
		if o.own {
			targets = []probe.Target{probe.Self}
		}
		if o.spelling == "open" {
			targets = append(targets, probe.Thread)
		}
		for _, target := range targets {
			for _, effect := range []probe.Effect{probe.Read, probe.Write, probe.WriteRO, probe.WriteCode} {
				simple := o.spelling == "open" || o.spelling == "openat2"
				if o.writes && effect == probe.Read || !simple && effect != probe.Write &&
					!(effect == probe.Read && target == probe.Self) {
					continue
				}
				all = append(all, o.attempt(target, effect))
			}
		}
	}
	return all
}

func (o memOpener) attempt(target probe.Target, effect probe.Effect) probe.Attempt {
	return probe.Attempt{Route: "proc-mem", Spelling: o.spelling, Target: target, Effect: effect, ABI: o.abi,
		Explain: o.explain, Reference: procManual, ByCapability: effect == probe.Read,
		Permits: permitsMemory(effect), Attack: attackMem(effect, o.open)}
}

// attackMem opens a mem file and reads or writes the canary through it.
func attackMem(effect probe.Effect, open func(*probe.Env, probe.Victim, int) (int, string,
	error)) func(*probe.Env, probe.Victim) probe.Outcome {
	flags := unix.O_RDWR | unix.O_CLOEXEC
	if effect == probe.Read {
		flags = unix.O_RDONLY | unix.O_CLOEXEC
	}
	return func(s *probe.Env, v probe.Victim) probe.Outcome {
		fd, step, err := open(s, v, flags)
		if err != nil {
			return probe.Refused(step, err)
		}
		defer unix.Close(fd)
		return useMem(fd, v, effect)
	}
}

// useMem reads or writes the canary through an open mem file.
func useMem(fd int, v probe.Victim, e probe.Effect) probe.Outcome {
	at := int64(v.Address(e))
	if e == probe.Read {
		buf := make([]byte, probe.CanarySize)
		n, err := unix.Pread(fd, buf, at)
		if err != nil {
			return probe.Refused("pread", err)
		}
		return probe.Got(buf[:n])
	}
	if _, err := unix.Pwrite(fd, probe.Marker, at); err != nil {
		return probe.Refused("pwrite", err)
	}
	return probe.Did("written at %#x", at)
}

func memOpeners() []memOpener {
	openers := []memOpener{
		{spelling: "open", explain: "open(2) of /proc/PID/mem", open: func(_ *probe.Env, v probe.Victim,
			flags int) (int, string, error) {
			path := attack.String(filepath.Join("/proc", v.TaskNumber("/proc"), "mem"))
			return opened(attack.Call(unix.SYS_OPENAT, atFDCWD, attack.Address(path), uintptr(flags)))
		}},
		{spelling: "openat2", explain: "openat2(2), whose flags a filter cannot see",
			open: func(_ *probe.Env, v probe.Victim, flags int) (int, string, error) {
				fd, err := unix.Openat2(unix.AT_FDCWD, v.Mem(), &unix.OpenHow{Flags: uint64(flags)})
				return fd, "openat2", err
			}},
		{spelling: "self", own: true, explain: "open(2) of /proc/self/mem", open: openPath("/proc/self/mem")},
		{spelling: "thread-self", own: true, explain: "open(2) of /proc/thread-self/mem",
			open: openPath("/proc/thread-self/mem")},
		{spelling: "truncating", own: true, writes: true, explain: "open(2) with O_TRUNC",
			open: func(s *probe.Env, v probe.Victim, flags int) (int, string, error) {
				return openPath("/proc/self/mem")(s, v, flags|unix.O_TRUNC)
			}},
		{spelling: "task", explain: "through /proc/PID/task/TID/mem", open: func(s *probe.Env, v probe.Victim,
			flags int) (int, string, error) {
			return openPath(filepath.Join(v.ProcDir("/proc"), "task", v.TaskNumber("/proc"), "mem"))(s, v, flags)
		}},
		{spelling: "symlink", explain: "through a symbolic link made beforehand",
			open: func(s *probe.Env, v probe.Victim, flags int) (int, string, error) {
				link := filepath.Join(s.Dir, "link")
				if err := os.Symlink(v.Mem(), link); err != nil {
					return -1, "symlink", err
				}
				return openPath(link)(s, v, flags)
			}},
		{spelling: "symlink-chain",
			explain: "through a chain of symbolic links, one of them to a directory of /proc",
			open: func(s *probe.Env, v probe.Victim, flags int) (int, string, error) {
				dir, link := filepath.Join(s.Dir, "dir"), filepath.Join(s.Dir, "link")
				if err := os.Symlink(v.ProcDir("/proc"), dir); err != nil {
					return -1, "symlink", err
				}
				if err := os.Symlink("dir/../"+filepath.Base(v.ProcDir("/proc"))+"/mem", link); err != nil {
					return -1, "symlink", err
				}
				return openPath(link)(s, v, flags)
			}},
		{spelling: "cwd", explain: "by a relative name, with /proc/PID as working directory",
			open: func(s *probe.Env, v probe.Victim, flags int) (int, string, error) {
				if err := unix.Chdir(v.ProcDir("/proc")); err != nil {
					return -1, "chdir", err
				}
				defer unix.Chdir("/")
				return openPath("mem")(s, v, flags)
			}},
		{spelling: "dirfd", explain: "by a relative name, from a descriptor of /proc/PID",
			open: func(_ *probe.Env, v probe.Victim, flags int) (int, string, error) {
				return openBelow(v.ProcDir("/proc"), unix.O_RDONLY, flags)
			}},
		{spelling: "dirfd-o-path", explain: "by a relative name, from an O_PATH descriptor of /proc/PID",
			open: func(_ *probe.Env, v probe.Victim, flags int) (int, string, error) {
				return openBelow(v.ProcDir("/proc"), unix.O_PATH, flags)
			}},
		{spelling: "root-link", explain: "through /proc/self/root, which leads back to /",
			open: func(s *probe.Env, v probe.Victim, flags int) (int, string, error) {
				return openPath("/proc/self/root"+v.Mem())(s, v, flags)
			}},
		{spelling: "reopen", explain: "an O_PATH descriptor of the file, opened again through /proc/self/fd",
			open: func(s *probe.Env, v probe.Victim, flags int) (int, string, error) {
				fd, err := unix.Open(v.Mem(), unix.O_PATH|unix.O_CLOEXEC, 0)
				if err != nil {
					return -1, "open O_PATH", err
				}
				defer unix.Close(fd)
				return openPath("/proc/self/fd/"+strconv.Itoa(fd))(s, v, flags)
			}},
	}
	return append(openers, memOpeners32()...)
}

// atFDCWD is AT_FDCWD as a raw argument.
const atFDCWD = ^uintptr(99)

func opened(fd uintptr, errno unix.Errno) (int, string, error) {
	if errno != 0 {
		return -1, "open", errno
	}
	return int(fd), "open", nil
}

func openPath(path string) func(*probe.Env, probe.Victim, int) (int, string, error) {
	return func(_ *probe.Env, _ probe.Victim, flags int) (int, string, error) {
		fd, err := unix.Open(path, flags, 0)
		return fd, "open", err
	}
}

func openBelow(dir string, dirFlags, flags int) (int, string, error) {
	d, err := unix.Open(dir, dirFlags|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, "open of the directory", err
	}
	defer unix.Close(d)
	fd, err := unix.Openat(d, "mem", flags, 0)
	return fd, "openat", err
}

// Numbers of the 32-bit interface, arch/x86/entry/syscalls/syscall_32.tbl.
const (
	open32    = 5
	creat32   = 8
	openat32  = 295
	openat232 = 437
)

func memOpeners32() []memOpener {
	by := func(spelling, explain string, writes bool, call func(path uintptr, flags int) (uintptr,
		unix.Errno)) memOpener {
		return memOpener{spelling: spelling, explain: explain, abi: probe.I386, writes: writes,
			open: func(_ *probe.Env, v probe.Victim, flags int) (int, string, error) {
				path, err := attack.Low(attack.String(v.Mem()))
				if err != nil {
					return -1, "mmap", err
				}
				return opened(call(attack.Address(path), flags))
			}}
	}
	return []memOpener{
		by("open", "open(2) of /proc/PID/mem by the 32-bit interface", false,
			func(path uintptr, flags int) (uintptr, unix.Errno) {
				return attack.Call32(open32, path, uintptr(flags))
			}),
		by("openat", "openat(2) by the 32-bit interface", false, func(path uintptr, flags int) (uintptr, unix.Errno) {
			return attack.Call32(openat32, atFDCWD, path, uintptr(flags))
		}),
		by("openat2", "openat2(2) by the 32-bit interface", false, func(path uintptr, flags int) (uintptr, unix.Errno) {
			how, err := attack.Low(append([]byte{byte(flags), byte(flags >> 8), byte(flags >> 16),
				byte(flags >> 24)}, make([]byte, 20)...))
			if err != nil {
				return 0, unix.ENOMEM
			}
			return attack.Call32(openat232, atFDCWD, path, attack.Address(how), uintptr(len(how)))
		}),
		by("creat", "creat(2) by the 32-bit interface", true, func(path uintptr, _ int) (uintptr, unix.Errno) {
			return attack.Call32(creat32, path, 0)
		}),
	}
}
