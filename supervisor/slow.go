package supervisor

import (
	"runtime"
	"sync"
	"time"

	"github.com/memjail/memjail/supervisor/decide"
	"github.com/memjail/memjail/supervisor/resolve"
)

// slowDeadline is how long resolving a path may take. Afterwards the kernel
// decides, and the worker that still waits is left alone.
const slowDeadline = 2 * time.Second

// slowLimit is how many paths may be waited for at once; further ones are left to
// the kernel at once.
const slowLimit = 64

// slowPool resolves paths whose resolution may wait for a server, away from the
// receivers, which everybody inside depends on.
type slowPool struct {
	mu      sync.Mutex
	waiting int
	workers sync.WaitGroup
}

// take answers the request later, on a thread of its own, by work. late is the answer
// where that is too slow, or cannot be done.
func (p *slowPool) take(from *receiver, q *request, work func(*receiver, *request), late decide.Verdict) {
	p.mu.Lock()
	full := p.waiting >= slowLimit
	if !full {
		p.waiting++
	}
	p.mu.Unlock()
	if full {
		from.answer(q, late, noFile)
		return
	}
	w := &receiver{s: from.s, path: from.path, notification: from.notification}
	w.request.set(&from.notification, q.kind)
	w.request.args, w.request.name = q.args, q.name
	q = &w.request
	deadline := time.AfterFunc(slowDeadline, func() { w.answer(q, late, noFile) })
	p.workers.Add(1)
	go func() {
		defer p.done(deadline)
		runtime.LockOSThread() // and never unlocked: see receiver.run
		if w.prepare() != nil {
			w.answer(q, late, noFile)
			return
		}
		work(w, q)
	}()
}

// openSlowly is what is done about an open on a thread that may wait.
func (r *receiver) openSlowly(q *request) {
	r.procfs(q, resolve.Caller{TID: q.tid, Dir: q.dir(), MayWait: true})
}

func (p *slowPool) done(deadline *time.Timer) {
	deadline.Stop()
	p.mu.Lock()
	p.waiting--
	p.mu.Unlock()
	p.workers.Done()
}

// wait returns when all have been answered, by a worker or by the clock.
func (p *slowPool) wait() {
	done := make(chan struct{})
	go func() { p.workers.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(slowDeadline + 100*time.Millisecond):
	}
}
