package cli

import (
	"errors"
	"fmt"

	"github.com/memjail/memjail/sandbox/doctor"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/kernel/early"
)

// errDynamic refuses to start anything from a program that maps libraries.
var errDynamic = errors.New("this memjail was linked with libraries, through whose files a running supervisor could be changed: " +
	"build it with " + doctor.BuildCommand)

// lacks describes what this build of the program lacks, and what would help; "" if it
// is as it should be.
func lacks() string {
	lacking := ""
	switch _, known := early.Ignored(); {
	case kernel.DynamicallyLinked():
		lacking = "linked with libraries, so it starts nothing"
	case !known:
		lacking = "built without its entry point: " + doctor.WithoutEntry
	default:
		return ""
	}
	return fmt.Sprintf("  %s\n  build it with %s\n", lacking, doctor.BuildCommand)
}
