package kernel

import "testing"

func TestRunning(t *testing.T) {
	for text, want := range map[string]bool{
		"12 (sleep) S 1 12":             true,
		"12 (sleep) R 1 12":             true,
		"12 (sleep) T 1 12":             false,
		"12 (sleep) t 1 12":             false,
		"12 (sleep) Z 1 12":             false,
		"4194304 (a) S b) S ) T 1 1 12": false,
		"4194304 (a) T 1) S 1 1 12":     true,
		"12 (a":                         false,
		"12 (a)":                        false,
		"":                              false,
	} {
		var head [statHead]byte
		if got := running(&head, uintptr(copy(head[:], text))); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
