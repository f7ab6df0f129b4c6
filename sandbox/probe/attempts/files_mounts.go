package attempts

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

// fileFamilies are the ways that go through the file system, mounts, devices,
// descriptors, the supervisor, and races.
var fileFamilies = []func() []probe.Attempt{
	procfsMountAttempts, lateMountAttempts, tracingAttempts, procFileAttempts, procLinkAttempts, procSystemAttempts,
	descriptorAttempts, codeFileAttempts, deviceAttempts, sysfsAttempts, acpiAttempts, capableAttempts,
	cgroupAttempts,
	ioctlAttempts, rootDirectoryAttempts, monitorAttempts, viewAttempts, deniedAttempts, socketAttempts, raceAttempts,
}

// permitsMemory says which setting opens /proc/PID/mem and the like.
func permitsMemory(e probe.Effect) func(policy.Policy) string {
	return func(p policy.Policy) string {
		switch {
		case p.Memory.Access == policy.AccessAllow:
			return `memory.access = "allow"`
		case p.Memory.Access == policy.AccessNoWrite && (e == probe.Read || e == probe.Obtain):
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
	abi      probe.ABI
	prepare  func(s *probe.Setup) (func(), error)
	open     func(s *probe.Env, v probe.Victim, flags int) (int, string, error)
}

// procfsMountAttempts reach /proc/PID/mem through other mounts of procfs, there
// before the sandbox starts.
func procfsMountAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, view := range procfsViews() {
		for _, target := range []probe.Target{probe.Self, probe.Child, probe.Sibling, probe.Outside} {
			for _, effect := range []probe.Effect{probe.Read, probe.Write} {
				if view.abi == probe.I386 && (target == probe.Child || effect == probe.Read) {
					continue
				}
				all = append(all, view.attempt(target, effect))
			}
		}
	}
	return append(all, fileBindAttempt(probe.Read), fileBindAttempt(probe.Write))
}

func (p procfsView) attempt(target probe.Target, effect probe.Effect) probe.Attempt {
	return probe.Attempt{Route: "procfs-mount", Spelling: p.spelling, Target: target, Effect: effect,
		ABI: p.abi, Explain: p.explain,
		Reference: procfsManual, Permits: permitsMemory(effect), ByCapability: effect == probe.Read, Setup: p.prepare,
		Attack: attackMem(effect, p.open)}
}

const (
	secondProcfs = "second-procfs"
	boundProcfs  = "bound-procfs"
	chrootProcfs = "chroot"
)

func prepareSecondProcfs(s *probe.Setup) (func(), error) {
	return s.Mount(secondProcfs, mounting("proc"))
}
func prepareBoundProcfs(s *probe.Setup) (func(), error) {
	return s.Mount(boundProcfs, binding("/proc"))
}

func procfsViews() []procfsView {
	below := func(key, rest string) func(s *probe.Env, v probe.Victim, flags int) (int, string, error) {
		return func(s *probe.Env, v probe.Victim, flags int) (int, string, error) {
			fd, err := unix.Open(v.ProcDir(s.Values[key]+rest)+"/mem", flags, 0)
			return fd, "open", err
		}
	}
	return []procfsView{
		{spelling: "second", explain: "a second procfs that was mounted in a writable directory before the start",
			prepare: prepareSecondProcfs, open: below(secondProcfs, "")},
		{spelling: "bind", explain: "a bind mount of /proc in a writable directory",
			prepare: prepareBoundProcfs, open: below(boundProcfs, "")},
		{spelling: "chroot-path", explain: "the procfs inside a directory made for chroot, by its path",
			prepare: prepareChroot, open: below(chrootProcfs, "/proc")},
		{spelling: "chroot", explain: "the procfs inside a directory made for chroot, after chroot(2) into it",
			prepare: prepareChroot, open: openInChroot},
		{spelling: "second", abi: probe.I386, explain: "a second procfs, opened by the 32-bit interface",
			prepare: prepareSecondProcfs,
			open: func(s *probe.Env, v probe.Victim, flags int) (int, string, error) {
				path, err := attack.Low(attack.String(v.ProcDir(s.Values[secondProcfs]) + "/mem"))
				if err != nil {
					return -1, "mmap", err
				}
				return opened(attack.Call32(open32, attack.Address(path), uintptr(flags)))
			}},
	}
}

func prepareChroot(s *probe.Setup) (func(), error) {
	return s.Once(chrootProcfs, func() (func(), error) {
		root, err := s.MountPoint(chrootProcfs)
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
		s.Values[chrootProcfs] = root
		return undo, nil
	})
}

// openInChroot leaves this process's own root directory alone: it works on a
// thread that shares it with nobody and that ends with the goroutine.
func openInChroot(s *probe.Env, v probe.Victim, flags int) (fd int, step string, err error) {
	path := filepath.Join("/proc", filepath.Base(v.ProcDir(s.Values[chrootProcfs]+"/proc")), "mem")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		fd = -1
		if step, err = "unshare", unix.Unshare(unix.CLONE_FS); err != nil {
			return
		}
		if step, err = "chroot", unix.Chroot(s.Values[chrootProcfs]); err != nil {
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
func fileBindAttempt(effect probe.Effect) probe.Attempt {
	a := probe.Attempt{Route: "procfs-mount", Spelling: "file-bind", Target: probe.Outside, Effect: effect,
		Explain:   "a bind mount of one /proc/PID/mem over an ordinary file",
		Reference: procfsManual, Permits: permitsMemory(effect), Layer: "mounts"}
	name := a.Name()
	file := func(i int) string { return fmt.Sprintf("file-bind-%s-%d", effect, i) }
	a.Setup = func(s *probe.Setup) (func(), error) {
		if err := s.NeedMounts(); err != nil {
			return nil, err
		}
		if err := s.StartVictims(name, noOptions); err != nil {
			return nil, err
		}
		var points []string
		undo := func() {
			for _, point := range points {
				unix.Unmount(point, unix.MNT_DETACH)
				os.Remove(point)
			}
		}
		for i, victim := range s.ExternalVictims[name] {
			point := filepath.Join(s.Mounts, file(i))
			points = append(points, point)
			err := os.WriteFile(point, nil, 0o666)
			if err == nil {
				var mem *os.File
				if mem, err = victim.OpenMem(); err == nil {
					err = binding(mem.Name())(point)
					mem.Close()
				}
			}
			if err != nil {
				undo()
				return nil, err
			}
			s.Values[file(i)] = point
		}
		return undo, nil
	}
	a.Attack = attackMem(effect, func(s *probe.Env, _ probe.Victim, flags int) (int, string, error) {
		fd, err := unix.Open(s.Values[file(s.Side())], flags, 0)
		return fd, "open", err
	})
	return a
}

const lateWhy = "somebody outside who may mount can reopen what was closed; the sandbox says so when it happens, " +
	"on-mount = \"end\" ends it, and private-mounts = \"yes\" keeps it from seeing later mounts"

// lateMountAttempts reach procfs through mounts made while the sandbox is at work.
func lateMountAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, kind := range []struct {
		spelling, explain string
		mount             func(point string) error
	}{
		{"late-second", "a second procfs that somebody outside mounts while the sandbox is at work", mounting("proc")},
		{"late-bind", "a bind mount of /proc that somebody outside makes while the sandbox is at work",
			binding("/proc")},
	} {
		for _, target := range []probe.Target{probe.Self, probe.Sibling, probe.Outside} {
			for _, effect := range []probe.Effect{probe.Read, probe.Write} {
				view := procfsView{spelling: kind.spelling, explain: kind.explain,
					open: func(s *probe.Env, v probe.Victim, flags int) (int, string, error) {
						fd, err := unix.Open(v.ProcDir(s.Values[kind.spelling])+"/mem", flags, 0)
						return fd, "open", err
					}}
				a := view.attempt(target, effect)
				a.SetupLate = func(s *probe.Setup) (func(), error) { return s.MountLate(kind.spelling, kind.mount) }
				if target != probe.Outside { // whom the domain's ptrace rule protects
					a.Promise, a.Why = probe.PromiseOpen, lateWhy
				}
				all = append(all, a)
			}
		}
	}
	return all
}

// noOptions are those of victims that do nothing but be attacked.
func noOptions(int) probe.VictimOptions { return probe.VictimOptions{} }

// mounting returns a mount of a file system without a device.
func mounting(fstype string) func(point string) error {
	return func(point string) error { return unix.Mount(fstype, point, fstype, 0, "") }
}

// binding returns a bind mount of source alone.
func binding(source string) func(point string) error {
	return func(point string) error { return unix.Mount(source, point, "", unix.MS_BIND, "") }
}
