// Package early remembers what the Go runtime changes before main runs and a
// launcher has to hand on unchanged: the soft limit of open files, which package
// syscall raises in its initialisation, and which signals are ignored, which the
// runtime forgets when it installs its handlers.
//
// At that entry point it also makes the descriptor table large. Later, when threads
// share the table, each time it grows the kernel waits for all CPUs (an RCU grace
// period): some milliseconds, and a policy with many rules needs many descriptors.
//
// A process whose argv[0] asks for it gets user and mount namespaces there
// ([NamespacesPrefix]).
//
// And it makes sure that the runtime can start: it raises a limit of address space that
// is too low, and where a limit of processes is, it tries whether there is room for
// memjail's threads. The runtime does not survive a thread that it cannot make.
//
// For "memjail run", which forwards signals, it blocks those that stop and continue a process
// in all threads but the main one: the kernel keeps their order until a thread takes one, and two
// threads may take a stop and what undoes it and report them the other way around.
//
// It imports nothing: packages are initialised in the order of their paths once
// their imports are, so this one comes before package syscall. For the signals
// even that is too late: they are read at the program's entry point, if it was
// linked with -ldflags='-E memjail_entry' (as the Makefile does).
package early

// prlimit fills p with the limits of a resource, as prlimit(0, resource, NULL, p).
func prlimit(resource uintptr, p *[2]uint64)

const rlimitNofile = 7

// Nofile is the soft and hard limit of open files as memjail was started with.
var Nofile [2]uint64

// setMask sets the calling thread's signal mask, as rt_sigprocmask(SIG_SETMASK, mask, NULL, 8).
func setMask(mask *uint64)

// The reason for an init: any later moment is after the change of the limit. The main thread takes
// back the mask that the runtime has given to all threads since the entry point.
func init() {
	prlimit(rlimitNofile, &Nofile)
	if atEntry.ordered != 0 {
		setMask(&atEntry.blocked)
	}
}

// What the entry point says, and ends with 125 instead of starting a runtime that would
// end with a trace: at the entry there is one thread and nothing to be undone. The
// assembly prints them.
//
//lint:file-ignore U1000 the analyser does not read assembly
var (
	fewProcesses = "memjail: RLIMIT_NPROC (ulimit -u) leaves no room for the 20 processes and threads " +
		"that memjail needs: raise it\n"
	littleMemory = "memjail: RLIMIT_AS (ulimit -v) leaves less than 1536 MB of address space, which " +
		"memjail needs: raise it\n"
)

// addressSpace is RLIMIT_AS as memjail was started with, and whether the entry point has
// raised it.
var addressSpace struct {
	soft, hard uint64
	raised     uint64
}

// AddressSpace returns the limits RLIMIT_AS that memjail was started with, if the entry
// point had to raise them for the runtime.
func AddressSpace() (limit [2]uint64, raised bool) {
	return [2]uint64{addressSpace.soft, addressSpace.hard}, addressSpace.raised != 0
}

// atEntry is written at the entry point: what was so then, and that it was reached
// at all. Signal n is bit n-1, descriptor n bit n.
var atEntry struct {
	ignored uint64
	reached uint64
	blocked uint64
	closed  uint64
	ordered uint64 // stops and continuations reach the main thread only
}

// Ignored returns the set of signals that were ignored when the program was
// started, bit n-1 for signal n. known is false if the program was not linked to
// begin at this package's entry point; then the set is empty.
func Ignored() (set uint64, known bool) { return atEntry.ignored, atEntry.reached != 0 }

// Blocked returns the signal mask that the program was started with, and whether
// it is known.
func Blocked() (set uint64, known bool) { return atEntry.blocked, atEntry.reached != 0 }

// NamespacesPrefix begins argv[0] of a process that is to be in new user and mount namespaces:
// the entry point makes them, because the kernel refuses a new user namespace to a process with
// several threads. It is the text that the assembly looks for.
const NamespacesPrefix = "memjail: enters "

// namespaces is whether the entry point was asked for namespaces, and the errno of unshare(2).
var namespaces struct {
	asked uint64
	errno uint64
}

// Namespaces reports whether the entry point was asked for new user and mount namespaces. The
// errno is 0 if it has made them.
func Namespaces() (asked bool, errno uint64) { return namespaces.asked != 0, namespaces.errno }

// Closed reports whether fd, one of 0, 1 and 2, was closed when the program was
// started. The Go runtime opens /dev/null in its place.
func Closed(fd int) bool { return atEntry.closed&(1<<uint(fd)) != 0 }
