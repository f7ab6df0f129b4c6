package probe

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestWitness has a victim notice what is done to it.
func TestWitness(t *testing.T) {
	p, err := startVictim(1, VictimOptions{Dir: t.TempDir(), keepSignals: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.End()
	s, err := p.State()
	if err != nil {
		t.Fatal(err)
	}
	for what, happened := range s.Noticed {
		if happened {
			t.Errorf("%s was noticed before anything was done", what)
		}
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, p.PID, 19); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(p.PID, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: 64}, nil); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(-p.PID, unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if s, err = p.State(); err != nil || !s.Noticed[NoticedNice] || !s.Noticed[NoticedLimit] ||
		!s.Noticed[NoticedSignal] || s.Noticed[NoticedAffinity] {
		t.Errorf("noticed: %v, %v", s.Noticed, err)
	}
}
