package attempts

import (
	"slices"

	"github.com/memjail/memjail/sandbox/probe"
)

// Catalogue returns all families of attempts: /proc/PID/mem under all its names, then
// the other system calls, then what goes through files, mounts and descriptors.
func Catalogue() probe.Catalogue {
	return slices.Concat(probe.Catalogue{procMemAttempts}, callFamilies, fileFamilies)
}

// All returns all attempts of the [Catalogue].
func All() []probe.Attempt { return Catalogue().All() }
