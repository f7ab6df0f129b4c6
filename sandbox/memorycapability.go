package sandbox

import (
	"encoding/binary"
	"fmt"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/capability"
	"golang.org/x/sys/unix"
)

// memoryCapability has the program drop the memory capability, where the kernel has it
// and the policy closes memory. It is the first of two walls then: the Landlock domain
// is the other, which refuses every open of procfs for writing, so that memory cannot be
// changed whatever becomes of the programs in the kernel. The self-check tries both.
func (p *Plan) memoryCapability() error {
	pol := &p.options.Policy
	if p.options.NoCapability || pol.Memory.Access != policy.AccessDeny || p.abi == 0 {
		return nil
	}
	if there, err := capability.Installed(); err != nil || !there {
		return nil // no errno says for certain that it is not there; without it all is asked about
	}
	var token [8]byte
	if _, err := unix.Getrandom(token[:], 0); err != nil {
		return fmt.Errorf("making a token for the supervisor: %w", err)
	}
	p.Capability = true
	if dropped, _ := capability.Dropped(); !dropped { // else the supervisor above stays the only one
		p.Token = binary.NativeEndian.Uint64(token[:]) | 1
	}
	step := capability.Step(p.rights(), p.Token)
	p.starter.Capability = &step
	return nil
}

// rights are what the policy leaves to the program.
func (p *Plan) rights() capability.Rights {
	pol := &p.options.Policy
	rights := capability.ReadProcess
	for _, w := range pol.Procfs.Write {
		switch w {
		case policy.WriteComm:
			rights |= capability.WriteComm
		case policy.WriteOOMScoreAdj:
			rights |= capability.WriteOOMScoreAdj
		}
	}
	if pol.Procfs.System != policy.SystemNone {
		rights |= capability.ReadSystem
	}
	if pol.Procfs.Processes == policy.ProcessesSandbox {
		rights |= capability.ReadSandbox
	}
	if pol.Memory.CoreDumps == policy.CoreDumpsAllow {
		rights |= capability.CoreDumps
	}
	if pol.Memory.AnonymousExec != policy.AnonymousExecDeny {
		rights |= capability.ExecMemfd
	}
	return rights
}

// needsSupervisor reports whether anything is left to ask a supervisor about. With the
// capability reading is not: only the few files that may be written.
func (p *Plan) needsSupervisor() bool {
	pol := p.options.Policy
	if p.Capability {
		pol.Memory.Access = policy.AccessNoWrite
	}
	return pol.NeedsSupervisor()
}
