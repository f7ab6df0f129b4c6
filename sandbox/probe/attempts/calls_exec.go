package attempts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

var (
	execveCall   = number{unix.SYS_EXECVE, 11}
	execveatCall = number{unix.SYS_EXECVEAT, 358}
)

// inheritedMemfdFD is the descriptor with which launchers are started for
// inheritedMemfd; see also those of inheritedMeans.
const (
	inheritedMemfdFD   = 14
	inheritedMemfdName = "/memfd:program"
)

const ownProgram = "running code that the program brought itself is not access to memory: it could run " +
	"the same code in pages of its own"

// execAttempts run code that is in no file of the system.
func execAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, abi := range both {
		for _, how := range []struct {
			spelling, explain string
			step              func(fd int) attack.Step
		}{
			{"execveat", "execveat(2) with AT_EMPTY_PATH of a memfd", func(fd int) attack.Step {
				return execveatCall.step(abi, uintptr(fd), lowString(""), emptyList(), emptyList(), unix.AT_EMPTY_PATH)
			}},
			{"proc-fd", "execve(2) of a memfd as /proc/self/fd/N", func(fd int) attack.Step {
				return execveCall.step(abi, lowString(fmt.Sprintf("/proc/self/fd/%d", fd)), emptyList(), emptyList())
			}},
			{"dev-fd", "execve(2) of a memfd as /dev/fd/N", func(fd int) attack.Step {
				return execveCall.step(abi, lowString(fmt.Sprintf("/dev/fd/%d", fd)), emptyList(), emptyList())
			}},
		} {
			a := probe.Attempt{Route: "memfd-exec", Spelling: how.spelling, Target: probe.System,
				Effect: probe.Obtain, ABI: abi, ByCapability: true,
				Explain: how.explain, Reference: "memfd_create(2), execveat(2)", Permits: permitsAnonymous,
				Attack: func(*probe.Env, probe.Victim) probe.Outcome { return runMemfd(how.step, 0) }}
			a.Layer = "kernel" // by the seal that the supervisor puts on it
			all = append(all, a)
			a.Layer = "seccomp"
			a.Spelling += "-asked"
			a.Explain += ", which was asked for as one to be executed (MFD_EXEC)"
			a.Attack = func(*probe.Env, probe.Victim) probe.Outcome { return runMemfd(how.step, unix.MFD_EXEC) }
			all = append(all, a)
		}
	}
	for _, how := range []struct {
		spelling string
		set      func(fd int, acl []byte) error
	}{
		{"acl", func(fd int, acl []byte) error {
			return unix.Setxattr(fmt.Sprintf("/proc/self/fd/%d", fd), accessACL, acl, 0)
		}},
		{"acl-at", setACLAt},
		{"acl-descriptor", func(fd int, acl []byte) error { return unix.Fsetxattr(fd, accessACL, acl, 0) }},
	} {
		all = append(all, probe.Attempt{Route: "memfd-exec", Spelling: how.spelling, Target: probe.System,
			Effect: probe.Obtain, Layer: "seccomp", ByCapability: true, Permits: permitsAnonymous,
			Explain:   "an access control list that lets it be executed is set on a memfd, past its seal",
			Reference: "acl(5), fcntl(2)",
			Attack:    func(*probe.Env, probe.Victim) probe.Outcome { return runWithACL(how.set) }})
	}
	return append(all, inheritedMemfd(), probe.Attempt{Route: "loader", Spelling: "ld.so", Target: probe.System,
		Effect:    probe.Obtain,
		Explain:   "the dynamic loader, started as a program, runs a file that may be read but not executed",
		Reference: "ld.so(8)", Promise: probe.PromiseOpen, Why: ownProgram,
		Attack: func(s *probe.Env, _ probe.Victim) probe.Outcome { return runByLoader(s) }})
}

// inheritedMemfd executes a memfd that the launcher was started with.
func inheritedMemfd() probe.Attempt {
	return probe.Attempt{Route: "memfd-exec", Spelling: "inherited", Target: probe.System, Effect: probe.Obtain,
		Layer: "descriptors", Permits: permitsAnonymous,
		Explain: "the launcher was started with a memfd, which is executed", Reference: "memfd_create(2), execveat(2)",
		Setup: func(s *probe.Setup) (func(), error) {
			for i := range probe.Sides {
				fd, err := unix.MemfdCreate("program", unix.MFD_CLOEXEC|unix.MFD_EXEC)
				if errors.Is(err, unix.EINVAL) { // before Linux 6.3 each can be executed
					fd, err = unix.MemfdCreate("program", unix.MFD_CLOEXEC)
				}
				if err != nil {
					return nil, err
				}
				program := os.NewFile(uintptr(fd), inheritedMemfdName)
				if err := s.Inherit(i, inheritedMemfdFD, program); err != nil {
					return nil, err
				}
				if _, err := program.Write(tinyProgram()); err != nil {
					return nil, err
				}
			}
			return nil, nil
		},
		Attack: func(*probe.Env, probe.Victim) probe.Outcome {
			// The number may meanwhile be a descriptor of this program's own.
			at, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", inheritedMemfdFD))
			if err != nil || !strings.HasPrefix(at, inheritedMemfdName) {
				return probe.Refused("execveat", unix.EBADF)
			}
			return runTiny(execveatCall.step(probe.Native, inheritedMemfdFD, lowString(""), emptyList(),
				emptyList(), unix.AT_EMPTY_PATH))
		}}
}

func permitsAnonymous(p policy.Policy) string {
	if p.Memory.AnonymousExec == policy.AnonymousExecAllow {
		return `memory.anonymous-exec = "allow"`
	}
	if !p.NeedsSupervisor() {
		return "memory.access leaves no supervisor, which makes memfds that cannot be executed"
	}
	fd, err := unix.MemfdCreate("", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if err != nil {
		return "this kernel has no memfd that cannot be executed (Linux 6.3 has)"
	}
	unix.Close(fd)
	return ""
}

// emptyList is an argument list without arguments, in either interface.
func emptyList() uintptr { return attack.Address(low(make([]byte, 8))) }

// tinyStatus is what the tiny program exits with.
const tinyStatus = 42

// tinyProgram is an ELF file that only exits.
func tinyProgram() []byte {
	if runtime.GOARCH == "arm64" {
		return program(pack(load64(0, tinyStatus), load64(8, unix.SYS_EXIT_GROUP), svc))
	}
	// mov; mov; syscall
	return program([]byte{0xbf, tinyStatus, 0, 0, 0, 0xb8, unix.SYS_EXIT_GROUP, 0, 0, 0, 0x0f, 0x05})
}

// Where a program of the suite's own lies in memory, and its code behind the headers.
const (
	programBase    = 0x10000000
	programHeaders = 64 + 56
	codeBase       = programBase + programHeaders
)

// program is an ELF file of code alone.
func program(code []byte) []byte {
	machine := uint16(62) // EM_X86_64
	if runtime.GOARCH == "arm64" {
		machine = 183 // EM_AARCH64
	}
	size := uint64(programHeaders + len(code))
	return pack([]byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"), uint16(2), machine, uint32(1),
		uint64(codeBase), uint64(64), uint64(0), uint32(0), uint16(64), uint16(56), uint16(1), uint16(0),
		uint16(0), uint16(0),
		uint32(1), uint32(5), uint64(0), uint64(programBase), uint64(programBase), size, size, uint64(0x1000), code)
}

func runMemfd(step func(fd int) attack.Step, flags int) probe.Outcome {
	fd, err := unix.MemfdCreate("program", flags|unix.MFD_CLOEXEC)
	if err != nil {
		return probe.Refused("memfd_create", err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, tinyProgram()); err != nil {
		return probe.Refused("write", err)
	}
	return runTiny(step(fd))
}

const accessACL = "system.posix_acl_access"

// executableACL lets everybody execute, as linux/posix_acl_xattr.h has it.
func executableACL() []byte {
	const version, user, group, other, none = 2, 1, 4, 0x20, 0xffffffff
	return pack(uint32(version), uint16(user), uint16(7), uint32(none), uint16(group), uint16(5), uint32(none),
		uint16(other), uint16(5), uint32(none))
}

// runWithACL executes a memfd that was made as one for data.
func runWithACL(set func(fd int, acl []byte) error) probe.Outcome {
	fd, err := unix.MemfdCreate("program", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if err != nil {
		return probe.Refused("memfd_create", err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, tinyProgram()); err != nil {
		return probe.Refused("write", err)
	}
	if err := set(fd, executableACL()); err != nil {
		return probe.Refused("setxattr", err)
	}
	return runTiny(execveatCall.step(probe.Native, uintptr(fd), lowString(""), emptyList(), emptyList(),
		unix.AT_EMPTY_PATH))
}

// setACLAt sets one by setxattrat(2), Linux 6.13.
func setACLAt(fd int, acl []byte) error {
	setxattrat := number{463, 463}
	args := low(pack(uint64(attack.Address(low(acl))), uint32(len(acl)), uint32(0)))
	child, err := attack.Spawn(0, 0, setxattrat.step(probe.Native, uintptr(fd), lowString(""),
		unix.AT_EMPTY_PATH, lowString(accessACL), attack.Address(args), 16))
	if err != nil {
		return err
	}
	if _, err := child.Wait(); err != nil {
		return err
	}
	return child.Err(0)
}

// runTiny has a child execute the tiny program.
func runTiny(step attack.Step) probe.Outcome {
	child, err := attack.Spawn(0, 0, step)
	if err != nil {
		return probe.Refused("clone", err)
	}
	status, err := child.Wait()
	switch {
	case err != nil:
		return probe.Refused("wait4", err)
	case status.ExitStatus() == tinyStatus:
		return probe.Did("a program in memory was run")
	case child.Err(0) != nil && !errors.Is(child.Err(0), unix.EINPROGRESS):
		return probe.Refused("execve", child.Err(0))
	default:
		return probe.Refused("execve", fmt.Errorf("the program ended with %#x", status))
	}
}

// runByLoader runs a copy of a dynamically linked program that nobody may execute.
func runByLoader(s *probe.Env) probe.Outcome {
	loaders, err := filepath.Glob("/lib*/ld-linux*.so*")
	if err != nil || len(loaders) == 0 {
		return probe.Refused("open ld.so", unix.ENOENT)
	}
	program, err := os.ReadFile("/usr/bin/env")
	if err != nil {
		return probe.Refused("open /usr/bin/env", err)
	}
	path, err := fileWith(s, "program", program, 0o600)
	if err != nil {
		return probe.Refused("write", err)
	}
	reads, err := newPipe()
	if err != nil {
		return probe.Refused("pipe2", err)
	}
	defer reads.close()
	argv := low(pack(lowString(loaders[0]), lowString(path), lowString("--version"), uint64(0)))
	child, err := attack.Spawn(0, 0, attack.Step{Number: unix.SYS_DUP3, Args: [6]uintptr{uintptr(reads.w), 1, 0}},
		execveCall.step(probe.Native, lowString(loaders[0]), attack.Address(argv), emptyList()))
	if err != nil {
		return probe.Refused("clone", err)
	}
	status, err := child.Wait()
	if err != nil {
		return probe.Refused("wait4", err)
	}
	if err := child.Err(1); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return probe.Refused("execve", err)
	}
	text, err := reads.take()
	if err != nil || status.ExitStatus() != 0 || !strings.Contains(string(text), "env") {
		return probe.Refused("execve", fmt.Errorf("the program ended with %#x", status))
	}
	return probe.Did("a file that may not be executed was run")
}

// noCall is no system call's number.
const noCall = 1 << 20

// portAttempts obtain the processor's input and output ports.
func portAttempts() []probe.Attempt {
	iopl, ioperm := number{172, 110}, number{173, 101}
	if runtime.GOARCH != "amd64" { // the numbers mean something else, and there are no ports
		iopl.native, ioperm.native = noCall, noCall
	}
	var all []probe.Attempt
	for _, abi := range both {
		all = append(all, probe.Attempt{Route: "io-ports", Spelling: "iopl", Target: probe.System,
			Effect: probe.Obtain, ABI: abi,
			Explain: "iopl(2) gives access to all input and output ports", Reference: "iopl(2)",
			Attack: func(*probe.Env, probe.Victim) probe.Outcome { return inChild("iopl", iopl.step(abi, 3)) }},
			probe.Attempt{Route: "io-ports", Spelling: "ioperm", Target: probe.System, Effect: probe.Obtain, ABI: abi,
				Explain: "ioperm(2) gives access to an input and output port", Reference: "ioperm(2)",
				Attack: func(*probe.Env, probe.Victim) probe.Outcome {
					return inChild("ioperm",
						ioperm.step(abi, 0x80, 1, 1))
				}})
	}
	return all
}
