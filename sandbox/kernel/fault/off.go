//go:build !memjailbreak

package fault

// Injected reports whether a fault is to be brought about: never, in this build.
func Injected(Fault) bool { return false }
