package cli

import (
	"errors"
	"fmt"

	"github.com/memjail/memjail/sandbox/doctor"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/kernel/early"
)

// errDynamic is why a dynamically linked memjail starts nothing.
var errDynamic = errors.New(
	"this memjail is dynamically linked: whoever can write its libraries could change a running supervisor; " +
		"build it with " + doctor.BuildCommand)

// lacks describes what this build lacks, and how to build it; "" if nothing is missing.
func lacks() string {
	lacking := ""
	switch _, known := early.Ignored(); {
	case kernel.DynamicallyLinked():
		lacking = "dynamically linked, so it starts no program"
	case !known:
		lacking = "built without its entry point: " + doctor.WithoutEntry
	default:
		return ""
	}
	return fmt.Sprintf("  %s\n  build it with %s\n", lacking, doctor.BuildCommand)
}
