package limits

import (
	"errors"
	"testing"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

// best is an effort that goes on, and keeps what it was told.
type best struct{ dropped, warned []string }

func (b *best) Warn(text string) { b.warned = append(b.warned, text) }

func (b *best) DropOrFail(what string, _ error) error {
	b.dropped = append(b.dropped, what)
	return nil
}

// strict fails.
type strict struct{ best }

func (*strict) DropOrFail(_ string, err error) error { return err }

func TestNamed(t *testing.T) {
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &now); err != nil {
		t.Fatal(err)
	}
	half := policy.Limit{Name: "nproc", Soft: now.Max / 4, Hard: now.Max / 2}
	got, err := Named([]policy.Limit{half}, &strict{})
	if err != nil || len(got) != 1 || got[0].Name != "RLIMIT_NPROC" || got[0].Resource != unix.RLIMIT_NPROC ||
		got[0].Value != (unix.Rlimit{Cur: half.Soft, Max: half.Hard}) {
		t.Errorf("%+v gives %+v, %v", half, got, err)
	}
	if got, err := Named(nil, &strict{}); got != nil || err != nil {
		t.Errorf("no limits give %+v, %v", got, err)
	}
	if got, err := Named([]policy.Limit{{Name: "no-such"}}, &best{}); got != nil || !errors.Is(err, unix.EINVAL) {
		t.Errorf("an unknown limit gives %+v, %v", got, err)
	}
}

// TestNoCoreDumps: where no memory can be kept out of a dump, either an effort says so or
// this process is changed, which its children inherit.
func TestNoCoreDumps(t *testing.T) {
	none, err := NoCoreDumps(&strict{})
	if err != nil || none.Resource != unix.RLIMIT_CORE || none.Value.Cur > 1 || none.Value.Max > 1 {
		t.Errorf("%+v, %v", none, err)
	}
}
