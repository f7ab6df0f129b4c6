package sandbox

import (
	"errors"
	"fmt"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/filter"
	"golang.org/x/sys/unix"
)

// emulateMemfds has the supervisor make memfds, without the right to be executed. In a
// nested sandbox the outer supervisor does.
func (o *Options) emulateMemfds(f *filter.Options, e *effort) {
	if o.Policy.Memory.AnonymousExec == policy.AnonymousExecDeny {
		fd, err := unix.MemfdCreate("memjail", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
		if err != nil {
			e.Warn(fmt.Sprintf("a memfd can be executed (memory.anonymous-exec needs Linux 6.3): %v", err))
			return
		}
		unix.Close(fd)
		f.EmulateMemfds = true
	}
}

// unsupervisedMemfds handles memory.anonymous-exec without a supervisor: only a supervisor
// can refuse execution and still let memfds be made. That is an error only if the policy
// sets the key explicitly.
func (o *Options) unsupervisedMemfds(e *effort) error {
	pol := &o.Policy
	asked := pol.Origins.Of("memory.anonymous-exec", "").Kind
	if pol.Memory.AnonymousExec != policy.AnonymousExecDeny || asked != policy.OriginFile &&
		asked != policy.OriginFlag {
		return nil
	}
	return e.DropOrFail(`memory.anonymous-exec = "deny"`,
		errors.New("it needs a supervisor, and this sandbox has none"))
}
