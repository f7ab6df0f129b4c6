package sandbox

import (
	"fmt"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/filter"
	"golang.org/x/sys/unix"
)

// refuseWritableCode has the kernel and the filter refuse memory that is written and then
// executed (memory.writable-code = "deny"). inKernel reports whether the
// kernel can.
func (o *Options) refuseWritableCode(f *filter.Options, e *effort) (inKernel bool, err error) {
	if o.Policy.Memory.WritableCode != policy.WritableCodeDeny {
		return false, nil
	}
	f.RefuseWritableCode = true
	if _, err := unix.PrctlRetInt(unix.PR_GET_MDWE, 0, 0, 0, 0); err != nil {
		return false, e.DropOrFail(`memory.writable-code = "deny" (it needs Linux 6.3)`,
			fmt.Errorf("asking for PR_SET_MDWE: %w", err))
	}
	return true, nil
}
