package probe

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/memjail/memjail/sandbox/kernel/attack"
	"golang.org/x/sys/unix"
)

// What a victim can notice about itself besides its memory, see State.Noticed.
const (
	NoticedSignal   = "signal"   // it was sent SIGUSR1 or SIGIO, if it keeps signals
	NoticedLimit    = "limit"    // its RLIMIT_NOFILE changed
	NoticedNice     = "nice"     // its nice value changed
	NoticedAffinity = "affinity" // its set of CPUs changed
	NoticedShm      = "shm"      // its System V segment was written
)

// keptSignals are those that such a victim keeps.
var keptSignals = []unix.Signal{unix.SIGUSR1, unix.SIGIO}

// A witness reports what happens to its process.
type witness struct {
	before standing
	keeps  bool // signals
}

// standing is what others can change of a process.
type standing struct {
	limit unix.Rlimit
	nice  int
	cpus  unix.CPUSet
}

func currentStanding() (standing, error) {
	var now standing
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now.limit)
	if err == nil {
		now.nice, err = unix.Getpriority(unix.PRIO_PROCESS, os.Getpid())
	}
	if err == nil {
		err = unix.SchedGetaffinity(os.Getpid(), &now.cpus)
	}
	if err != nil {
		return now, fmt.Errorf("reading its own limits: %w", err)
	}
	return now, nil
}

// newWitness prepares this process: a process group of its own, so that signals to the
// group reach nobody else, and the default action for a signal that dumps core, as in a
// program that is not written in Go.
func newWitness(o VictimOptions) (*witness, error) {
	if o.Dir != "" {
		if err := os.Chdir(o.Dir); err != nil {
			return nil, err
		}
	}
	if err := unix.Setpgid(0, 0); err != nil {
		return nil, fmt.Errorf("making a process group: %w", err)
	}
	if err := attack.DefaultAction(unix.SIGABRT); err != nil {
		return nil, err
	}
	if o.keepSignals {
		if err := keepSignals(); err != nil {
			return nil, fmt.Errorf("keeping signals pending: %w", err)
		}
	}
	before, err := currentStanding()
	return &witness{before: before, keeps: o.keepSignals}, err
}

// keepSignals blocks signals in every thread. For that a program has to begin with them
// blocked, so this one executes itself again if it did not.
func keepSignals() error {
	if blocked, err := signalSet("SigBlk"); err != nil || blocked&keptSet() == keptSet() {
		return err
	}
	exe, err := program()
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	var set unix.Sigset_t
	binary.NativeEndian.PutUint64(attack.Bytes(&set), keptSet())
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil); err != nil {
		return err
	}
	return unix.Exec(exe, os.Args, os.Environ())
}

func keptSet() uint64 {
	set := uint64(0)
	for _, s := range keptSignals {
		set |= 1 << (s - 1)
	}
	return set
}

// signalSet is a set of signals that the main thread's status names, see
// proc_pid_status(5).
func signalSet(name string) (uint64, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if set, ok := strings.CutPrefix(line, name+":"); ok {
			return strconv.ParseUint(strings.TrimSpace(set), 16, 64)
		}
	}
	return 0, fmt.Errorf("%s: %w", name, unix.ENODATA)
}

// kept reports whether a signal is pending, for the process or for its main thread.
func kept() bool {
	process, err := signalSet("ShdPnd")
	thread, threadErr := signalSet("SigPnd")
	return err == nil && threadErr == nil && (process|thread)&keptSet() != 0
}

// noticed returns what has happened since the witness began.
func (w *witness) noticed() map[string]bool {
	if w == nil {
		return nil
	}
	now, err := currentStanding()
	return map[string]bool{
		NoticedSignal:   w.keeps && kept(),
		NoticedLimit:    err == nil && now.limit != w.before.limit,
		NoticedNice:     err == nil && now.nice != w.before.nice,
		NoticedAffinity: err == nil && now.cpus != w.before.cpus,
	}
}

// furnish adds to a victim what attackers use besides canaries: a segment of System V
// shared memory, which is marked for removal at once so that it ends with the process, and
// the address of the instructions that a tracer has it run.
func (m *memory) furnish() {
	m.victim.Gadget = uint64(attack.Gadget())
	m.victim.Dir, _ = os.Getwd() // "": where core files would be is not known
	m.victim.Shm = -1
	id, err := unix.SysvShmGet(unix.IPC_PRIVATE, unix.Getpagesize(), unix.IPC_CREAT|0o600)
	if err != nil {
		return
	}
	page, err := unix.SysvShmAttach(id, 0, 0)
	unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	if err != nil {
		return
	}
	copy(page, m.canary)
	m.victim.Shm, m.shm = id, page
}

// signalPatience is how long a process may take to die of a signal.
const signalPatience = 20 * time.Millisecond

// judge judges an attempt by what the victim reports of itself.
func (a *Attempt) judge(o Outcome, after State, gone bool) bool {
	if a.Judge == nil {
		return (!gone || a.survives()) && judgeCanary(a.Effect, o, after)
	}
	return a.Judge(after, gone)
}

// survives reports whether the attempt can be judged when its victim is gone.
func (a *Attempt) survives() bool { return a.Effect == Disturb || a.Effect == Read }

// outsideOptions are the options of the attempt's external victim.
func (a *Attempt) outsideOptions(s Setup) VictimOptions {
	return VictimOptions{Dir: s.Scratch(), lockDir: s.Scratch(), keepSignals: a.Judge != nil && a.Effect == Disturb}
}
