package attempts

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

const tracingReference = "Documentation/trace/uprobetracer.rst (fetch arguments)"

const (
	secondTracefs = "second-tracefs"
	secondDebugfs = "second-debugfs"
)

// tracingAttempts open the file in which a probe with an argument "@ADDRESS" can
// be written, which reads any process's memory: all that it asks for is uid 0.
func tracingAttempts() []probe.Attempt {
	at := func(spelling, explain string, path func(s *probe.Env) string) probe.Attempt {
		return probe.Attempt{Route: "tracing", Spelling: spelling, Target: probe.System, Effect: probe.Obtain,
			Explain: explain, Reference: tracingReference,
			Attack: func(s *probe.Env, _ probe.Victim) probe.Outcome {
				return openOnly(path(s), unix.O_WRONLY|unix.O_APPEND)
			}}
	}
	prepared := at("second-tracefs",
		"uprobe_events of a tracefs that was mounted in a writable directory before the start",
		func(s *probe.Env) string { return s.Values[secondTracefs] + "/uprobe_events" })
	prepared.Setup = func(s *probe.Setup) (func(), error) { return s.Mount(secondTracefs, mounting("tracefs")) }

	debugfs := at("second-debugfs",
		"tracing/uprobe_events of a debugfs that was mounted in a writable directory before the start",
		func(s *probe.Env) string { return s.Values[secondDebugfs] + "/tracing/uprobe_events" })
	debugfs.Setup = func(s *probe.Setup) (func(), error) { return s.Mount(secondDebugfs, mounting("debugfs")) }

	late := at("late-tracefs", "uprobe_events of a tracefs that somebody outside mounts while the sandbox is at work",
		func(s *probe.Env) string { return s.Values["late-tracefs"] + "/uprobe_events" })
	late.SetupLate = func(s *probe.Setup) (func(), error) { return s.MountLate("late-tracefs", mounting("tracefs")) }
	late.Promise, late.Why = probe.PromiseOpen, lateWhy

	fixed := at("tracefs", "uprobe_events of the tracefs on its usual place",
		func(*probe.Env) string { return "/sys/kernel/tracing/uprobe_events" })
	return []probe.Attempt{fixed, prepared, debugfs, late, uprobeAttempt()}
}

// uprobeAttempt has the kernel put a process's memory into a trace. The process
// runs a copy of this program, so that the probe is in nobody else's way.
func uprobeAttempt() probe.Attempt {
	const program, group = "uprobe-program", "uprobe-group"
	a := probe.Attempt{Route: "tracing", Spelling: "uprobe", Target: probe.Outside, Effect: probe.Read,
		Explain: "a uprobe with an argument \"@ADDRESS\" on the program of a process outside, through " +
			"a second tracefs",
		Reference: tracingReference}
	name := a.Name()
	a.Setup = func(s *probe.Setup) (func(), error) {
		unmount, err := s.Mount(secondTracefs, mounting("tracefs"))
		if err != nil {
			return unmount, err
		}
		path := filepath.Join(s.Dir, program)
		if err := copySelf(path); err != nil {
			return unmount, err
		}
		// One for both sides: reading changes nothing, and the probe is on the program.
		if err := s.StartSharedVictim(name, probe.VictimOptions{Program: path, Heartbeat: true}); err != nil {
			return unmount, err
		}
		s.Values[program], s.Values[group] = path, "memjail_"+strings.ReplaceAll(filepath.Base(s.Dir), "-", "_")
		return func() {
			uprobe{s.Values[secondTracefs], s.Values[group]}.remove()
			if unmount != nil {
				unmount()
			}
		}, nil
	}
	a.Attack = func(s *probe.Env, v probe.Victim) probe.Outcome {
		event := uprobe{s.Values[secondTracefs], s.Values[group]}
		defer event.remove()
		data, step, err := event.fetch(s.Values[program], v.RW)
		if err != nil {
			return probe.Refused(step, err)
		}
		return probe.Got(data)
	}
	return a
}

func copySelf(path string) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	from, err := os.Open(exe)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

// A uprobe is an event in a tracefs, in a group and an instance (a buffer) of its
// own, both of the same name.
type uprobe struct{ tracefs, group string }

func (u uprobe) write(file, text string) error {
	f, err := os.OpenFile(filepath.Join(u.tracefs, file), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// fetch has 16 bytes at an address of the process that runs program traced when it
// next comes by [HeartbeatAddress].
func (u uprobe) fetch(program string, address uint64) (data []byte, step string, err error) {
	offset, err := fileOffset(probe.HeartbeatAddress())
	if err != nil {
		return nil, "finding the place of the probe", err
	}
	event := fmt.Sprintf("p:%s/beat %s:%#x low=@%#x:u64 high=@%#x:u64", u.group, program, offset, address, address+8)
	if err := u.write("uprobe_events", event); err != nil {
		return nil, "uprobe_events", err
	}
	instance := filepath.Join("instances", u.group)
	if err := os.Mkdir(filepath.Join(u.tracefs, instance), 0o700); err != nil {
		return nil, "mkdir", err
	}
	if err := u.write(filepath.Join(instance, "events", u.group, "beat/enable"), "1"); err != nil {
		return nil, "enable", err
	}
	time.Sleep(100 * time.Millisecond)
	text, err := os.ReadFile(filepath.Join(u.tracefs, instance, "trace"))
	if err != nil {
		return nil, "trace", err
	}
	for line := range strings.Lines(string(text)) {
		var low, high uint64
		if _, arguments, ok := strings.Cut(line, " low="); ok {
			if n, _ := fmt.Sscanf(arguments, "%d high=%d", &low, &high); n == 2 {
				return binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(nil, low), high), "trace", nil
			}
		}
	}
	return nil, "trace", unix.ENODATA
}

// remove takes everything back, as far as it is there.
func (u uprobe) remove() {
	instance := filepath.Join("instances", u.group)
	u.write(filepath.Join(instance, "events", u.group, "beat/enable"), "0")
	os.Remove(filepath.Join(u.tracefs, instance))
	u.write("uprobe_events", "-:"+u.group+"/beat")
}

// fileOffset is where in its file the code at an address of this process is.
func fileOffset(pc uintptr) (uint64, error) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(maps)) {
		var from, to, offset uint64
		var rights string
		if n, _ := fmt.Sscanf(line, "%x-%x %s %x", &from, &to, &rights, &offset); n == 4 &&
			from <= uint64(pc) && uint64(pc) < to {
			return uint64(pc) - from + offset, nil
		}
	}
	return 0, unix.ENOENT
}

// openOnly opens a file and closes it again at once: that it could is the effect.
func openOnly(path string, flags int) probe.Outcome {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return probe.Refused("open", err)
	}
	unix.Close(fd)
	return probe.Did("opened %s", path)
}
