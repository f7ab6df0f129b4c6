package probe

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"github.com/memjail/memjail/sandbox/kernel/attack"
	"golang.org/x/sys/unix"
)

const sharedRoute = "shared-memory"

// onPurpose is why memory that is shared stays so.
const onPurpose = "its owner shared this memory on purpose; what a process keeps to itself is not reached by it"

// sharedAttempts use memory that processes share. All but the last are open on
// purpose.
func sharedAttempts() []Attempt {
	var all []Attempt
	for _, target := range []Target{Child, Sibling, Outside} {
		for _, abi := range both {
			all = append(all, Attempt{Route: sharedRoute, Spelling: "shmat", Target: target, Effect: Write, ABI: abi,
				Explain: "shmat(2) attaches another process's System V segment by its number", Reference: "shmop(2)", Promise: Open, Why: onPurpose,
				Ask:    func(after State, _ bool) bool { return after.Noticed[noticedShm] },
				Attack: func(_ *Scene, v Victim) Outcome { return writeSegment(abi, v) }})
		}
	}
	open := func(spelling, explain, reference string, attempt func(s *Scene) Outcome) {
		all = append(all, Attempt{Route: sharedRoute, Spelling: spelling, Target: Self, Effect: Write,
			Explain: explain, Reference: reference, Promise: Open, Why: onPurpose,
			Check: believed, Attack: func(s *Scene, _ Victim) Outcome { return attempt(s) }})
	}
	open("file", "a child writes a file that its parent maps MAP_SHARED", "mmap(2)", func(s *Scene) Outcome {
		path, err := s.fileWith("shared", make([]byte, unix.Getpagesize()), 0o600)
		if err != nil {
			return Refused("write", err)
		}
		return writeMapped(path)
	})
	open("dev-shm", "a child writes a POSIX shared memory object that its parent maps", "shm_overview(7)", func(*Scene) Outcome {
		f, err := os.CreateTemp("/dev/shm", "memjail-probe-")
		if err != nil {
			return Refused("open /dev/shm", err)
		}
		defer os.Remove(f.Name())
		defer f.Close()
		if err := f.Truncate(int64(unix.Getpagesize())); err != nil {
			return Refused("ftruncate", err)
		}
		return writeMapped(f.Name())
	})
	open("clone-vm", "a process made by clone(2) with CLONE_VM writes the memory that both have", "clone(2)", writeByTwin)
	return append(all, Attempt{Route: "vmsplice", Spelling: "copy-on-write", Target: Self, Effect: Read, Check: believed,
		Explain: "a child puts a page it shares with its parent into a pipe and gives it up; what the parent writes then appears in the pipe", Reference: "vmsplice(2), CVE-2020-29374",
		Attack: func(s *Scene, _ Victim) Outcome { return spliceParent(s.own.victim) }})
}

// writeSegment writes the victim's System V segment. The 32-bit interface has the
// multiplexer ipc(2) for it, and since Linux 5.1 a call of its own.
func writeSegment(abi ABI, v Victim) Outcome {
	if v.Shm < 0 {
		return Refused("shmget", errors.New("the victim has no segment"))
	}
	at, err := call(abi, number{unix.SYS_SHMAT, 397}, uintptr(v.Shm), 0, 0)
	if err != nil {
		return Refused("shmat", err)
	}
	copy(attack.View(at, canarySize), Marker)
	return Did("a segment of another process was written")
}

// writeMapped maps a file and has a child write it.
func writeMapped(path string) Outcome {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return Refused("open", err)
	}
	defer unix.Close(fd)
	page, err := unix.Mmap(fd, 0, unix.Getpagesize(), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return Refused("mmap", err)
	}
	o := inChild("open write", attack.Step{Number: unix.SYS_OPENAT, Args: [6]uintptr{atFDCWD, lowString(path), unix.O_RDWR}},
		after(1, attack.Step{Number: unix.SYS_WRITE, Args: [6]uintptr{0, attack.Address(low(Marker)), canarySize}}))
	if o.Done && !bytes.HasPrefix(page, Marker) {
		return Refused("write", errors.New("the mapping has not changed"))
	}
	return o
}

func writeByTwin(s *Scene) Outcome {
	text, err := newPipe()
	if err != nil {
		return Refused("pipe2", err)
	}
	defer text.close()
	if _, err := unix.Write(text.w, Marker); err != nil {
		return Refused("write", err)
	}
	twin, err := attack.Spawn(unix.CLONE_VM|unix.CLONE_VFORK, 0, attack.Step{Number: unix.SYS_READ, Args: [6]uintptr{uintptr(text.r), uintptr(s.own.victim.RW), canarySize}})
	if err != nil {
		return Refused("clone CLONE_VM", err)
	}
	if _, err := twin.Wait(); err != nil {
		return Refused("wait4", err)
	}
	if !bytes.Equal(attack.View(uintptr(s.own.victim.RW), canarySize), Marker) {
		return Refused("read", errors.New("the memory has not changed"))
	}
	return Did("memory of both was written")
}

// spliceParent has a child keep a reference to this process's page.
func spliceParent(v Victim) Outcome {
	word, err := newPipe()
	if err != nil {
		return Refused("pipe2", err)
	}
	defer word.close()
	child, err := attack.Spawn(0, 0,
		orEnd(attack.Step{Number: unix.SYS_VMSPLICE, Args: [6]uintptr{uintptr(word.w), iovec(Native, v.RW, canarySize), 1, 0}}),
		attack.Step{Number: unix.SYS_MUNMAP, Args: [6]uintptr{uintptr(v.RW), uintptr(unix.Getpagesize())}})
	if err != nil {
		return Refused("clone", err)
	}
	if _, err := child.Wait(); err != nil {
		return Refused("wait4", err)
	}
	if err := child.Err(0); err != nil {
		return Refused("vmsplice", err)
	}
	secret := attack.View(uintptr(v.RW), canarySize)
	rand.Read(secret)
	got, err := word.take()
	if err != nil {
		return Refused("read", err)
	}
	if !bytes.Equal(got, secret) {
		return Refused("read", fmt.Errorf("this kernel copies the page for whoever writes it first, as since Linux 5.8"))
	}
	return Did("a later secret of the parent was read")
}
