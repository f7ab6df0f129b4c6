package filter

import (
	"cmp"
	"slices"

	"golang.org/x/sys/unix"
)

// abi is one way to call the kernel. One CPU speaks several, and each has its
// own numbers.
type abi struct {
	name   string
	audit  uint32   // AUDIT_ARCH_*, as struct seccomp_data has it
	calls  []string // by number, "" where there is none
	sorted []uint16 // the numbers in the order of the names

	// pathOnly are the bits of open's flags of which one suffices to say that no
	// file is opened for reading or writing: O_PATH and O_DIRECTORY. O_TMPFILE
	// contains the latter; the file it makes is new, so it is none of procfs.
	pathOnly uint32

	// private are calls outside the table that the kernel serves all the same:
	// arm has its own from 0xf0001 to 0xf0006 (cacheflush, set_tls, ...), without
	// which no 32-bit program starts (arch/arm/include/uapi/asm/unistd.h).
	private      []string
	firstPrivate uint32
}

const (
	openPath    = 0o10000000          // O_PATH, the same everywhere
	pathOnlyX86 = openPath | 0o200000 // O_DIRECTORY
	pathOnlyARM = openPath | 0o040000
)

var (
	abiAMD64 = abi{name: "x86_64", audit: unix.AUDIT_ARCH_X86_64, calls: callsAMD64[:], sorted: sortedAMD64[:],
		pathOnly: pathOnlyX86}
	abiI386 = abi{name: "i386", audit: unix.AUDIT_ARCH_I386, calls: callsI386[:], sorted: sortedI386[:],
		pathOnly: pathOnlyX86}
	abiARM64 = abi{name: "aarch64", audit: unix.AUDIT_ARCH_AARCH64, calls: callsARM64[:],
		sorted: sortedARM64[:], pathOnly: pathOnlyARM}
	abiARM = abi{name: "arm", audit: unix.AUDIT_ARCH_ARM, calls: callsARM[:], sorted: sortedARM[:],
		pathOnly: pathOnlyARM,
		private:  []string{"breakpoint", "cacheflush", "usr26", "usr32", "set_tls", "get_tls"}, firstPrivate: 0xf0001}
)

// machine is a CPU: its own ABI and the 32-bit one that it speaks besides.
type machine struct{ native, compat *abi }

func machineOf(goarch string) (machine, bool) {
	switch goarch {
	case "amd64":
		return machine{&abiAMD64, &abiI386}, true
	case "arm64":
		return machine{&abiARM64, &abiARM}, true
	}
	return machine{}, false
}

func abiOf(arch uint32) *abi {
	for _, a := range [...]*abi{&abiAMD64, &abiI386, &abiARM64, &abiARM} {
		if a.audit == arch {
			return a
		}
	}
	return nil
}

// lastPrivate is the last of the private calls; there must be one.
func (a *abi) lastPrivate() uint32 { return a.firstPrivate + uint32(len(a.private)) - 1 }

func (a *abi) number(name string) (uint32, bool) {
	i, ok := slices.BinarySearchFunc(a.sorted, name, func(n uint16, name string) int {
		return cmp.Compare(a.calls[n], name)
	})
	if ok {
		return uint32(a.sorted[i]), true
	}
	if i := slices.Index(a.private, name); i >= 0 {
		return a.firstPrivate + uint32(i), true
	}
	return 0, false
}

// CallName returns the name of a system call, or "" if there is none of that
// number in Linux 6.18 or the ABI is not known here. The ABI is an AUDIT_ARCH_*
// number, as in struct seccomp_data: unix.AUDIT_ARCH_X86_64, _I386, _AARCH64 or
// _ARM.
func CallName(arch uint32, nr int32) string {
	a := abiOf(arch)
	switch {
	case a == nil || nr < 0:
		return ""
	case int(nr) < len(a.calls):
		return a.calls[nr]
	case len(a.private) > 0 && uint32(nr) >= a.firstPrivate && uint32(nr) <= a.lastPrivate():
		return a.private[uint32(nr)-a.firstPrivate]
	}
	return ""
}

// Number returns the number of the system call name in an ABI, which is given as
// for [CallName]; ok is false where the ABI has no such call.
func Number(arch uint32, name string) (nr int32, ok bool) {
	a := abiOf(arch)
	if a == nil {
		return 0, false
	}
	n, ok := a.number(name)
	return int32(n), ok
}
