package landlock

import (
	"math/bits"
	"strconv"
	"strings"

	llsys "github.com/memjail/memjail/sandbox/kernel/landlockabi"
)

// Rights is a set of file system access rights, with the bits of the kernel's
// LANDLOCK_ACCESS_FS_* (linux/landlock.h).
type Rights uint64

// The rights, in the order of their bits. Those with a comment came with that ABI, the
// others with ABI 1.
const (
	Execute     Rights = llsys.AccessFSExecute
	WriteFile   Rights = llsys.AccessFSWriteFile
	ReadFile    Rights = llsys.AccessFSReadFile
	ReadDir     Rights = llsys.AccessFSReadDir
	RemoveDir   Rights = llsys.AccessFSRemoveDir
	RemoveFile  Rights = llsys.AccessFSRemoveFile
	MakeChar    Rights = llsys.AccessFSMakeChar
	MakeDir     Rights = llsys.AccessFSMakeDir
	MakeReg     Rights = llsys.AccessFSMakeReg
	MakeSock    Rights = llsys.AccessFSMakeSock
	MakeFifo    Rights = llsys.AccessFSMakeFifo
	MakeBlock   Rights = llsys.AccessFSMakeBlock
	MakeSym     Rights = llsys.AccessFSMakeSym
	Refer       Rights = llsys.AccessFSRefer       // ABI 2
	Truncate    Rights = llsys.AccessFSTruncate    // ABI 3
	IoctlDev    Rights = llsys.AccessFSIoctlDev    // ABI 5
	ResolveUnix Rights = llsys.AccessFSResolveUnix // ABI 9
)

// allRights is every right that this package knows.
const allRights = ResolveUnix<<1 - 1

const (
	// FileRights are those that the kernel accepts in a rule on something other than a
	// directory; with others landlock_add_rule(2) fails with EINVAL.
	FileRights = Execute | WriteFile | ReadFile | Truncate | IoctlDev

	// nodeRights are what is granted on a device node.
	nodeRights = WriteFile | ReadFile | Truncate | IoctlDev

	// makeNode is granted nowhere: a program that makes device nodes would bypass the
	// list of devices.
	makeNode = MakeChar | MakeBlock

	readRights = ReadFile | ReadDir

	// writeRights are those that change a file or a directory.
	writeRights = WriteFile | RemoveDir | RemoveFile | MakeDir | MakeReg |
		MakeSock | MakeFifo | MakeSym | Refer | Truncate
)

var rightNames = [...]string{
	"execute", "write_file", "read_file", "read_dir", "remove_dir", "remove_file",
	"make_char", "make_dir", "make_reg", "make_sock", "make_fifo", "make_block",
	"make_sym", "refer", "truncate", "ioctl_dev", "resolve_unix",
}

// String names the rights as the kernel's audit records do, "read_file|read_dir"
// in the order of their bits; the empty set is "∅", bits without a name are
// shown in hexadecimal.
func (r Rights) String() string {
	if r == 0 {
		return "∅"
	}
	var b strings.Builder
	for rest := r & allRights; rest != 0; rest &= rest - 1 {
		if b.Len() > 0 {
			b.WriteByte('|')
		}
		b.WriteString(rightNames[bits.TrailingZeros64(uint64(rest))])
	}
	if rest := r &^ allRights; rest != 0 {
		if b.Len() > 0 {
			b.WriteByte('|')
		}
		b.WriteString("0x" + strconv.FormatUint(uint64(rest), 16))
	}
	return b.String()
}

// has reports whether all of other is in r.
func (r Rights) has(other Rights) bool { return other&^r == 0 }
