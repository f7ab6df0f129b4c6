package sandbox

import (
	"errors"
	"fmt"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/filter"
	"golang.org/x/sys/unix"
)

// code applies what a policy says about code in memory and memory in files.
func (p *Plan) code(o *filter.Options) error {
	m := p.options.Policy.Memory
	o.RefuseSharedFiles = m.SharedFiles == policy.SharedFilesDeny
	if m.WritableCode == policy.WritableCodeDeny {
		if _, err := unix.PrctlRetInt(unix.PR_GET_MDWE, 0, 0, 0, 0); err != nil {
			if err := p.cannot(`memory.writable-code = "deny" (it needs Linux 6.3)`, fmt.Errorf("asking for PR_SET_MDWE: %w", err)); err != nil {
				return err
			}
		} else {
			p.starter.NoWritableCode = true
		}
		o.RefuseWritableCode = true
	}
	return nil
}

// memfds has the supervisor make memfds. Inside another sandbox that one's does.
func (p *Plan) memfds(o *filter.Options) error {
	if p.options.Policy.Memory.AnonymousExec == policy.AnonymousExecDeny {
		fd, err := unix.MemfdCreate("memjail", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
		if err != nil {
			p.Warnings = append(p.Warnings, fmt.Sprintf("a memfd can be executed (memory.anonymous-exec needs Linux 6.3): %v", err))
			return nil
		}
		unix.Close(fd)
		o.GuardMemfds = true
	}
	return nil
}

// noMemfds is the same without a supervisor, who alone can keep memfds useful. Only a
// policy that asks for it in so many words cannot be applied then.
func (p *Plan) noMemfds() error {
	pol := &p.options.Policy
	asked := pol.Origins.Of("memory.anonymous-exec", "").Kind
	if pol.Memory.AnonymousExec != policy.AnonymousExecDeny || asked != policy.OriginFile && asked != policy.OriginFlag {
		return nil
	}
	return p.cannot(`memory.anonymous-exec = "deny"`, errors.New("it takes a supervisor, which there is none of"))
}
