package supervisor

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestHandOver hands a listener over again and again while eight threads open
// files: the successor begins before its predecessor ends, or only afterwards.
// No call fails, none hangs.
func TestHandOver(t *testing.T) {
	const rounds = 100
	g := startTarget(t, "hammer")
	keep := g.copyListener(t) // so that it never is nobody's
	defer keep.Close()
	now := newSupervisor(t, testOptions())
	now.Serve(g.listener)
	g.progress(t)
	before := openDescriptors(t)
	began := time.Now()
	for round := range rounds {
		next := newSupervisor(t, testOptions())
		successor := g.copyListener(t)
		if round%2 == 0 {
			next.Serve(successor)
		}
		if err := now.Retire(); err != nil {
			t.Fatal(err)
		}
		if round%2 == 1 {
			next.Serve(successor)
		}
		g.listener, now = successor, next
		g.progress(t)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("%d rounds took %v", rounds, took)
	}
	if after := openDescriptors(t); after > before+2 { // the runtime may have opened some
		t.Errorf("%d descriptors were left open", after-before)
	}
	g.shared.stop.Store(1)
	select {
	case <-now.Gone():
	case <-time.After(5 * time.Second):
		t.Error("nobody noticed that the last task is gone")
	}
	if err := now.Retire(); err != nil {
		t.Error(err)
	}
}

// TestHandOverBoth: two supervisors serve at the same time for a while.
func TestHandOverBoth(t *testing.T) {
	g := startTarget(t, "hammer")
	a, b := newSupervisor(t, testOptions()), newSupervisor(t, testOptions())
	second := g.copyListener(t)
	a.Serve(g.listener)
	b.Serve(second)
	for range 10 {
		g.progress(t)
	}
	if err := a.Retire(); err != nil {
		t.Fatal(err)
	}
	g.progress(t)
	g.shared.stop.Store(1)
	<-b.Gone()
	if err := b.Retire(); err != nil {
		t.Fatal(err)
	}
}

// TestRetireAlone: without a successor the calls inside fail, they do not hang.
func TestRetireAlone(t *testing.T) {
	g, s := served(t, testOptions())
	if got := g.do(t, "many 3 /etc/passwd"); got != "0 <nil>" {
		t.Fatalf("control: %s", got)
	}
	if err := s.Retire(); err != nil {
		t.Fatal(err)
	}
	if got := g.do(t, "many 3 /etc/passwd"); got != "3 function not implemented" {
		t.Errorf("without a supervisor: %s", got)
	}
}

// TestRetireUnserved: a listener that comes after the end is closed, so that
// nobody waits for an answer.
func TestRetireUnserved(t *testing.T) {
	s := newSupervisor(t, testOptions())
	if err := s.Retire(); err != nil {
		t.Error(err)
	}
	g := startTarget(t, "opener")
	s.Serve(g.listener)
	g.fails(t)
}

// TestUnableToServe: a supervisor that cannot make its thread what it should be
// leaves nobody waiting.
func TestUnableToServe(t *testing.T) {
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	g := startTarget(t, "opener")
	o := testOptions()
	o.MountNamespace = null // is none
	newSupervisor(t, o).Serve(g.listener)
	g.fails(t)
}

// fails: the opens of a target that nobody serves fail, and so may its start.
func (g *target) fails(t *testing.T) {
	t.Helper()
	if _, err := g.commands.WriteString("many 1 /etc/passwd\n"); err != nil && !errors.Is(err, unix.EPIPE) {
		t.Fatal(err)
	}
	answer := make(chan string, 1)
	go func() {
		line, _ := g.answers.ReadString('\n')
		answer <- line
	}()
	within(t, 5*time.Second, "the target ends or is answered", func() bool {
		select {
		case line := <-answer:
			if line != "1 function not implemented\n" {
				t.Errorf("the target said %q", line)
			}
			return true
		default:
			return g.ended()
		}
	})
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
