package sandbox

import (
	"encoding/binary"
	"fmt"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/capability"
	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// memoryCapability is the part of a plan that concerns the memory capability.
type memoryCapability struct {
	// step drops it; nil if it is not installed or not used. token is [Plan.Token].
	step  *kernel.Step
	token uint64
}

// dropped reports whether the program drops the memory capability.
func (m memoryCapability) dropped() bool { return m.step != nil }

// memoryCapability has the program drop the memory capability, where it is installed and
// the policy closes memory. It is the first of two barriers then. The second is the Landlock
// domain, which refuses every open of procfs for writing: memory cannot be changed even if
// the BPF programs are gone. The self-check tries both.
func (o *Options) memoryCapability(s system) (m memoryCapability, err error) {
	if o.NoCapability || o.Policy.Memory.Access != policy.AccessDeny || s.abi == 0 {
		return m, nil
	}
	if there, err := capability.Installed(); err != nil || !there {
		return m, nil // errnos do not distinguish missing from broken; without it the supervisor decides
	}
	var token [8]byte
	if _, err := unix.Getrandom(token[:], 0); err != nil {
		return m, fmt.Errorf("making a token for the supervisor: %w", err)
	}
	if dropped, _ := capability.Dropped(); !dropped { // otherwise the outer supervisor stays the only one
		m.token = binary.NativeEndian.Uint64(token[:]) | 1
	}
	step := capability.Step(o.rights(), m.token)
	m.step = &step
	return m, nil
}

// rights returns the rights that the policy leaves to the program.
func (o *Options) rights() capability.Rights {
	pol := &o.Policy
	rights := capability.ReadProcess | capability.WriteIDMaps
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

// needsSupervisor reports whether a supervisor has anything to decide. With the memory
// capability it does not decide about reads, only about the few files that may be written.
func (o *Options) needsSupervisor(m memoryCapability) bool {
	pol := o.Policy
	if m.dropped() {
		pol.Memory.Access = policy.AccessNoWrite
	}
	return pol.NeedsSupervisor()
}
