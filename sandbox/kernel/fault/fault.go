// Package fault breaks memjail on purpose, in test builds only (tag memjailbreak):
// the tests prove with it that the probe suite finds what is broken. In every other
// build [Injected] is constantly false and what depends on it is not compiled in.
package fault

// Fault is one thing that can be broken.
type Fault string

const (
	// Carve grants procfs to the sandbox.
	Carve Fault = "carve"
	// Filter leaves the rule about ptrace out of the seccomp filter.
	Filter Fault = "filter"
	// SelfCheck starts the program without trying the attacks first.
	SelfCheck Fault = "selfcheck"
	// Supervisor lets the kernel go on with every call that is asked about.
	Supervisor Fault = "supervisor"
)
