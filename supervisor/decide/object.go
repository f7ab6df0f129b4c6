// Package decide decides what the supervisor answers to a call, given what the call names
// and the policy. It has no side effects: no system calls, no clock, no state.
package decide

import "golang.org/x/sys/unix"

// Class is what kind of object an open names.
type Class uint8

const (
	// Unknown: it could not be found out, or not in time.
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
	// Member: the kernel says that PID is in the sandbox.
	Member bool
	// Traced: the kernel says that the calling process traces PID.
	Traced bool
	// Child: PID is a child of the calling process, in another user namespace.
	Child bool
}

// Request is what is requested of the object. All of it is scalar or was copied once.
type Request struct {
	// Flags are those of open(2), in this machine's numbering.
	Flags int
	// Resolve are the RESOLVE_* flags of openat2(2).
	Resolve uint64
}

// Writing reports whether the access mode includes writing. Mode 3, which opens for neither
// but requires the permission for both, does.
func (r Request) Writing() bool { return r.Flags&unix.O_ACCMODE != unix.O_RDONLY }

// Verdict is the answer to a notification: exactly one of [Continue], [Inject], [Refuse] and
// [Done].
type Verdict interface{ verdict() }

// Continue leaves the call to the kernel. DecidedBy is what decides there.
type Continue struct{ DecidedBy DecidedBy }

// Inject gives the caller the file of the grant.
type Inject struct{ Grant *Grant }

// Refuse answers with an errno.
type Refuse struct{ Errno unix.Errno }

// Done answers success: the supervisor has made the call.
type Done struct{}

func (Continue) verdict() {}
func (Inject) verdict()   {}
func (Refuse) verdict()   {}
func (Done) verdict()     {}

// DecidedBy is what decides about a call that is continued, so that continuing it is safe.
type DecidedBy uint8

const (
	// ByLandlock: the Landlock domain decides the open, on the object that the kernel
	// finds.
	ByLandlock DecidedBy = iota
	// ByScalars: only numbers in registers were judged, which cannot change while the call
	// waits.
	ByScalars
	// ByKernel: nothing was judged; the call is allowed as without memjail, and the
	// supervisor only takes note of it.
	ByKernel
	// ByNothing: a fault of a test build, which the probe suite must find.
	ByNothing
)
