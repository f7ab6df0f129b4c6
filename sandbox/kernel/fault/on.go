//go:build memjailbreak

package fault

import (
	"os"
	"slices"
	"strings"
)

// Injected reports whether a fault is to be brought about: those that the environment
// variable MEMJAIL_BREAK lists, separated by commas.
func Injected(f Fault) bool {
	return slices.Contains(strings.Split(os.Getenv("MEMJAIL_BREAK"), ","), string(f))
}
