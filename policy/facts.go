package policy

// Facts answer what [Explain] and [Lint] need to know of the machine, of the
// user and of how the policy is enforced there. They are the facts for the policy
// that is asked about: which directories are carved depends on it.
type Facts interface {
	// Look says what a path leads to, following symbolic links as open(2) does.
	Look(path string) Object
	// Granted returns the path on which a rule of the kernel stands that gives a
	// right to an object, or "". Rules belong to files and directories, not to their
	// names: a hard link or a bind mount brings one to another path. Of a missing
	// object, or a directory and [MayWrite], it is the right to make a file.
	Granted(o Object, need Rights) (rule string)
	// Denials lists the rules that the built-in filter has about a system call.
	Denials(call string) []Denial
	// Capability reports whether the program drops the memory capability, so that the
	// kernel decides what of procfs may be read.
	Capability() bool
}

// ObjectKind is what stands at a path.
type ObjectKind uint8

const (
	KindMissing ObjectKind = iota // nothing does
	KindFile
	KindDirectory
	KindDevice // a character or block device
	KindOther  // a FIFO or a socket
)

// Object is what a path leads to.
type Object struct {
	// Path is the canonical path, without symbolic links. Of a missing object it
	// is that of the last directory that exists, and the rest as it was written.
	Path string
	Kind ObjectKind
	// Special is the type of a file system that is never granted as a path
	// ("proc", "tracefs") if the path leads to one, or to the place of one.
	Special string
	// Procfs is what there is of procfs at the path; it is nil on every other
	// file system and for the directories of procfs.
	Procfs *ProcfsFile
	// Code is the program directory, or the second view of one, that the path
	// lies in ("/usr"); it has a meaning under [CodeFilesProtect].
	Code string
	// System marks sysfs and cgroup file systems, which are granted without write
	// rights; Delegable, those of them that a path rule can open for writing.
	System, Delegable bool
	// Device is the class of a device node.
	Device DeviceClass
	// Carved is the reason why the entries of this directory, or of the one in
	// which a missing object would be made, are granted one by one; nothing new
	// can be made directly in it. It is empty where that is not so.
	Carved string
	// Memfd marks a file that lies in no directory, memfd_create(2).
	Memfd bool
	// Pinned is what running a program from copies does to it; it has a meaning
	// where memory.pin is set.
	Pinned Pinning
	// Terminals marks the directory of pseudo terminals, which every policy
	// grants.
	Terminals bool
}

// Pinning is where something stands when a program is run from copies.
type Pinning uint8

const (
	PinUnknown Pinning = iota // the program is not known
	PinApart                  // the way to no copy leads there
	PinCopy                   // it is one of the files that copies are run of
	PinWay                    // a directory on the way to a copy, or missing in one
	PinBeside                 // directly in such a directory, and as it was
)

// DeviceClass says how a device node is granted.
type DeviceClass uint8

const (
	DeviceUnlisted DeviceClass = iota // only by name
	DeviceListed                      // where the policy grants its directory
	DeviceBasic                       // always: null, zero, tty, pts/*, ...
	DeviceTerminal                    // always: the terminal that the sandbox starts on
)

// ProcfsFile is what the supervisor's table of grants says of a file of procfs.
type ProcfsFile struct {
	System bool // about the system and not about a process
	Own    bool // of the process that asks ("/proc/self/...")
	Gated  bool // the kernel asks for ptrace access to the process
	// Readable tells that the table grants reading: to everybody, or, of a
	// process's file that is Gated, by procfs.processes.
	Readable bool
	// Writable tells that Write is what a policy has to list for writing it.
	Writable bool
	Write    ProcfsWrite
}

// Denial is one rule of the built-in filter.
type Denial struct {
	Call      string
	Condition string // which uses, in words; "" for every use; "under KEY ..." for every use where the key says so
	Done      bool   // it is not refused but answered as done, without being done
	Reason    string
	Key       string // the policy's key that lifts it, "" if none does
}
