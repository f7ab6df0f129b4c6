package policy

// Facts answer what [Explain] needs to know about the system, the user and how the policy
// is enforced there. They belong to one policy: which directories are carved depends on it.
type Facts interface {
	// Look returns what a path leads to, following symbolic links as open(2) does.
	Look(path string) Object
	// Granted returns the path of a Landlock rule that grants a right on an object, or
	// "". Landlock rules belong to files and directories, not to their names: a hard link
	// or a bind mount makes one apply at another path. For a missing object, and for
	// [MayWrite] on a directory, the right is the one to create a file.
	Granted(o Object, need Rights) (rule string)
	// Denials returns the rules of the built-in filter about a system call.
	Denials(call string) []Denial
	// Capability reports whether the program drops the memory capability, so that the
	// kernel decides what of procfs may be read.
	Capability() bool
	// PrivateView reports whether Look sees the sandbox's own view of the file system, in
	// which only what is granted exists.
	PrivateView() bool
	// Home returns the home directory and the user's runtime directory, below which secrets
	// are; "" where one is not known.
	Home() (home, runtime string)
}

// ObjectKind is the kind of object at a path.
type ObjectKind uint8

const (
	KindMissing ObjectKind = iota // there is none
	KindFile
	KindDirectory
	KindDevice // a character or block device
	KindOther  // a FIFO or a socket
)

// Object is what a path leads to.
type Object struct {
	// Path is the canonical path, without symbolic links. For a missing object it is the
	// canonical path of the last directory that exists, and the rest as it was given.
	Path string
	// Kind is what Path names.
	Kind ObjectKind
	// Special is the type of the file system ("proc", "tracefs") if the path leads to one
	// that is never granted as a path, or to the fixed place of one.
	Special string
	// Procfs describes a file of procfs; it is nil on every other file system and for
	// directories of procfs.
	Procfs *ProcfsFile
	// Code is the program directory ("/usr"), or the second view of one, that contains the
	// path. It applies under [CodeFilesProtect].
	Code string
	// System marks sysfs and cgroup file systems, which are granted without write rights.
	// Delegable marks those of them that a path rule can open for writing.
	System, Delegable bool
	// Device is the class of a device node.
	Device DeviceClass
	// Carved is the reason why the entries of this directory, or of the one in which a
	// missing object would be created, are granted one by one, so that nothing can be
	// created directly in it. It is empty for all other directories.
	Carved string
	// Denied is the element of paths.deny that contains the path, or empty.
	Denied string
	// Closed marks a directory that a private view shows in the place of a denied one, and that
	// its mode keeps the user from listing.
	Closed bool
	// Listed marks a directory that the supervisor lets be listed: no rule of the kernel's
	// domain can, because something below it is denied.
	Listed bool
	// Memfd marks a file of memfd_create(2), which is in no directory.
	Memfd bool
	// Pinned is what running a program from copies does to the object. It applies where
	// memory.pin is set.
	Pinned Pinning
	// ReadOnly marks what a private view shows by a mount that is read-only.
	ReadOnly bool
	// Terminals marks the directory of pseudo-terminals, which every policy grants.
	Terminals bool
}

// Pinning is how a path relates to the copies that a program is run from.
type Pinning uint8

const (
	PinUnknown Pinning = iota // the program is not known
	PinApart                  // it is on the way to no copy
	PinCopy                   // a copy is in its place
	PinWay                    // a directory on the way to a copy, or missing in one
	PinBeside                 // an unchanged entry of such a directory
)

// DeviceClass is how a device node is granted.
type DeviceClass uint8

const (
	DeviceUnlisted DeviceClass = iota // only by name
	DeviceListed                      // where the policy grants its directory
	DeviceBasic                       // always: null, zero, tty, pts/*, ...
	DeviceTerminal                    // always: the terminal on which the sandbox starts
)

// ProcfsFile is a file of procfs as the supervisor's table of grants has it.
type ProcfsFile struct {
	System bool // about the system and not about a process
	Own    bool // of the process that asks ("/proc/self/...")
	Gated  bool // the kernel asks for ptrace access to the process
	// Readable reports whether the table grants reading: to every process, or for the
	// Gated files of a process according to procfs.processes.
	Readable bool
	// Writable reports whether a policy that lists Write lets the file be written.
	Writable bool
	// Write is an element of procfs.write. It applies if Writable is set.
	Write ProcfsWrite
}

// Denial is one rule of the built-in filter.
type Denial struct {
	// Call is the name of the system call.
	Call string
	// Condition describes the uses that are refused. It is "" for every use, and
	// "under KEY ..." for every use where that key has such a value.
	Condition string
	// Done reports whether the call returns success without having done anything.
	Done bool
	// Reason is why the call is refused.
	Reason string
	// Key is the key of a policy that lifts the denial, "" if there is none.
	Key string
}
