package attempts

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

var (
	prlimitCall   = number{unix.SYS_PRLIMIT64, 340}
	setrlimitCall = number{unix.SYS_SETRLIMIT, 75}
)

const coreManual = "core(5)"

// coreAttempts have the kernel write a process's memory to a file.
func coreAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, abi := range both {
		for _, target := range []probe.Target{probe.Child, probe.Sibling, probe.Outside} {
			all = append(all, probe.Attempt{Route: "core-dump", Spelling: "prlimit", Target: target,
				Effect: probe.Read, ABI: abi,
				Explain: "prlimit(2) allows another process core files, a signal has one written, and " +
					"its memory is read from that",
				Reference: coreManual, Needs: plainCores, Permits: only(permitsCores, target),
				Attack: func(s *probe.Env, v probe.Victim) probe.Outcome { return dumpOther(abi, s, v) }})
		}
		for _, how := range []struct{ spelling, explain string }{
			{"setrlimit", "setrlimit(2) allows core files, a child aborts, and its memory is read from the file"},
			{"prlimit-self", "the same by prlimit(2) on oneself"},
		} {
			all = append(all, probe.Attempt{Route: "core-dump", Spelling: how.spelling, Target: probe.Child,
				Effect: probe.Read, ABI: abi,
				Explain: how.explain, Reference: coreManual, Needs: plainCores, Permits: permitsCores,
				Layer: "seccomp", Check: ownCanary,
				Attack: func(s *probe.Env, _ probe.Victim) probe.Outcome {
					return dumpChild(abi, how.spelling == "setrlimit", s)
				}})
		}
	}
	return append(all, busErrorAttempt())
}

// busErrorAttempt has a process outside dump core without any signal that is sent: the
// kernel sends SIGBUS for a page that a file has lost.
func busErrorAttempt() probe.Attempt {
	a := probe.Attempt{Route: "core-dump", Spelling: "sigbus", Target: probe.Outside, Effect: probe.Read,
		Explain: "a file that a process outside has mapped is truncated: the kernel sends that " +
			"SIGBUS, and its memory is read from the core file",
		Reference: "mmap(2) (SIGBUS), core(5)", Needs: plainCores, Promise: probe.PromiseOpen,
		Why: "truncating a file is a write that the policy allows, and what a process outside leaves " +
			"behind when it ends is a matter of its own RLIMIT_CORE and of kernel.core_pattern; " +
			"path rules that let no file be written which processes outside map prevent it"}
	name := a.Name()
	file := func(s *probe.Setup, i int) string { return filepath.Join(s.Scratch(), fmt.Sprintf("mapped-%d", i)) }
	a.Setup = func(s *probe.Setup) (func(), error) {
		return nil, s.StartVictims(name, func(side int) probe.VictimOptions {
			return probe.VictimOptions{Dir: s.Scratch(), MappedFile: file(s, side)}
		})
	}
	a.Attack = func(s *probe.Env, v probe.Victim) probe.Outcome {
		if !strings.HasPrefix(v.Dir, s.Setup.Dir+"/") {
			return probe.Outcome{Unready: true,
				Detail: "the victim's core file would be in a directory that is not the suite's"}
		}
		path := file(s.Setup, s.Side())
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			return probe.Refused("open", err)
		}
		f.Close()
		if v.PID == probe.NoProcess { // it has no number to wait by
			time.Sleep(s.Patience(500 * time.Millisecond))
		}
		exited(v.PID, s.Patience(2*time.Second))
		return readCore(v.Dir, v.RW)
	}
	return a
}

// plainCores says why core files cannot be found, or "".
func plainCores() string {
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	text := strings.TrimSpace(string(pattern))
	switch {
	case err != nil:
		return fmt.Sprintf("where core files go is not known: %v", err)
	case text == "" || strings.ContainsAny(text[:1], "|@/"):
		return fmt.Sprintf("core files do not go to a process's working directory (kernel.core_pattern is %q)", text)
	}
	return ""
}

// dumpOther has a process that is not a child of this one dump core.
func dumpOther(abi probe.ABI, s *probe.Env, v probe.Victim) probe.Outcome {
	if !strings.HasPrefix(v.Dir, s.Setup.Dir+"/") {
		return probe.Outcome{Unready: true,
			Detail: "the victim's core file would be in a directory that is not the suite's"}
	}
	var old unix.Rlimit
	if err := unix.Prlimit(v.PID, unix.RLIMIT_CORE, nil, &old); err != nil {
		return probe.Refused("prlimit64, reading", err)
	}
	limit := low(pack(old.Max, old.Max))
	if _, err := call(abi, prlimitCall, uintptr(v.PID), unix.RLIMIT_CORE, attack.Address(limit), 0); err != nil {
		return probe.Refused("prlimit64", err)
	}
	if err := unix.Kill(v.PID, unix.SIGABRT); err != nil {
		return probe.Refused("kill", err)
	}
	exited(v.PID, time.Second)
	return readCore(v.Dir, v.RW)
}

// dumpChild has a child of this process abort in the attempt's directory, with the
// limit that this process gave itself.
func dumpChild(abi probe.ABI, plain bool, s *probe.Env) probe.Outcome {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &old); err != nil {
		return probe.Refused("getrlimit", err)
	}
	limit := low(pack(old.Max, old.Max))
	raise := prlimitCall.step(abi, 0, unix.RLIMIT_CORE, attack.Address(limit), 0)
	step := "prlimit64"
	if plain {
		step = "setrlimit"
		if abi == probe.I386 {
			limit = low(pack(uint32(min(old.Max, 1<<32-1)), uint32(min(old.Max, 1<<32-1))))
		}
		raise = setrlimitCall.step(abi, unix.RLIMIT_CORE, attack.Address(limit))
	}
	if err := attack.DefaultAction(unix.SIGABRT); err != nil {
		return probe.Refused("rt_sigaction", err)
	}
	child, err := attack.Spawn(0, 0, orEnd(raise),
		attack.Step{Number: unix.SYS_CHDIR, Args: [6]uintptr{lowString(s.Dir)}},
		attack.Step{Number: unix.SYS_GETPID},
		after(3, attack.Step{Number: unix.SYS_KILL, Args: [6]uintptr{0, uintptr(unix.SIGABRT)}}))
	if err != nil {
		return probe.Refused("clone", err)
	}
	status, err := child.Wait()
	switch {
	case err != nil:
		return probe.Refused("wait4", err)
	case child.Err(0) != nil:
		return probe.Refused(step, child.Err(0))
	case !status.CoreDump():
		return probe.Refused("core file", fmt.Errorf("none was written, though %s succeeded", step))
	}
	return readCore(s.Dir, s.Own().RW)
}

// readCore finds what was at an address in a core file in dir, a directory of the
// suite's, and removes what it finds.
func readCore(dir string, at uint64) probe.Outcome {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return probe.Refused("open", err)
	}
	for _, e := range entries {
		if !strings.Contains(e.Name(), "core") || !e.Type().IsRegular() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		data, err := readCoreFile(path, at)
		os.Remove(path)
		if err != nil {
			return probe.Refused("open "+e.Name(), err)
		}
		if data != nil {
			return probe.Got(data)
		}
	}
	return probe.Refused("core file", unix.ENOENT)
}

// readCoreFile returns what a core file has of an address, nil if nothing. Only
// what is needed of the format is read: core files are large and have holes.
func readCoreFile(path string, at uint64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	header := make([]byte, 64) // Elf64_Ehdr
	if _, err := f.ReadAt(header, 0); err != nil || !bytes.HasPrefix(header, []byte("\x7fELF\x02")) {
		return nil, err
	}
	const programHeader, loaded = 56, 1 // Elf64_Phdr, PT_LOAD
	table := make([]byte, programHeader*int(word32(header, 56)&0xffff))
	if _, err := f.ReadAt(table, int64(word64(header, 32))); err != nil {
		return nil, err
	}
	for ; len(table) > 0; table = table[programHeader:] {
		offset, start, size := word64(table, 8), word64(table, 16), word64(table, 32)
		if word32(table, 0) != loaded || at < start || at+probe.CanarySize > start+size {
			continue
		}
		data := make([]byte, probe.CanarySize)
		_, err := f.ReadAt(data, int64(offset+at-start))
		return data, err
	}
	return nil, nil
}

// limitAttempts change what a process outside may use. That ends or slows it, but
// does not open its memory.
func limitAttempts() []probe.Attempt {
	const slower = "it changes how much of the CPU the process gets, not what it does; a limit of the " +
		"caller's own rights (another user, an ordinary one) is what prevents it"
	noticed := func(what string) func(probe.State, bool) bool {
		return func(after probe.State, _ bool) bool { return after.Noticed[what] }
	}
	var all []probe.Attempt
	for _, abi := range both {
		for _, target := range []probe.Target{probe.Sibling, probe.Outside} {
			all = append(all, probe.Attempt{Route: "limits", Spelling: "prlimit", Target: target,
				Effect: probe.Disturb, ABI: abi, Judge: noticed(probe.NoticedLimit),
				Explain: "prlimit(2) takes the descriptors of another process away", Reference: "prlimit(2)",
				Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome {
					limit := low(pack(uint64(64), uint64(64)))
					_, err := call(abi, prlimitCall, uintptr(v.PID), unix.RLIMIT_NOFILE, attack.Address(limit), 0)
					return obtained("prlimit64", err)
				}})
		}
		all = append(all, probe.Attempt{Route: "limits", Spelling: "setpriority", Target: probe.Outside,
			Effect: probe.Disturb, ABI: abi, Judge: noticed(probe.NoticedNice),
			Explain: "setpriority(2) on a process outside", Reference: "setpriority(2)",
			Promise: probe.PromiseOpen, Why: slower,
			Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome {
				_, err := call(abi, number{unix.SYS_SETPRIORITY, 97}, unix.PRIO_PROCESS, uintptr(v.PID), 19)
				return obtained("setpriority", err)
			}}, probe.Attempt{Route: "limits", Spelling: "sched-setaffinity", Target: probe.Outside,
			Effect: probe.Disturb, ABI: abi, Judge: noticed(probe.NoticedAffinity),
			Explain: "sched_setaffinity(2) on a process outside", Reference: "sched_setaffinity(2)",
			Promise: probe.PromiseOpen, Why: slower,
			Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome {
				mask := low(pack(uint64(1)))
				_, err := call(abi, number{unix.SYS_SCHED_SETAFFINITY, 241}, uintptr(v.PID), uintptr(len(mask)),
					attack.Address(mask))
				return obtained("sched_setaffinity", err)
			}})
	}
	return all
}
