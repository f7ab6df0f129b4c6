//go:build race

package kernel

import "testing"

// needsLaunch leaves out a test that launches a process, under the race detector: the child
// shares memory with the thread that launched it and must run nothing but its steps, but its
// atomic operations are calls into the detector there, which check the stack of that thread
// (the runtime stops with "stack split at bad time", or the child dies).
func needsLaunch(t *testing.T) {
	t.Helper()
	t.Skip("a child that shares memory does not bear the race detector")
}
