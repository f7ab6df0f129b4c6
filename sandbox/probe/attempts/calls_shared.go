package attempts

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

const sharedRoute = "shared-memory"

// onPurpose is why memory that is shared stays so.
const onPurpose = "its owner shared this memory on purpose; what a process keeps to itself is not reached by it"

// sharedAttempts use memory that processes share. All but the last are open on
// purpose.
func sharedAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, target := range []probe.Target{probe.Child, probe.Sibling, probe.Outside} {
		for _, abi := range both {
			all = append(all, probe.Attempt{Route: sharedRoute, Spelling: "shmat", Target: target,
				Effect: probe.Write, ABI: abi,
				Explain:   "shmat(2) attaches another process's System V segment by its number",
				Reference: "shmop(2)", Promise: probe.PromiseOpen, Why: onPurpose,
				Judge:  func(after probe.State, _ bool) bool { return after.Noticed[probe.NoticedShm] },
				Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome { return writeSegment(abi, v) }})
		}
	}
	open := func(spelling, explain, reference string, attempt func(s *probe.Env) probe.Outcome) {
		all = append(all, probe.Attempt{Route: sharedRoute, Spelling: spelling, Target: probe.Self, Effect: probe.Write,
			Explain: explain, Reference: reference, Promise: probe.PromiseOpen, Why: onPurpose,
			Check: believed, Attack: func(s *probe.Env, _ probe.Victim) probe.Outcome { return attempt(s) }})
	}
	open("file", "a child writes a file that its parent maps MAP_SHARED", "mmap(2)", func(s *probe.Env) probe.Outcome {
		path, err := fileWith(s, "shared", make([]byte, unix.Getpagesize()), 0o600)
		if err != nil {
			return probe.Refused("write", err)
		}
		return writeMapped(path)
	})
	open("dev-shm", "a child writes a POSIX shared memory object that its parent maps", "shm_overview(7)",
		func(*probe.Env) probe.Outcome {
			f, err := os.CreateTemp("/dev/shm", "memjail-probe-")
			if err != nil {
				return probe.Refused("open /dev/shm", err)
			}
			defer os.Remove(f.Name())
			defer f.Close()
			if err := f.Truncate(int64(unix.Getpagesize())); err != nil {
				return probe.Refused("ftruncate", err)
			}
			return writeMapped(f.Name())
		})
	open("clone-vm", "a process made by clone(2) with CLONE_VM writes the memory that both have", "clone(2)",
		writeByTwin)
	return append(all, probe.Attempt{Route: "vmsplice", Spelling: "copy-on-write", Target: probe.Self,
		Effect: probe.Read, Check: believed,
		Explain: "a child puts a page it shares with its parent into a pipe and gives it up; what the " +
			"parent writes then appears in the pipe", Reference: "vmsplice(2), CVE-2020-29374",
		Attack: func(s *probe.Env, _ probe.Victim) probe.Outcome { return spliceParent(s.Own()) }})
}

// writeSegment writes the victim's System V segment. The 32-bit interface has the
// multiplexer ipc(2) for it, and since Linux 5.1 a call of its own.
func writeSegment(abi probe.ABI, v probe.Victim) probe.Outcome {
	if v.Shm < 0 {
		return probe.Refused("shmget", errors.New("the victim has no segment"))
	}
	at, err := call(abi, number{unix.SYS_SHMAT, 397}, uintptr(v.Shm), 0, 0)
	if err != nil {
		return probe.Refused("shmat", err)
	}
	copy(attack.View(at, probe.CanarySize), probe.Marker)
	return probe.Did("a segment of another process was written")
}

// writeMapped maps a file and has a child write it.
func writeMapped(path string) probe.Outcome {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return probe.Refused("open", err)
	}
	defer unix.Close(fd)
	page, err := unix.Mmap(fd, 0, unix.Getpagesize(), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return probe.Refused("mmap", err)
	}
	o := inChild("open write",
		attack.Step{Number: unix.SYS_OPENAT, Args: [6]uintptr{atFDCWD, lowString(path), unix.O_RDWR}},
		after(1, attack.Step{Number: unix.SYS_WRITE, Args: [6]uintptr{0, attack.Address(low(probe.Marker)),
			probe.CanarySize}}))
	if o.Done && !bytes.HasPrefix(page, probe.Marker) {
		return probe.Refused("write", errors.New("the mapping has not changed"))
	}
	return o
}

func writeByTwin(s *probe.Env) probe.Outcome {
	text, err := newPipe()
	if err != nil {
		return probe.Refused("pipe2", err)
	}
	defer text.close()
	if _, err := unix.Write(text.w, probe.Marker); err != nil {
		return probe.Refused("write", err)
	}
	twin, err := attack.Spawn(unix.CLONE_VM|unix.CLONE_VFORK, 0,
		attack.Step{Number: unix.SYS_READ, Args: [6]uintptr{uintptr(text.r), uintptr(s.Own().RW), probe.CanarySize}})
	if err != nil {
		return probe.Refused("clone CLONE_VM", err)
	}
	if _, err := twin.Wait(); err != nil {
		return probe.Refused("wait4", err)
	}
	if !bytes.Equal(attack.View(uintptr(s.Own().RW), probe.CanarySize), probe.Marker) {
		return probe.Refused("read", errors.New("the memory has not changed"))
	}
	return probe.Did("memory of both was written")
}

// spliceParent has a child keep a reference to this process's page.
func spliceParent(v probe.Victim) probe.Outcome {
	word, err := newPipe()
	if err != nil {
		return probe.Refused("pipe2", err)
	}
	defer word.close()
	child, err := attack.Spawn(0, 0,
		orEnd(attack.Step{Number: unix.SYS_VMSPLICE,
			Args: [6]uintptr{uintptr(word.w), iovec(probe.Native, v.RW, probe.CanarySize), 1, 0}}),
		attack.Step{Number: unix.SYS_MUNMAP, Args: [6]uintptr{uintptr(v.RW), uintptr(unix.Getpagesize())}})
	if err != nil {
		return probe.Refused("clone", err)
	}
	if _, err := child.Wait(); err != nil {
		return probe.Refused("wait4", err)
	}
	if err := child.Err(0); err != nil {
		return probe.Refused("vmsplice", err)
	}
	secret := attack.View(uintptr(v.RW), probe.CanarySize)
	rand.Read(secret)
	got, err := word.take()
	if err != nil {
		return probe.Refused("read", err)
	}
	if !bytes.Equal(got, secret) {
		return probe.Refused("read",
			fmt.Errorf("this kernel copies the page for whoever writes it first, as since Linux 5.8"))
	}
	return probe.Did("a later secret of the parent was read")
}
