package probe

import "golang.org/x/sys/unix"

const (
	whyWritable = `compilers at run time need it; memory.writable-code = "deny" closes it`
	whyShared   = `databases and X clients need it; memory.shared-files = "deny" closes it`

	readImpliesExec = 0x400000 // READ_IMPLIES_EXEC, linux/personality.h
)

// codeAttempts are about memory that a program opens itself to changes: code that
// is written before it is run, and files that others write to.
func codeAttempts() []Attempt {
	all := []Attempt{
		{Route: "writable-code", Spelling: "mmap", Target: Self, Effect: Obtain, Explain: "a page that is writable and executable",
			Reference: "mmap(2), PR_SET_MDWE(2const)", Promise: Open, Why: whyWritable, Layer: "kernel",
			Attack: func(*Scene, Victim) Outcome { return mapPage("mmap", unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, 0) }},
		{Route: "writable-code", Spelling: "mprotect", Target: Self, Effect: Obtain, Explain: "a page that becomes executable after it was written",
			Reference: "mprotect(2), PR_SET_MDWE(2const)", Promise: Open, Why: whyWritable, Layer: "kernel",
			Attack: func(*Scene, Victim) Outcome {
				return mapPage("mprotect", unix.PROT_READ|unix.PROT_WRITE, unix.PROT_READ|unix.PROT_EXEC)
			}},
		{Route: "shared-files", Spelling: "mmap", Target: Self, Effect: Obtain, Explain: "a shared mapping of a file, which every process that can open it changes",
			Reference: "mmap(2)", Promise: Open, Why: whyShared, Layer: "seccomp",
			Attack: func(s *Scene, _ Victim) Outcome { return mapShared(s) }},
	}
	personality := number{unix.SYS_PERSONALITY, 136}
	for _, abi := range both {
		all = append(all, Attempt{Route: "writable-code", Spelling: "personality", Target: Self, Effect: Obtain, ABI: abi,
			Explain: "personality(2) makes everything executable that can be read", Reference: "personality(2)", Promise: Open, Why: whyWritable,
			Layer: "seccomp", Attack: func(*Scene, Victim) Outcome { return inChild("personality", personality.step(abi, readImpliesExec)) }})
	}
	return all
}

// mapPage maps a page, writes to it, and changes what may be done with it if then is
// not 0.
func mapPage(call string, protection, then int) Outcome {
	page, err := unix.Mmap(-1, 0, 4096, protection, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return Refused(call, err)
	}
	defer unix.Munmap(page)
	page[0] = 1
	if then != 0 {
		if err := unix.Mprotect(page, then); err != nil {
			return Refused(call, err)
		}
	}
	return Did("what was written can be executed")
}

func mapShared(s *Scene) Outcome {
	path, err := s.fileWith("shared", make([]byte, 4096), 0o600)
	if err != nil {
		return Refused("write", err)
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return Refused("open", err)
	}
	defer unix.Close(fd)
	page, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return Refused("mmap", err)
	}
	defer unix.Munmap(page)
	if _, err := unix.Pwrite(fd, []byte{42}, 0); err != nil {
		return Refused("write", err)
	}
	if page[0] != 42 {
		return Refused("mmap", unix.EIO)
	}
	return Did("memory was changed by writing to a file")
}
