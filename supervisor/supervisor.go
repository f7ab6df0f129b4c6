// Package supervisor answers the notifications of a sandbox's seccomp filter. It runs
// outside the sandbox and only ever adds harmless access: a call that it does not
// understand, or not in time, is left to the kernel, whose Landlock domain refuses all of
// procfs. If the supervisor fails or ends, the program inside has less access, never more.
//
// receiver.handle takes a notification from its receipt to its one answer. Package decide
// decides, without side effects; package resolve finds out what a path means.
package supervisor

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/supervisor/resolve"
	"golang.org/x/sys/unix"
)

// Options configure a supervisor.
type Options struct {
	Policy policy.Policy
	Calls  Calls
	// Report is called for every refused attempt, on a receiver's thread: it must return at
	// once. Nil: attempts are not reported.
	Report func(Event)
	// Explain is asked about calls that are left to the kernel, for reports; it may be nil.
	Explain Explainer
	// Observe is called for every use of a file or address that the filter asks about
	// (see [ObservedCalls]), on a receiver's thread: it must return at once. The policy
	// must not restrict metadata. Nil: nobody observes.
	Observe func(Observation)
	// Failed is called once if supervision has to end before the sandbox does: a call could
	// be neither received nor answered. The listener is closed by then, so that calls inside
	// fail instead of waiting. It may be nil.
	Failed func(error)
	// Unreadable is called once, on a receiver's thread and before the call is answered, if
	// the memory of the first caller cannot be read: then no file can be granted. It must
	// return at once. It may be nil.
	Unreadable func(error)
	// Served, if not nil, is called once, on a receiver's thread, in place of
	// [Supervisor.Serving]: with nil when the listener is served, or there is none. It must
	// return at once.
	Served func(error)
	// StarterShares: the caller that makes the self-check and executes the command shares
	// this process's memory, so that reading it proves nothing about others.
	StarterShares bool
	// Quiet reports whether the self-check is running: nothing is reported meanwhile.
	Quiet func() bool
	// MountNamespace is the sandbox's own, if it has one; nil: this process's.
	MountNamespace *os.File
	// Chrooted: a process inside may already have another root than this one. A successor
	// takes it from [Supervisor.Chrooted] of its predecessor.
	Chrooted bool
	// Members knows which processes are in the sandbox, where the policy grants their files
	// to each other; nil: files are granted to their own process only. The supervisor closes
	// it when it retires, and when the sandbox has ended.
	Members *kernel.Members
	// Writable are the places where paths.metadata = "granted" lets metadata be changed.
	Writable Writable
	// Denied are the places that paths.deny closes, Listed the directories that may be listed
	// although no rule of the kernel's domain lets them, because of what is denied below.
	Denied, Listed Places
	// Signals: the filter notifies of signals to single processes only so that those are
	// reported which the kernel keeps inside the sandbox.
	Signals bool
	// Filters is the number of seccomp filters of processes outside that are like the one
	// which started the sandbox; -1: not known. nil: as many as this process has now. A
	// successor must be given it, since it inherits the filter of the supervisor before.
	Filters *int
	// SlowMounts: there are network or FUSE file systems, on which resolving a path can
	// block.
	SlowMounts bool
}

// Supervisor serves one listener.
type Supervisor struct {
	options  Options
	resolver *resolve.Resolver
	kinds    kindTable
	base     rights
	filters  int // this process had so many seccomp filters when it was made

	listener  *kernel.Listener
	receiveFD atomic.Int32 // a duplicate: replaced to call the receivers back
	chrooted  atomic.Bool  // a process inside may have another root
	readable  atomic.Bool  // whether callers can be read is known
	// slowMounts: there are file systems on which looking up a name may block.
	slowMounts atomic.Bool

	mu         sync.Mutex
	load       load
	concurrent bool // as the listener was configured last
	receivers  []*receiver
	retiring   bool
	retired    sync.Once
	retireErr  error
	failing    sync.Once
	running    sync.WaitGroup
	gone       chan struct{}
	goneOnce   sync.Once
	watchOnce  sync.Once
	adopted    chan struct{} // closed once listener is there
	first      chan error    // whether the first receiver serves, once
	slow       slowPool
	cloning    recentClones
}

// New prepares a supervisor, which serves once [Supervisor.Serve] gives it a listener. It
// fails without a procfs, of which nothing could be granted.
func New(o Options) (*Supervisor, error) {
	procfs, err := resolve.OpenProcfs()
	if err != nil {
		return nil, fmt.Errorf("preparing the supervisor: %w", err)
	}
	s := &Supervisor{
		options:  o,
		resolver: &resolve.Resolver{Procfs: procfs},
		kinds:    kindTable{calls: o.Calls},
		load:     load{cpus: min(runtime.NumCPU(), maxReceivers)},
		gone:     make(chan struct{}),
		adopted:  make(chan struct{}),
		first:    make(chan error, 1),
	}
	s.chrooted.Store(o.Chrooted)
	if o.Filters != nil {
		s.filters = *o.Filters
	} else if self, err := readIdentity(procfs, os.Getpid()); err == nil {
		s.filters = self.filters
	}
	s.slowMounts.Store(o.SlowMounts)
	s.resolver.Remote = s.slowMounts.Load
	if s.base, err = ownRights(); err != nil {
		procfs.Close()
		return nil, fmt.Errorf("preparing the supervisor: %w", err)
	}
	if o.Policy.IPC.Namespaces == policy.NamespacesUser {
		if err := s.base.keep(capIDMap); err != nil {
			procfs.Close()
			return nil, fmt.Errorf("preparing the supervisor: %w", err)
		}
	}
	if changesMetadata(&o.Policy) {
		if err := s.base.keepMetadata(len(o.Policy.Capabilities.Keep) > 0); err != nil {
			procfs.Close()
			return nil, fmt.Errorf("preparing the supervisor: %w", err)
		}
	}
	// Without CAP_SYS_PTRACE (a container's root) a process may be looked at only by one
	// that could have all of its capabilities; none is in effect.
	if o.Members != nil || s.base.caps&capPtrace == 0 {
		if err := s.base.keepAll(); err != nil {
			procfs.Close()
			return nil, fmt.Errorf("preparing the supervisor: %w", err)
		}
	}
	return s, nil
}

// Start makes a thread ready, which waits for the listener that the starter makes, and
// serves it. If wait returns nil there is none.
func (s *Supervisor) Start(wait func() *kernel.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addReceiver(wait)
	if fewProcesses() {
		s.addReceivers()
		spareThreads()
	} else {
		go func() {
			// Most commands have ended before this.
			time.Sleep(50 * time.Millisecond)
			s.mu.Lock()
			s.addReceivers()
			s.mu.Unlock()
			spareThreads()
		}()
	}
	if s.options.Members != nil {
		s.Gone() // watches, so that the helper ends with the sandbox
	}
}

// fewProcesses reports whether the user may have so few processes that the sandbox can use
// them up soon.
func fewProcesses() bool {
	const few = 1024
	var limit unix.Rlimit
	return unix.Getrlimit(unix.RLIMIT_NPROC, &limit) == nil && limit.Cur < few
}

// maxReceivers is how many receivers there are at most. All are made soon after the start,
// or when the second one is wanted: later the sandbox could have used up its user's limit
// of processes, and the runtime does not survive a thread that it cannot make.
const maxReceivers = 4

// SetSlowMounts sets whether there are, by now, network or FUSE file systems.
func (s *Supervisor) SetSlowMounts(there bool) { s.slowMounts.Store(there) }

// spareThreads has the runtime make threads that it may need later, while it can.
func spareThreads() {
	const threads, long = 12, 2 * time.Millisecond
	var busy sync.WaitGroup
	for range threads {
		busy.Go(func() {
			// A system call that takes this long keeps its thread to itself.
			pause := unix.NsecToTimespec(int64(long))
			unix.Nanosleep(&pause, nil)
		})
	}
	busy.Wait()
}

// Serve takes over the listener and answers its notifications from now on.
func (s *Supervisor) Serve(l *kernel.Listener) {
	s.Start(func() *kernel.Listener { return l })
}

// Serving waits until the listener is served, or there is none. An error means that there is
// one that is never going to be served, and that no command may run. Call it once.
func (s *Supervisor) Serving() error { return <-s.first }

// served tells whether the first receiver serves.
func (s *Supervisor) served(err error) {
	if s.options.Served != nil {
		s.options.Served(err)
		return
	}
	s.first <- err
}

// adopt makes l the listener that is served.
func (s *Supervisor) adopt(l *kernel.Listener) bool {
	if l == nil {
		s.served(nil)
		return false
	}
	fd, err := unix.FcntlInt(uintptr(l.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		if err = l.PrepareWait(); err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		l.Close() // calls inside fail from now on
		s.served(fmt.Errorf("taking over the listener: %w", err))
		return false
	}
	l.SyncWakeUp(true) // unknown before Linux 6.6, where the round trip is slower
	defer s.served(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retiring {
		unix.Close(fd)
		l.Close()
		return false
	}
	s.listener = l
	s.receiveFD.Store(int32(fd))
	close(s.adopted)
	return true
}

// addReceivers makes the receivers that are missing, parked; s.mu is held.
func (s *Supervisor) addReceivers() {
	for !s.retiring && len(s.receivers) < max(s.load.cpus, grantingCount) {
		s.addReceiver(nil)
	}
}

// addReceiver makes one receiver; s.mu is held. The first gets wait and serves; the others
// are parked until they are wanted.
func (s *Supervisor) addReceiver(wait func() *kernel.Listener) {
	r := newReceiver(s, len(s.receivers))
	r.parked = wait == nil
	s.receivers = append(s.receivers, r)
	s.running.Add(1)
	go r.run(wait)
}

// Gone is closed when no task is left in the sandbox. The first call starts a
// thread that waits for that: before Linux 6.11 it does not end a receive.
func (s *Supervisor) Gone() <-chan struct{} {
	s.watchOnce.Do(func() {
		go func() {
			<-s.adopted
			switch err := s.listener.WaitGone(); {
			case err == nil:
				s.ended()
			case !errors.Is(err, os.ErrClosed): // nobody would see the end
				s.fail(err)
			}
		}()
	})
	return s.gone
}

// Chrooted reports whether a process inside has called chroot(2).
func (s *Supervisor) Chrooted() bool { return s.chrooted.Load() }

// Filters returns [Options.Filters] for a successor.
func (s *Supervisor) Filters() int { return s.filters }

func (s *Supervisor) ended() {
	s.goneOnce.Do(func() {
		s.closeMembers()
		close(s.gone)
	})
}

// closeMembers ends the helper: whoever waits for all processes of the sandbox waits for it
// too.
func (s *Supervisor) closeMembers() {
	if s.options.Members != nil {
		s.options.Members.Close() // only sockets: nothing is lost
	}
}

// Listener returns the listener that is served, for a successor; nil if there is none.
func (s *Supervisor) Listener() *kernel.Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retiring {
		return nil
	}
	return s.listener
}

func (s *Supervisor) isRetiring() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.retiring
}

// fail ends supervision after an error. It returns at once: the caller may be a receiver,
// which has to end first.
func (s *Supervisor) fail(err error) {
	s.failing.Do(func() {
		go func() {
			err = errors.Join(err, s.Retire())
			if s.options.Failed != nil {
				s.options.Failed(err)
			}
		}()
	})
}

// Retire stops serving: all notifications that were received are answered, no more are
// received, and the listener is closed. Unless a successor holds a copy of the listener,
// calls inside fail from then on. Further calls return what the first did.
func (s *Supervisor) Retire() error {
	s.retired.Do(func() { s.retireErr = s.retire() })
	return s.retireErr
}

func (s *Supervisor) retire() error {
	s.mu.Lock()
	s.retiring = true
	receivers, listener := s.receivers, s.listener
	s.mu.Unlock()
	if listener == nil {
		s.closeMembers()
		return s.resolver.Procfs.Close()
	}
	if err := s.replaceReceiveFD(); err != nil {
		return err
	}
	for _, r := range receivers {
		r.callBack()
	}
	s.running.Wait()
	s.slow.wait()
	s.closeMembers()
	unix.Close(int(s.receiveFD.Load()))
	return errors.Join(listener.Close(), s.resolver.Procfs.Close())
}

// replaceReceiveFD puts another file under the number on which the receivers wait. Only a
// signal ends their waiting, and restarts it: now on a descriptor that is no listener. It
// needs no further descriptor, since none may be left.
func (s *Supervisor) replaceReceiveFD() error {
	if err := unix.Dup3(s.resolver.Procfs.FD(), int(s.receiveFD.Load()), unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("calling the receivers back: %w", err)
	}
	return nil
}

// rebalance counts a request and its outcome, and starts, wakes or parks receivers. It reports
// whether the receiver number index should go on.
func (s *Supervisor) rebalance(index int, tid uint32, injected bool) (goOn, pinned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.load.request(tid)
	if injected {
		s.load.granted()
	}
	if concurrent := s.load.concurrent(); concurrent != s.concurrent {
		s.concurrent = concurrent
		s.listener.SyncWakeUp(!concurrent)
	}
	want := s.load.receivers()
	if s.retiring {
		return true, s.load.pinned()
	}
	if want > len(s.receivers) {
		s.addReceivers()
	}
	for i := 0; i < want; i++ {
		if s.receivers[i].parked {
			s.receivers[i].parked = false
			s.receivers[i].wake <- struct{}{}
		}
	}
	if index >= want {
		s.receivers[index].parked = true
		return false, false
	}
	return true, s.load.pinned()
}
