package probe

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel/attack"
	"golang.org/x/sys/unix"
)

// fileAttempts are the ways that go through the file system, mounts, devices,
// descriptors, the supervisor, and races.
func fileAttempts() []Attempt {
	var all []Attempt
	for _, family := range []func() []Attempt{procfsMountAttempts, lateMountAttempts, tracingAttempts, procFileAttempts,
		procLinkAttempts, procSystemAttempts, descriptorAttempts, codeFileAttempts, deviceAttempts, sysfsAttempts, rootDirectoryAttempts,
		monitorAttempts, raceAttempts} {
		all = append(all, family()...)
	}
	return all
}

// permitsMemory says which setting opens /proc/PID/mem and the like.
func permitsMemory(e Effect) func(policy.Policy) string {
	return func(p policy.Policy) string {
		switch {
		case p.Memory.Access == policy.AccessAllow:
			return `memory.access = "allow"`
		case p.Memory.Access == policy.AccessNoWrite && (e == Read || e == Obtain):
			return `memory.access = "no-write"`
		}
		return ""
	}
}

const procfsManual = "proc(5), mount(2), Documentation/userspace-api/landlock.rst (filesystem topology)"

// A procfsView is another way to procfs than /proc.
type procfsView struct {
	spelling string
	explain  string
	abi      ABI
	prepare  func(s *Stage) (func(), error)
	open     func(s *Scene, v Victim, flags int) (int, string, error)
}

// procfsMountAttempts reach /proc/PID/mem through other mounts of procfs, there
// before the sandbox starts.
func procfsMountAttempts() []Attempt {
	var all []Attempt
	for _, view := range procfsViews() {
		for _, target := range []Target{Self, Child, Sibling, Outside} {
			for _, effect := range []Effect{Read, Write} {
				if view.abi == I386 && (target == Child || effect == Read) {
					continue
				}
				all = append(all, view.attempt(target, effect))
			}
		}
	}
	return append(all, fileBindAttempt(Read), fileBindAttempt(Write))
}

func (p procfsView) attempt(target Target, effect Effect) Attempt {
	return Attempt{Route: "procfs-mount", Spelling: p.spelling, Target: target, Effect: effect, ABI: p.abi, Explain: p.explain,
		Reference: procfsManual, Permits: permitsMemory(effect), Prepare: p.prepare,
		Attack: func(s *Scene, v Victim) Outcome {
			flags := unix.O_RDWR
			if effect == Read {
				flags = unix.O_RDONLY
			}
			fd, step, err := p.open(s, v, flags|unix.O_CLOEXEC)
			if err != nil {
				return Refused(step, err)
			}
			defer unix.Close(fd)
			return useMem(fd, v, effect)
		}}
}

const (
	secondProcfs = "second-procfs"
	boundProcfs  = "bound-procfs"
	chrootProcfs = "chroot"
)

func prepareSecondProcfs(s *Stage) (func(), error) { return s.mount(secondProcfs, mounting("proc")) }
func prepareBoundProcfs(s *Stage) (func(), error)  { return s.mount(boundProcfs, binding("/proc")) }

func procfsViews() []procfsView {
	below := func(key, rest string) func(s *Scene, v Victim, flags int) (int, string, error) {
		return func(s *Scene, v Victim, flags int) (int, string, error) {
			fd, err := unix.Open(v.ProcDir(s.Made[key]+rest)+"/mem", flags, 0)
			return fd, "open", err
		}
	}
	return []procfsView{
		{spelling: "second", explain: "a second procfs that was mounted in a writable directory before the start", prepare: prepareSecondProcfs, open: below(secondProcfs, "")},
		{spelling: "bind", explain: "a bind mount of /proc in a writable directory", prepare: prepareBoundProcfs, open: below(boundProcfs, "")},
		{spelling: "chroot-path", explain: "the procfs inside a directory made for chroot, by its path", prepare: prepareChroot, open: below(chrootProcfs, "/proc")},
		{spelling: "chroot", explain: "the procfs inside a directory made for chroot, after chroot(2) into it", prepare: prepareChroot, open: openInChroot},
		{spelling: "second", abi: I386, explain: "a second procfs, opened by the 32-bit interface", prepare: prepareSecondProcfs,
			open: func(s *Scene, v Victim, flags int) (int, string, error) {
				path, err := attack.Low(attack.String(v.ProcDir(s.Made[secondProcfs]) + "/mem"))
				if err != nil {
					return -1, "mmap", err
				}
				return opened(attack.Call32(open32, attack.Address(path), uintptr(flags)))
			}},
	}
}

func prepareChroot(s *Stage) (func(), error) {
	return s.once(chrootProcfs, func() (func(), error) {
		root, err := s.mountPoint(chrootProcfs)
		if err != nil {
			return nil, err
		}
		proc := filepath.Join(root, "proc")
		undo := func() {
			unix.Unmount(proc, unix.MNT_DETACH)
			unix.Rmdir(proc)
			unix.Rmdir(root)
		}
		err = os.Mkdir(proc, 0o755)
		if err == nil {
			err = mounting("proc")(proc)
		}
		if err != nil {
			undo()
			return nil, err
		}
		s.Made[chrootProcfs] = root
		return undo, nil
	})
}

// openInChroot leaves this process's own root directory alone: it works on a
// thread that shares it with nobody and that ends with the goroutine.
func openInChroot(s *Scene, v Victim, flags int) (fd int, step string, err error) {
	path := filepath.Join("/proc", filepath.Base(v.ProcDir(s.Made[chrootProcfs]+"/proc")), "mem")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		fd = -1
		if step, err = "unshare", unix.Unshare(unix.CLONE_FS); err != nil {
			return
		}
		if step, err = "chroot", unix.Chroot(s.Made[chrootProcfs]); err != nil {
			return
		}
		step = "open"
		fd, err = unix.Open(path, flags, 0)
	}()
	<-ended
	return fd, step, err
}

// fileBindAttempt opens an ordinary file on which the memory of a process outside
// was mounted.
func fileBindAttempt(effect Effect) Attempt {
	a := Attempt{Route: "procfs-mount", Spelling: "file-bind", Target: Outside, Effect: effect,
		Explain:   "a bind mount of one /proc/PID/mem over an ordinary file",
		Reference: procfsManual, Permits: permitsMemory(effect), Layer: "mounts"}
	name := a.Name()
	file := func(i int) string { return fmt.Sprintf("file-bind-%s-%d", effect, i) }
	a.Prepare = func(s *Stage) (func(), error) {
		if !s.private {
			return nil, errNoMounts
		}
		if err := s.invite(name, func(int) []string { return nil }); err != nil {
			return nil, err
		}
		var points []string
		undo := func() {
			for _, point := range points {
				unix.Unmount(point, unix.MNT_DETACH)
				os.Remove(point)
			}
		}
		for i, guest := range s.Guests[name] {
			point := filepath.Join(s.Mounts, file(i))
			points = append(points, point)
			err := os.WriteFile(point, nil, 0o666)
			if err == nil {
				var mem *os.File
				if mem, err = guest.openMem(); err == nil {
					err = binding(mem.Name())(point)
					mem.Close()
				}
			}
			if err != nil {
				undo()
				return nil, err
			}
			s.Made[file(i)] = point
		}
		return undo, nil
	}
	a.Attack = func(s *Scene, v Victim) Outcome {
		flags := unix.O_RDWR
		if effect == Read {
			flags = unix.O_RDONLY
		}
		fd, err := unix.Open(s.Made[file(index(!s.Control))], flags|unix.O_CLOEXEC, 0)
		if err != nil {
			return Refused("open", err)
		}
		defer unix.Close(fd)
		return useMem(fd, v, effect)
	}
	return a
}

const lateWhy = "somebody outside who may mount can reopen what was closed; the sandbox says so when it happens, " +
	"on-mount = \"end\" ends it, and private-mounts = \"yes\" keeps it from seeing later mounts"

// lateMountAttempts reach procfs through mounts made while the sandbox is at work.
func lateMountAttempts() []Attempt {
	var all []Attempt
	for _, kind := range []struct {
		spelling, explain string
		mount             func(point string) error
	}{
		{"late-second", "a second procfs that somebody outside mounts while the sandbox is at work", mounting("proc")},
		{"late-bind", "a bind mount of /proc that somebody outside makes while the sandbox is at work", binding("/proc")},
	} {
		for _, target := range []Target{Self, Sibling, Outside} {
			for _, effect := range []Effect{Read, Write} {
				view := procfsView{spelling: kind.spelling, explain: kind.explain, open: func(s *Scene, v Victim, flags int) (int, string, error) {
					fd, err := unix.Open(v.ProcDir(s.Made[kind.spelling])+"/mem", flags, 0)
					return fd, "open", err
				}}
				a := view.attempt(target, effect)
				a.Late = func(s *Stage) (func(), error) { return s.mountNow(kind.spelling, kind.mount) }
				if target != Outside { // whom the domain's ptrace rule protects
					a.Promise, a.Why = Open, lateWhy
				}
				all = append(all, a)
			}
		}
	}
	return all
}
