package sandbox

import (
	"errors"
	"fmt"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/filter"
	"golang.org/x/sys/unix"
)

// guardMemfds has the supervisor make memfds. Inside another sandbox that one's does.
func (o *Options) guardMemfds(f *filter.Options, e *effort) {
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

// unguardedMemfds is the same without a supervisor, who alone can keep memfds useful. Only a
// policy that asks for it explicitly cannot be applied then.
func (o *Options) unguardedMemfds(e *effort) error {
	pol := &o.Policy
	asked := pol.Origins.Of("memory.anonymous-exec", "").Kind
	if pol.Memory.AnonymousExec != policy.AnonymousExecDeny || asked != policy.OriginFile && asked != policy.OriginFlag {
		return nil
	}
	return e.DropOrFail(`memory.anonymous-exec = "deny"`, errors.New("it needs a supervisor, and this sandbox has none"))
}
