// Package supervisor answers the notifications of a sandbox's seccomp filter. It
// stands outside the sandbox and only ever adds harmless access: a call that it
// does not understand, or not in time, is left to the kernel, whose Landlock
// domain refuses all of procfs. If the supervisor errs or dies, the program
// inside has less, never more.
//
// One function owns the way of a notification from receipt to its one answer
// (receiver.handle); what is decided on the way is pure and in package decide,
// what a path means is found out in package resolve.
package supervisor

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/supervisor/resolve"
	"golang.org/x/sys/unix"
)

// Options are what a supervisor works with.
type Options struct {
	Policy policy.Policy
	Calls  Calls
	// Report is called for every refused attempt, on a receiver's thread: it must
	// return at once. Nil: nobody asks.
	Report func(Event)
	// Quiet holds reports back while it says true: the self-check is at work.
	Quiet func() bool
	// MountNamespace is the sandbox's own, if it has one; nil: this process's.
	MountNamespace *os.File
	// Chrooted: somebody inside may have another root than this process already. A
	// successor takes it from [Supervisor.Chrooted] of its predecessor.
	Chrooted bool
	// SlowMounts: there are network or FUSE file systems, on which resolving a
	// path can wait for somebody.
	SlowMounts bool
}

// Supervisor serves one listener.
type Supervisor struct {
	options  Options
	resolver *resolve.Resolver
	kinds    kindTable
	base     rights

	listener  *kernel.Listener
	receiveFD atomic.Int32 // a duplicate: replaced to call the receivers back
	chrooted  atomic.Bool  // somebody inside may have another root

	mu        sync.Mutex
	load      load
	receivers []*receiver
	retiring  bool
	running   sync.WaitGroup
	gone      chan struct{}
	goneOnce  sync.Once
	watchOnce sync.Once
	adopted   chan struct{} // closed once listener is there
	slow      slowPool
}

// New prepares a supervisor; it serves once [Supervisor.Serve] gives it a
// listener. The error says what is missing for granting anything: procfs.
func New(o Options) (*Supervisor, error) {
	procfs, err := resolve.OpenProcfs()
	if err != nil {
		return nil, fmt.Errorf("preparing the supervisor: %w", err)
	}
	s := &Supervisor{
		options:  o,
		resolver: &resolve.Resolver{Procfs: procfs},
		kinds:    kindTable{calls: o.Calls},
		load:     load{cpus: runtime.NumCPU()},
		gone:     make(chan struct{}),
		adopted:  make(chan struct{}),
	}
	s.chrooted.Store(o.Chrooted)
	if s.base, err = ownRights(); err != nil {
		procfs.Close()
		return nil, fmt.Errorf("preparing the supervisor: %w", err)
	}
	return s, nil
}

// Start makes a thread ready to serve, has it wait for the listener, which the
// starter makes, and serve it. wait returning nil means that there will be none.
func (s *Supervisor) Start(wait func() *kernel.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addReceiver(wait)
}

// Serve takes the listener over and answers its notifications from now on.
func (s *Supervisor) Serve(l *kernel.Listener) {
	s.Start(func() *kernel.Listener { return l })
}

// adopt makes l the listener that is served.
func (s *Supervisor) adopt(l *kernel.Listener) bool {
	if l == nil {
		return false
	}
	fd, err := unix.FcntlInt(uintptr(l.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		l.Close() // everything that is asked inside fails from now on
		return false
	}
	l.SyncWakeUp() // unknown before Linux 6.6, where the round trip is slower
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener = l
	s.receiveFD.Store(int32(fd))
	close(s.adopted)
	return true
}

// addReceiver starts one more; s.mu is held. wait is for the first one.
func (s *Supervisor) addReceiver(wait func() *kernel.Listener) {
	r := newReceiver(s, len(s.receivers))
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
			if s.listener.WaitGone() == nil {
				s.ended()
			}
		}()
	})
	return s.gone
}

// Chrooted tells whether somebody inside has called chroot(2).
func (s *Supervisor) Chrooted() bool { return s.chrooted.Load() }

func (s *Supervisor) ended() { s.goneOnce.Do(func() { close(s.gone) }) }

// Listener returns the listener that is served, for a successor.
func (s *Supervisor) Listener() *kernel.Listener { return s.listener }

// Retire ends serving: every notification that was received is answered, no more
// is received, and the listener is closed. Unless a successor holds a copy of the
// listener, calls inside fail from then on.
func (s *Supervisor) Retire() error {
	s.mu.Lock()
	s.retiring = true
	receivers := s.receivers
	s.mu.Unlock()
	if s.listener == nil {
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
	unix.Close(int(s.receiveFD.Load()))
	return errors.Join(s.listener.Close(), s.resolver.Procfs.Close())
}

// replaceReceiveFD puts another file under the number on which the receivers
// wait. Nothing but a signal ends their waiting, and the signal restarts it: now
// on a descriptor that is no listener.
func (s *Supervisor) replaceReceiveFD() error {
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("calling the receivers back: %w", err)
	}
	defer unix.Close(null)
	if err := unix.Dup3(null, int(s.receiveFD.Load()), unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("calling the receivers back: %w", err)
	}
	return nil
}

// adapt counts a request and its outcome and starts, wakes or parks receivers.
// It says whether the receiver number index should go on.
func (s *Supervisor) adapt(index int, tid uint32, injected bool) (goOn, pinned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.load.request(tid)
	if injected {
		s.load.granted()
	}
	want := s.load.receivers()
	if s.retiring {
		return true, s.load.pinned()
	}
	for i := 0; i < want; i++ {
		if i == len(s.receivers) {
			s.addReceiver(nil)
		} else if s.receivers[i].parked {
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
