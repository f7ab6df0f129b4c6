package attempts

import (
	"testing"

	"github.com/memjail/memjail/sandbox/probe"
)

func TestNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range All() {
		if seen[a.Name()] {
			t.Errorf("%s is listed twice in the catalogue", a.Name())
		}
		seen[a.Name()] = true
		if a.Explain == "" || a.Reference == "" {
			t.Errorf("%s has no explanation or reference", a.Name())
		}
		if a.Promise == probe.PromiseOpen && a.Why == "" {
			t.Errorf("%s is open on purpose, but does not say why", a.Name())
		}
	}
}
