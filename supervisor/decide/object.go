// Package decide says what the supervisor does about a call, given what the call
// names and the policy. It is pure: no system call, no clock, no state.
package decide

import "golang.org/x/sys/unix"

// Class is what kind of object an open names.
type Class uint8

const (
	// Unknown: it could not be told, or not in time.
	Unknown Class = iota
	// Ordinary: not on procfs.
	Ordinary
	// System: a file of procfs that belongs to no process.
	System
	// Process: a file below /proc/PID or /proc/PID/task/TID.
	Process
)

// Object is what an open names, in the view of the caller.
type Object struct {
	Class Class
	// Name is the path below the procfs root (System: "sys/kernel/osrelease") or
	// below the directory of the process or thread (Process: "maps", "fdinfo/3").
	Name string
	// PID is the number of the directory below the procfs root; Task the number
	// below task/, or 0.
	PID, Task int
	// Own: PID belongs to the calling process.
	Own bool
	// Member: PID is known to be in the sandbox, by the kernel's answer.
	Member bool
	// Traced: PID is traced by the calling process, by the kernel's answer.
	Traced bool
	// Child: PID is a child of the calling process, in another user namespace.
	Child bool
}

// Request is what is asked of the object. All of it is scalar or was copied once.
type Request struct {
	// Flags are those of open(2), in this machine's numbering.
	Flags int
	// Resolve are the RESOLVE_* flags of openat2(2).
	Resolve uint64
}

// Writing tells what the access mode asks for. The mode 3, which opens for neither
// but asks for the permission for both, is writing.
func (r Request) Writing() bool { return r.Flags&unix.O_ACCMODE != unix.O_RDONLY }

// Verdict is the answer to a notification: exactly one of [Continue], [Inject],
// [Refuse] and [Done]. No value of the type says two of these things.
type Verdict interface{ verdict() }

// Continue leaves the call to the kernel. Behind says what decides there.
type Continue struct{ Behind Behind }

// Inject gives the caller the file of the grant.
type Inject struct{ Grant *Grant }

// Refuse answers with an errno.
type Refuse struct{ Errno unix.Errno }

// Done tells the caller that its call was made: the supervisor has made it.
type Done struct{}

func (Continue) verdict() {}
func (Inject) verdict()   {}
func (Refuse) verdict()   {}
func (Done) verdict()     {}

// Behind says why a Continue gives nothing away.
type Behind uint8

const (
	// BehindLandlock: the kernel's own domain decides the open, on the object it
	// finds by itself.
	BehindLandlock Behind = iota
	// BehindScalars: only numbers in registers were judged, which nobody changes
	// while the call waits.
	BehindScalars
	// BehindKernel: nothing was judged; the call is as free as without memjail,
	// and the supervisor only wanted to know of it.
	BehindKernel
	// BehindNothing: a fault of a test build, which the probe suite must find.
	BehindNothing
)
