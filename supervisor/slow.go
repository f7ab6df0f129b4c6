package supervisor

import (
	"runtime"
	"sync"
	"time"

	"github.com/memjail/memjail/supervisor/decide"
	"github.com/memjail/memjail/supervisor/resolve"
	"golang.org/x/sys/unix"
)

// slowDeadline is how long a call is waited for before it counts as one whose server
// does not answer. An open is left to the kernel then.
const slowDeadline = 2 * time.Second

// slowLimit is how many calls are waited for at once that may still be answered soon;
// further ones take their turn.
const slowLimit = 64

// slowThreads is how many calls are waited for at once, those included whose server does
// not answer. Opens, which the kernel can decide alone, do not use them all up.
const (
	slowThreads     = 256
	slowOpenThreads = slowThreads / 2
)

// slowTurn is how long a change waits for its turn, while slowThreads others wait for a
// server: it may be the one that the server makes itself, to be able to answer them.
const slowTurn = 30 * time.Second

// slowPool has calls that may wait for a server answered away from the receivers, which
// everybody inside depends on.
type slowPool struct {
	mu      sync.Mutex
	threads int                    // that wait
	overdue int                    // of these, those that have waited for slowDeadline
	queue   []*slowCall            // those that have no thread yet
	changes map[*slowCall]struct{} // without an answer
	calls   sync.WaitGroup
}

// slowCall is one call on its way to its answer.
type slowCall struct {
	receiver *receiver // for this call only
	work     func(*receiver, *request)
	// late answers an open that has taken too long, and what has no answer when
	// supervision ends. A change is made by nobody else, so it is waited for.
	late    decide.Verdict
	turn    *time.Timer // ends the waiting for a thread; nil: there was one
	overdue bool
	ended   bool
}

// open has an open, or another call that the kernel decides, answered later by work.
// The kernel decides alone where that takes too long, or too many servers do not answer.
func (p *slowPool) open(from *receiver, q *request, work func(*receiver, *request)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.threads >= slowOpenThreads {
		from.answer(q, leaveToKernel, noFile)
		return
	}
	p.begin(newSlowCall(from, q, work, leaveToKernel), slowDeadline)
}

// change has a change answered later by work, when it has its turn.
func (p *slowPool) change(from *receiver, q *request, work func(*receiver, *request)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := newSlowCall(from, q, work, decide.Refuse{Errno: unix.EIO})
	if p.changes == nil {
		p.changes = map[*slowCall]struct{}{}
	}
	p.changes[c] = struct{}{}
	p.begin(c, slowTurn)
}

// begin gives a call its thread, or has it wait for one; p.mu is held.
func (p *slowPool) begin(c *slowCall, turn time.Duration) {
	p.calls.Add(1)
	if p.mayStart() {
		p.start(c)
		return
	}
	c.turn = time.AfterFunc(turn, func() { p.giveUp(c) })
	p.queue = append(p.queue, c)
}

func newSlowCall(from *receiver, q *request, work func(*receiver, *request), late decide.Verdict) *slowCall {
	w := &receiver{s: from.s, path: from.path, notification: from.notification, mayWait: true}
	w.request.set(&from.notification, q.kind)
	w.request.args, w.request.name = q.args, q.name
	return &slowCall{receiver: w, work: work, late: late}
}

// mayStart reports whether a call may have a thread; p.mu is held.
func (p *slowPool) mayStart() bool {
	return p.threads-p.overdue < slowLimit && p.threads < slowThreads
}

// start gives a call its thread; p.mu is held.
func (p *slowPool) start(c *slowCall) {
	_, change := p.changes[c]
	p.threads++
	deadline := time.AfterFunc(slowDeadline, func() {
		if !change {
			c.receiver.answer(&c.receiver.request, c.late, noFile)
		}
		p.setOverdue(c)
	})
	go func() {
		defer p.done(c, deadline)
		runtime.LockOSThread() // and never unlocked: see receiver.run
		if c.receiver.prepare() != nil {
			c.receiver.answer(&c.receiver.request, c.late, noFile)
			return
		}
		c.work(c.receiver, &c.receiver.request)
	}()
}

// setOverdue no longer has others wait because of the call.
func (p *slowPool) setOverdue(c *slowCall) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.ended {
		return
	}
	c.overdue = true
	p.overdue++
	p.next()
}

func (p *slowPool) done(c *slowCall, deadline *time.Timer) {
	deadline.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	c.ended = true
	p.threads--
	if c.overdue {
		p.overdue--
	}
	p.forget(c)
	p.next()
}

// next starts those whose turn has come; p.mu is held.
func (p *slowPool) next() {
	for len(p.queue) > 0 && p.mayStart() {
		c := p.queue[0]
		p.queue = p.queue[1:]
		c.turn.Stop()
		p.start(c)
	}
}

// giveUp answers a call that has had no turn.
func (p *slowPool) giveUp(c *slowCall) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, waiting := range p.queue {
		if waiting == c {
			p.queue = append(p.queue[:i:i], p.queue[i+1:]...)
			c.ended = true
			c.receiver.answer(&c.receiver.request, c.late, noFile)
			p.forget(c)
			return
		}
	}
}

// forget counts a call as ended; p.mu is held.
func (p *slowPool) forget(c *slowCall) {
	delete(p.changes, c)
	p.calls.Done()
}

// wait returns when all have been answered, by a thread or because they take too long.
// Nobody could answer a change any more once supervision has ended.
func (p *slowPool) wait() {
	done := make(chan struct{})
	go func() { p.calls.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(slowDeadline + 100*time.Millisecond):
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.changes {
		c.receiver.answer(&c.receiver.request, c.late, noFile)
	}
}

// openSlowly is what is done about an open on a thread that may wait.
func (r *receiver) openSlowly(q *request) {
	r.procfs(q, resolve.Caller{TID: q.tid, Dir: q.dir(), MayWait: true})
}
