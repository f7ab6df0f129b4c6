package attempts

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

// sysfsAttempts open attributes of the kernel for writing, without writing. uid 0
// may write them without any capability.
func sysfsAttempts() []probe.Attempt {
	const reference = "Documentation/filesystems/sysfs.rst, " +
		"Documentation/admin-guide/cgroup-v1/cgroups.rst (release_agent)"
	at := func(spelling, explain string, path func(s *probe.Env) (string, error)) probe.Attempt {
		return probe.Attempt{Route: "sysfs", Spelling: spelling, Target: probe.System, Effect: probe.Obtain,
			Explain: explain, Reference: reference,
			Attack: func(s *probe.Env, _ probe.Victim) probe.Outcome {
				file, err := path(s)
				if err != nil {
					return probe.Refused("finding a file", err)
				}
				return openOnly(file, unix.O_WRONLY)
			}}
	}
	fixed := func(patterns ...string) func(*probe.Env) (string, error) {
		return func(*probe.Env) (string, error) { return firstOf(patterns...) }
	}
	below := func(key, rest string) func(*probe.Env) (string, error) {
		return func(s *probe.Env) (string, error) { return s.Values[key] + rest, nil }
	}
	const attribute = "/kernel/mm/transparent_hugepage/enabled"
	second := at("second", "opening an attribute for writing through a second sysfs that was mounted in "+
		"a writable directory", below("second-sysfs", attribute))
	second.Setup = func(s *probe.Setup) (func(), error) { return s.Mount("second-sysfs", mounting("sysfs")) }
	cgroup := at("cgroup-second",
		"opening cgroup.procs for writing through a second mount of the cgroup file system",
		below("second-cgroup", "/cgroup.procs"))
	cgroup.Setup = func(s *probe.Setup) (func(), error) { return s.Mount("second-cgroup", mounting("cgroup2")) }
	bound := at("bind", "opening an attribute for writing through a bind mount of /sys",
		below("bound-sysfs", attribute))
	bound.Setup = func(s *probe.Setup) (func(), error) { return s.Mount("bound-sysfs", binding("/sys")) }
	return []probe.Attempt{
		at("attribute", "opening an attribute of memory management for writing",
			fixed("/sys"+attribute, "/sys/kernel/mm/ksm/run")),
		at("uevent-helper", "opening the name of the program that the kernel runs for devices",
			fixed("/sys/kernel/uevent_helper")),
		at("power", "opening the file that suspends the machine for writing", fixed("/sys/power/state")),
		at("firmware", "opening the directory that firmware is loaded from for writing",
			fixed("/sys/module/firmware_class/parameters/path")),
		at("pci-resource", "opening the memory of a PCI device for writing",
			fixed("/sys/bus/pci/devices/*/resource[0-5]")),
		at("pci-config", "opening the configuration of a PCI device for writing",
			fixed("/sys/bus/pci/devices/*/config")),
		at("pci-driver", "opening the choice of a PCI device's driver, such as vfio or uio, for writing",
			fixed("/sys/bus/pci/devices/*/driver_override")),
		at("cgroup-procs", "opening cgroup.procs, by which processes are moved, for writing",
			fixed("/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/*/cgroup.procs")),
		at("cgroup-kill", "opening cgroup.kill, which ends a group of processes, for writing",
			fixed("/sys/fs/cgroup/*/cgroup.kill", "/sys/fs/cgroup/*/*/cgroup.kill")),
		at("release-agent", "opening the name of the program that the kernel runs for an empty cgroup",
			fixed("/sys/fs/cgroup/*/release_agent", "/sys/fs/cgroup/release_agent")),
		needing(exists("/sys/power/resume"), at("resume", "opening the name of the device that memory is "+
			"read back from for writing", fixed("/sys/power/resume"))),
		needing(exists("/sys/power/disk"), at("hibernation", "opening what becomes of an image of memory "+
			"for writing", fixed("/sys/power/disk"))),
		second, bound, cgroup,
	}
}

// needing is an attempt that means something on some machines only.
func needing(needs func() string, a probe.Attempt) probe.Attempt {
	a.Needs = needs
	return a
}

// acpiAttempts give the firmware's interpreter a method of the attacker's, which the kernel
// then runs and which reads and writes any physical address.
func acpiAttempts() []probe.Attempt {
	at := func(spelling, path, explain string, try func(path string) probe.Outcome) probe.Attempt {
		return probe.Attempt{Route: "acpi", Spelling: spelling, Target: probe.System, Effect: probe.Obtain,
			Explain: explain, Reference: "Documentation/admin-guide/acpi/ssdt-overlays.rst, " +
				"Documentation/firmware-guide/acpi/method-customizing.rst",
			Needs: exists(path), Attack: func(*probe.Env, probe.Victim) probe.Outcome { return try(path) }}
	}
	write := func(path string) probe.Outcome { return openOnly(path, unix.O_WRONLY) }
	return []probe.Attempt{
		at("custom-method", "/sys/kernel/debug/acpi/custom_method",
			"opening the file of debugfs that replaces a method for writing", write),
		at("debugger", "/sys/kernel/debug/acpi/acpidbg", "opening the debugger of methods in debugfs", write),
		at("call", "/proc/acpi/call", "opening the file of a module that calls any method for writing", write),
		at("table", "/sys/kernel/config/acpi/table", "making a directory in configfs, through which a table is loaded",
			func(path string) probe.Outcome {
				path = filepath.Join(path, fmt.Sprintf("probe-%d", os.Getpid()))
				return madeOrNot(path, unix.Mkdir(path, 0o700))
			}),
	}
}

// firstOf is the first file that one of the patterns matches.
func firstOf(patterns ...string) (string, error) {
	for _, pattern := range patterns {
		if found, err := filepath.Glob(pattern); err == nil && len(found) > 0 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("%v: %w", patterns, unix.ENOENT)
}

// inDirectory is a name in dir that no other run has.
func inDirectory(s *probe.Setup, dir string) string {
	return filepath.Join(dir, "."+filepath.Base(s.Dir))
}

// A making makes something under a name.
type making struct {
	name string
	make func(s *probe.Env, path string) error
}

func makings() []making {
	return []making{
		{"file", func(_ *probe.Env, path string) error {
			fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}},
		{"directory", func(_ *probe.Env, path string) error { return unix.Mkdir(path, 0o700) }},
		{"symlink", func(_ *probe.Env, path string) error { return unix.Symlink("/proc/self/mem", path) }},
		{"fifo", func(_ *probe.Env, path string) error { return unix.Mkfifo(path, 0o600) }},
		{"device", func(_ *probe.Env, path string) error {
			return unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) // another /dev/null
		}},
		{"renamed", func(s *probe.Env, path string) error {
			mine := filepath.Join(s.Dir, "mine")
			if err := os.WriteFile(mine, nil, 0o600); err != nil {
				return err
			}
			return unix.Rename(mine, path)
		}},
	}
}

// rootDirectoryAttempts create things in directories above what is closed. A right
// to create there would hold below too; and a refusal must leave nothing behind.
func rootDirectoryAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, dir := range []struct{ name, path string }{{"root", "/"}, {"dev", "/dev"}} {
		for _, m := range makings() {
			if dir.name == "dev" && m.name == "renamed" {
				continue // another file system than the attempts' directory
			}
			all = append(all, probe.Attempt{Route: "carved-directory", Spelling: dir.name + "-" + m.name,
				Target: probe.System, Effect: probe.Obtain,
				Explain:   "making a " + m.name + " directly in " + dir.path,
				Reference: "Documentation/userspace-api/landlock.rst (LANDLOCK_ACCESS_FS_MAKE_*)",
				// What a sandbox lets be made but not removed is removed outside.
				SetupLate: func(s *probe.Setup) (func(),
					error) {
					return func() { os.Remove(inDirectory(s, dir.path)) }, nil
				},
				Attack: func(s *probe.Env, _ probe.Victim) probe.Outcome {
					path := inDirectory(s.Setup, dir.path)
					return madeOrNot(path, m.make(s, path))
				}})
		}
	}
	return all
}

// madeOrNot looks whether something was made, whatever the call said, and removes it.
func madeOrNot(path string, err error) probe.Outcome {
	var st unix.Stat_t
	there := unix.Lstat(path, &st) == nil
	if there {
		os.Remove(path)
	}
	switch {
	case there && err != nil:
		return probe.Did("%v, but it was made: %s", err, path)
	case there:
		return probe.Did("made %s", path)
	case err != nil:
		return probe.Refused("making it", err)
	}
	return probe.Outcome{Step: "making it", Detail: "it is not there"}
}
