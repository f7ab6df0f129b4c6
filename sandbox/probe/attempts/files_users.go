package attempts

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

// The users of the attempts below: an ordinary one, and one that is root but for the
// number.
var (
	nobody  = &probe.User{UID: 65534, GID: 65534}
	capable = &probe.User{UID: 65534, GID: 65534, Capabilities: []uintptr{unix.CAP_DAC_OVERRIDE, unix.CAP_SETUID}}
)

const capableReference = "capabilities(7) (CAP_DAC_OVERRIDE, CAP_SETUID)"

// capableAttempts open what is root's as a user that is not root and has a capability
// that is as good.
func capableAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, object := range []struct {
		route, spelling, what string
		needs                 func() string
		path                  func() (string, error)
		flags                 int
	}{
		{"sysfs", "attribute", "an attribute of memory management for writing", nil,
			func() (string, error) {
				return firstOf("/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/mm/ksm/run")
			}, unix.O_WRONLY},
		{"sysfs", "cgroup-procs", "cgroup.procs of a cgroup that is root's", nil,
			func() (string, error) {
				return firstOf("/sys/fs/cgroup/cgroup.procs",
					"/sys/fs/cgroup/*/cgroup.procs")
			}, unix.O_WRONLY},
		{"swap", "file", "a swap file, in which pages of all processes are", needsSwapFile, swapFile, unix.O_RDONLY},
	} {
		for _, how := range []struct {
			suffix, explain string
			setuid          bool
		}{
			{"-dac-override", " as an ordinary user with CAP_DAC_OVERRIDE", false},
			{"-setuid", " as an ordinary user with CAP_SETUID, after setuid(0)", true},
		} {
			all = append(all, probe.Attempt{Route: object.route, Spelling: object.spelling + how.suffix,
				Target: probe.System,
				Effect: probe.Obtain, Explain: "opening " + object.what + how.explain, Reference: capableReference,
				As: capable, Needs: object.needs,
				Attack: func(*probe.Env, probe.Victim) probe.Outcome {
					return openAs(how.setuid, object.path, object.flags)
				}})
		}
	}
	return append(all, probe.Attempt{Route: "swap", Spelling: "file", Target: probe.System, Effect: probe.Obtain,
		Explain: "opening a swap file, in which pages of all processes are", Reference: "swapon(8)",
		Needs:  needsSwapFile,
		Attack: func(*probe.Env, probe.Victim) probe.Outcome { return openAs(false, swapFile, unix.O_RDONLY) }})
}

// openAs opens a file by the capability that is asked for, and not by the other one.
func openAs(setuid bool, path func() (string, error), flags int) probe.Outcome {
	file, err := path()
	if err != nil {
		return probe.Refused("finding a file", err)
	}
	if setuid {
		// On this thread alone, which loses no capability by becoming 0.
		if _, errno := attack.Call(unix.SYS_SETRESUID, 0, 0, 0); errno != 0 {
			return probe.Refused("setresuid", errno)
		}
	}
	return openOnly(file, flags)
}

// swapFile is a file in which pages are swapped out, proc_swaps(5).
func swapFile() (string, error) {
	table, err := os.ReadFile("/proc/swaps")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[1] == "file" {
			return fields[0], nil
		}
	}
	return "", unix.ENOENT
}

func needsSwapFile() string {
	if _, err := swapFile(); err != nil {
		return "the system swaps to no file"
	}
	return ""
}

const cgroupReference = "Documentation/admin-guide/cgroup-v2.rst (cgroup.kill, cgroup.freeze, delegation)"

// cgroupAttempts end or stop a process outside by the cgroup that it is in: one that the
// attempt made, with that process alone.
func cgroupAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, file := range []struct{ name, explain string }{
		{"kill", "cgroup.kill of the cgroup of a process outside ends it"},
		{"freeze", "cgroup.freeze of the cgroup of a process outside stops it"},
	} {
		for _, owner := range []struct {
			suffix, explain string
			as              *probe.User
		}{{"", "", nil}, {"-delegated", ", as an ordinary user to whom the cgroup was given", nobody}} {
			all = append(all, cgroupAttempt(file.name, file.name+owner.suffix, file.explain+owner.explain, owner.as))
		}
	}
	return all
}

func cgroupAttempt(file, spelling, explain string, as *probe.User) probe.Attempt {
	a := probe.Attempt{Route: "cgroup", Spelling: spelling, Target: probe.Outside, Effect: probe.Disturb,
		Explain: explain, Reference: cgroupReference, As: as,
		Judge: func(_ probe.State, gone bool) bool { return gone }}
	name := a.Name()
	a.Setup = func(s *probe.Setup) (func(), error) {
		if err := s.StartVictims(name, noOptions); err != nil {
			return nil, err
		}
		var undo []func()
		all := func() {
			for _, u := range undo {
				u()
			}
		}
		for side, victim := range s.ExternalVictims[name] {
			dir, remove, err := newCgroup(fmt.Sprintf("%s-%s-%d", filepath.Base(s.Dir), spelling, side), victim.PID, as)
			if remove != nil {
				undo = append(undo, remove)
			}
			if err != nil {
				return all, err
			}
			note(s, name, side, filepath.Join(dir, "cgroup."+file))
		}
		return all, nil
	}
	a.Attack = func(s *probe.Env, _ probe.Victim) probe.Outcome {
		path := noted(s, name)
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return probe.Refused("open", err)
		}
		defer unix.Close(fd)
		if _, err := unix.Write(fd, []byte("1")); err != nil {
			return probe.Refused("write", err)
		}
		return probe.Did("written to %s", path)
	}
	return a
}

// newCgroup makes a cgroup below this process's own, with one process in it, and gives it
// to a user.
func newCgroup(name string, pid int, owner *probe.User) (dir string, remove func(), err error) {
	parent, err := ownCgroup()
	if err != nil {
		return "", nil, err
	}
	dir = filepath.Join(parent, name)
	if err := unix.Mkdir(dir, 0o755); err != nil {
		return "", nil, fmt.Errorf("making a cgroup: %w", err)
	}
	remove = func() { removeCgroup(dir) }
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
		return dir, remove, err
	}
	for _, file := range []string{"", "cgroup.procs", "cgroup.kill", "cgroup.freeze"} {
		path := filepath.Join(dir, file)
		if _, err := os.Stat(path); err != nil {
			return dir, remove, err // cgroup.kill is of Linux 5.14
		}
		if owner == nil {
			continue
		}
		if err := os.Chown(path, int(owner.UID), int(owner.GID)); err != nil {
			return dir, remove, err
		}
	}
	return dir, remove, nil
}

// removeCgroup ends what is in a cgroup, which is nothing but a victim, and removes it.
func removeCgroup(dir string) {
	os.WriteFile(filepath.Join(dir, "cgroup.freeze"), []byte("0"), 0)
	os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
	for range 100 {
		if err := unix.Rmdir(dir); err != unix.EBUSY {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// ownCgroup is the directory of this process's cgroup in the hierarchy of version 2.
func ownCgroup() (string, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	mounts, err := mountinfo.ReadThread()
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		for _, m := range mounts {
			if below, within := strings.CutPrefix(path, strings.TrimSuffix(m.Root, "/")); ok && within &&
				m.FSType == "cgroup2" {
				return filepath.Join(m.Point, below), nil
			}
		}
	}
	return "", fmt.Errorf("no cgroup file system of version 2 is mounted that shows this process's cgroup: %w",
		unix.ENOENT)
}
