package attempts

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

// newProgramAttempts write a program that is free to do what the language of the attacker
// forbids, and run it.
func newProgramAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, target := range append([]probe.Target{probe.Self}, others...) {
		all = append(all, probe.Attempt{Route: "new-program", Spelling: "writev", Target: target, Effect: probe.Write,
			Explain:   "a program of machine code is written to a file and run, and calls process_vm_writev(2)",
			Reference: "execve(2), process_vm_writev(2)", Permits: only(permitsAccess, target),
			Attack: runNewProgram})
	}
	return all
}

// runNewProgram writes the program and runs it.
func runNewProgram(s *probe.Env, v probe.Victim) probe.Outcome {
	path, err := fileWith(s, "program", writingProgram(uint32(v.TID), v.RW), 0o700)
	if err != nil {
		return probe.Refused("write", err)
	}
	child, err := attack.Spawn(0, 0, execveCall.step(probe.Native, lowString(path), emptyList(), emptyList()))
	if err != nil {
		return probe.Refused("clone", err)
	}
	status, err := child.Wait()
	switch {
	case err != nil:
		return probe.Refused("wait4", err)
	case child.Err(0) != nil && !errors.Is(child.Err(0), unix.EINPROGRESS):
		return probe.Refused("execve", child.Err(0))
	case status.ExitStatus() == probe.CanarySize:
		return probe.Did("a program that did not exist before has written")
	case status.Exited() && status.ExitStatus() > 0:
		return probe.Refused("process_vm_writev", unix.Errno(256-status.ExitStatus())) // a negative errno
	}
	return probe.Refused("execve", fmt.Errorf("the program ended with %#x", status))
}

// writingProgram is an ELF file that writes the marker to an address of a process, and exits
// with what process_vm_writev(2) returned.
func writingProgram(pid uint32, address uint64) []byte {
	code := func(local, remote uint32) []byte {
		const one = uint32(1)
		nr, exit := uint32(unix.SYS_PROCESS_VM_WRITEV), uint32(unix.SYS_EXIT_GROUP)
		if runtime.GOARCH == "arm64" {
			return pack(load64(0, pid), load64(1, local), load64(2, one), load64(3, remote), load64(4, one),
				load64(5, 0), load64(8, nr), svc, load64(8, exit), svc)
		}
		return pack(uint8(0xbf), pid, uint8(0xbe), local, uint8(0xba), one, // mov edi, esi, edx
			uint8(0x41), uint8(0xba), remote, uint8(0x41), uint8(0xb8), one, // mov r10d, r8d
			[]byte{0x45, 0x31, 0xc9}, uint8(0xb8), nr, []byte{0x0f, 0x05}, // xor r9d, r9d; syscall
			[]byte{0x89, 0xc7, 0xb8}, exit, []byte{0x0f, 0x05}) // mov edi, eax; syscall
	}
	size := uint64(len(code(0, 0)))
	marker := codeBase + (size+7)&^7
	local, remote := marker+probe.CanarySize, marker+probe.CanarySize+16
	text := code(uint32(local), uint32(remote))
	text = append(text, make([]byte, marker-codeBase-size)...)
	return program(pack(text, probe.Marker[:probe.CanarySize], marker, uint64(probe.CanarySize),
		address, uint64(probe.CanarySize)))
}

// load64 are the instructions of arm64 that load a number of 32 bits: movz, movk.
func load64(register, value uint32) []byte {
	return pack(0xd2800000|value&0xffff<<5|register, 0xf2a00000|value>>16<<5|register)
}

// svc is arm64's svc #0.
const svc = uint32(0xd4000001)
