package supervisor

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/supervisor/resolve"
	"golang.org/x/sys/unix"
)

// callBackSignal interrupts a receiver that waits. It is the only signal that a
// receiver's thread does not block, and it is only sent while the thread waits.
const callBackSignal = unix.Signal(40)

// The states of a receiver, as far as calling it back is concerned.
const (
	receiverWaits  int32 = iota // in, or on its way into, the receive call
	receiverWorks               // with a notification
	receiverCalled              // a signal is on its way to it
)

// receiver is one thread that receives and answers.
type receiver struct {
	s      *Supervisor
	index  int
	rights rights
	parked bool // guarded by s.mu
	wake   chan struct{}

	tid       atomic.Int32
	state     atomic.Int32
	signalled atomic.Bool
	pinned    bool
	mayWait   bool // for a disk or a server: nobody depends on this one but one caller

	notification kernel.Notification
	request      request
	path         resolve.Path
}

func newReceiver(s *Supervisor, index int) *receiver {
	return &receiver{s: s, index: index, wake: make(chan struct{}, 1)}
}

func (r *receiver) run(wait func() *kernel.Listener) {
	defer r.s.running.Done()
	// Never unlocked: the thread's signal mask, rights and namespace are its own,
	// and the runtime ends the thread with the goroutine.
	runtime.LockOSThread()
	if err := r.prepare(); err != nil {
		r.refuseToServe(wait, err)
		return
	}
	if wait == nil {
		<-r.wake
	} else if !r.s.adopt(wait()) {
		return
	}
	for r.receive() {
		injected := r.handle(&r.notification)
		goOn, pinned := r.s.rebalance(r.index, r.notification.PID, injected)
		r.pin(pinned)
		if !goOn {
			<-r.wake
		}
	}
}

// refuseToServe: a thread that could not be prepared answers nothing. If it was to be the
// first, no other will, so the listener is closed: calls inside fail at once instead of
// waiting for ever.
func (r *receiver) refuseToServe(wait func() *kernel.Listener, err error) {
	if wait == nil {
		return
	}
	r.s.served(fmt.Errorf("preparing the supervisor's thread: %w", err))
	if l := wait(); l != nil {
		l.Close()
	}
}

func (r *receiver) prepare() error {
	r.tid.Store(int32(unix.Gettid()))
	kernel.BlockSignals(kernel.AllSignals &^ (1 << (callBackSignal - 1)))
	if ns := r.s.options.MountNamespace; ns != nil {
		if err := kernel.JoinMountNamespace(int(ns.Fd())); err != nil {
			return err
		}
	}
	raisePriority()
	r.rights = r.s.base
	return r.rights.reduce()
}

// raisePriority has the calling thread run before others that are ready, where this
// process may do that (CAP_SYS_NICE). Until a call has been received a signal can still
// interrupt it, which programs whose handlers were installed without SA_RESTART see as
// EINTR: half as often with this, and a fifth as often on a busy machine.
func raisePriority() {
	const steps, highest = 10, -20
	// The bare system call returns 20 minus the nice value.
	if value, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err == nil {
		unix.Setpriority(unix.PRIO_PROCESS, 0, max(20-value-steps, highest))
	}
}

// maxFailures is how often in a row receiving may fail before supervision ends.
const maxFailures = 100

// receive waits for the next notification; false: there will be none.
func (r *receiver) receive() bool {
	for failures := 0; ; {
		r.state.Store(receiverWaits)
		err := r.s.listener.Receive(int(r.s.receiveFD.Load()), &r.notification)
		if !r.state.CompareAndSwap(receiverWaits, receiverWorks) {
			r.takeSignal()
		}
		switch {
		case err == nil:
			return true
		case err == unix.ENOENT && !r.s.listener.Gone():
			// Only this one request died.
		case err == unix.ENOENT:
			r.s.ended()
			return false
		case r.s.isRetiring(): // called back
			return false
		default: // EINTR, or something that should not be
			if failures++; failures == maxFailures {
				r.s.fail(fmt.Errorf("receiving a system call: %w", err))
				return false
			}
			if failures > maxFailures/2 {
				time.Sleep(time.Millisecond)
			}
		}
	}
}

// callBack makes a receiver leave the receive call, which has been given another
// file to wait on.
func (r *receiver) callBack() {
	if r.state.CompareAndSwap(receiverWaits, receiverCalled) {
		if tid := r.tid.Load(); tid != 0 {
			kernel.SignalThread(int(tid), callBackSignal)
		}
		r.signalled.Store(true)
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// takeSignal waits until the signal of callBack has reached this thread, so that
// it cannot interrupt what comes next.
func (r *receiver) takeSignal() {
	for !r.signalled.Load() {
		time.Sleep(50 * time.Microsecond)
	}
	unix.Getppid() // a signal that is pending is taken when a call returns
	r.state.Store(receiverWorks)
}

// pin keeps the thread on its own CPU while several receivers share the work, and lets it
// follow its callers again afterwards.
func (r *receiver) pin(pinned bool) {
	if pinned == r.pinned {
		return
	}
	r.pinned = pinned
	set := r.rights.cpus
	if pinned {
		set = nthCPU(set, r.index)
	}
	unix.SchedSetaffinity(0, &set) // a hint: without it the work is only slower
}

func nthCPU(all unix.CPUSet, index int) unix.CPUSet {
	var one unix.CPUSet
	seen, count := 0, max(all.Count(), 1)
	for cpu := 0; seen < count && cpu < 1024; cpu++ {
		if !all.IsSet(cpu) {
			continue
		}
		if seen == index%count {
			one.Set(cpu)
			return one
		}
		seen++
	}
	return all
}
