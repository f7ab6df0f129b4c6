package attempts

import (
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

const (
	whyWritable = `compilers at run time need it; memory.writable-code = "deny" closes it`
	whyShared   = `databases and X clients need it; memory.shared-files = "deny" closes it`

	readImpliesExec = 0x400000 // READ_IMPLIES_EXEC, linux/personality.h
)

// codeAttempts are about memory that a program opens itself to changes: code that
// is written before it is run, and files that others write to.
func codeAttempts() []probe.Attempt {
	all := []probe.Attempt{
		{Route: "writable-code", Spelling: "mmap", Target: probe.Self, Effect: probe.Obtain,
			Explain:   "a page that is writable and executable",
			Reference: "mmap(2), PR_SET_MDWE(2const)", Promise: probe.PromiseOpen, Why: whyWritable, Layer: "kernel",
			Attack: func(*probe.Env, probe.Victim) probe.Outcome {
				return mapPage("mmap", unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, 0)
			}},
		{Route: "writable-code", Spelling: "mprotect", Target: probe.Self, Effect: probe.Obtain,
			Explain:   "a page that becomes executable after it was written",
			Reference: "mprotect(2), PR_SET_MDWE(2const)", Promise: probe.PromiseOpen, Why: whyWritable,
			Layer: "kernel",
			Attack: func(*probe.Env, probe.Victim) probe.Outcome {
				return mapPage("mprotect", unix.PROT_READ|unix.PROT_WRITE, unix.PROT_READ|unix.PROT_EXEC)
			}},
		{Route: "shared-files", Spelling: "mmap", Target: probe.Self, Effect: probe.Obtain,
			Explain:   "a shared mapping of a file, which every process that can open it changes",
			Reference: "mmap(2)", Promise: probe.PromiseOpen, Why: whyShared, Layer: "seccomp",
			Attack: func(s *probe.Env, _ probe.Victim) probe.Outcome { return mapShared(s) }},
	}
	personality := number{unix.SYS_PERSONALITY, 136}
	for _, abi := range both {
		all = append(all, probe.Attempt{Route: "writable-code", Spelling: "personality", Target: probe.Self,
			Effect: probe.Obtain, ABI: abi,
			Explain: "personality(2) makes everything executable that can be read", Reference: "personality(2)",
			Promise: probe.PromiseOpen, Why: whyWritable,
			Layer: "seccomp", Attack: func(*probe.Env, probe.Victim) probe.Outcome {
				return inChild("personality", personality.step(abi, readImpliesExec))
			}})
	}
	return all
}

// mapPage maps a page, writes to it, and changes what may be done with it if then is
// not 0.
func mapPage(call string, protection, then int) probe.Outcome {
	page, err := unix.Mmap(-1, 0, 4096, protection, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return probe.Refused(call, err)
	}
	defer unix.Munmap(page)
	page[0] = 1
	if then != 0 {
		if err := unix.Mprotect(page, then); err != nil {
			return probe.Refused(call, err)
		}
	}
	return probe.Did("what was written can be executed")
}

func mapShared(s *probe.Env) probe.Outcome {
	path, err := fileWith(s, "shared", make([]byte, 4096), 0o600)
	if err != nil {
		return probe.Refused("write", err)
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return probe.Refused("open", err)
	}
	defer unix.Close(fd)
	page, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return probe.Refused("mmap", err)
	}
	defer unix.Munmap(page)
	if _, err := unix.Pwrite(fd, []byte{42}, 0); err != nil {
		return probe.Refused("write", err)
	}
	if page[0] != 42 {
		return probe.Refused("mmap", unix.EIO)
	}
	return probe.Did("memory was changed by writing to a file")
}
