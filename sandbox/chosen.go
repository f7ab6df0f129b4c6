package sandbox

import (
	"fmt"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/filter"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/landlock"
	"github.com/memjail/memjail/sandbox/starter"
	"golang.org/x/sys/unix"
)

// This file applies what a policy restricts beside memory: network, limits and
// system calls.

// network finds out whether the kernel can hold the rules of [network].
func (p *Plan) network(abi int) error {
	needs := landlock.NetworkABI(p.options.Policy.Network)
	for _, part := range []struct {
		need int
		what string
	}{
		{needs.TCP, "the rules about TCP ports (network.connect-tcp, network.bind-tcp)"},
		{needs.UDP, "the rules about UDP ports (network.connect-udp, network.bind-udp; " +
			"network.families without inet and inet6, which refuses UDP and TCP, can be enforced)"},
		{needs.Unix, "the list of UNIX sockets (network.unix; an empty list, which refuses all, can be enforced)"},
	} {
		if abi >= part.need {
			continue
		}
		if err := p.cannot(part.what, &landlock.ABIError{Need: part.need, Have: abi}); err != nil {
			return err
		}
	}
	return p.warnRawSockets()
}

// warnRawSockets says when a program could speak TCP or UDP by itself.
func (p *Plan) warnRawSockets() error {
	n := p.options.Policy.Network
	if !n.RestrictsTCP() && !n.RestrictsUDP() || !n.MakesFamily("inet", "inet6", "packet") {
		return nil
	}
	caps, err := kernel.ThreadCapabilities()
	if err != nil {
		return err
	}
	for _, c := range []struct {
		bit  int
		name string
	}{{unix.CAP_NET_RAW, "CAP_NET_RAW"}, {unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}} {
		if caps.Permitted.Has(c.bit) {
			p.Warnings = append(p.Warnings, "the rules about ports do not hold a program with "+c.name+", which this one has")
			return nil
		}
	}
	return nil
}

// members prepares the helper that says who is in the sandbox. The kernel's answer
// hangs on the signal scope; without that less is granted.
func (p *Plan) members() error {
	pol := &p.options.Policy
	if p.Capability || pol.Procfs.Processes != policy.ProcessesSandbox || pol.Memory.Access != policy.AccessDeny {
		return nil
	}
	if !p.SignalsStayInside() {
		p.Warnings = append(p.Warnings, `procfs.processes = "sandbox" grants nothing here: who is in the sandbox can only be told by `+
			`Landlock's border for signals (ABI 6, ipc.signals = "sandbox")`)
		return nil
	}
	if p.options.Detached {
		p.Warnings = append(p.Warnings, `procfs.processes = "sandbox" grants nothing here: a program that takes memjail's place has nobody who tells who is in the sandbox`)
		return nil
	}
	members, err := kernel.NewMembers()
	if err != nil {
		return err
	}
	p.Members, p.starter.Members = members, members
	return nil
}

// writable lists the places where metadata may be changed.
func (p *Plan) writable() (err error) {
	if p.Rules != nil && p.options.Policy.Paths.Metadata == policy.MetadataGranted {
		p.Writable, err = p.Rules.Writable()
	}
	return err
}

// warnMetadata: where no supervisor can tell one file from another, none of them is
// changed.
func (p *Plan) warnMetadata() {
	if p.options.Policy.Paths.Metadata == policy.MetadataGranted {
		p.Warnings = append(p.Warnings, `owner, mode, times and attributes of files cannot be changed at all: paths.metadata = "granted" `+
			`takes a supervisor, which there is none of; --allow metadata=allow lets them be changed wherever file permissions do`)
	}
}

// denies builds the program of the policy's own refusals.
func (p *Plan) denies() error {
	s := p.options.Policy.Syscalls
	program, err := filter.Denies("", s.Deny, s.ABI == policy.SyscallABINative)
	if err != nil {
		return p.cannot("the policy's refusals of system calls", err)
	}
	p.Denies, p.starter.Denies = program, program.SockFilters()
	return nil
}

// resources are the limits that a policy can name.
var resources = map[string]int{
	"as": unix.RLIMIT_AS, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA, "fsize": unix.RLIMIT_FSIZE,
	"memlock": unix.RLIMIT_MEMLOCK, "msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE,
	"nproc": unix.RLIMIT_NPROC, "rtprio": unix.RLIMIT_RTPRIO, "rttime": unix.RLIMIT_RTTIME,
	"sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
}

// namedLimits are those of the policy. Only a process with CAP_SYS_RESOURCE can
// raise a hard limit, setrlimit(2).
func (p *Plan) namedLimits() error {
	if len(p.options.Policy.Limits) == 0 {
		return nil
	}
	caps, err := kernel.ThreadCapabilities()
	if err != nil {
		return err
	}
	for _, l := range p.options.Policy.Limits {
		resource, known := resources[l.Name]
		if !known {
			return fmt.Errorf("applying the limit %q: %w", l.Name, unix.EINVAL)
		}
		var now unix.Rlimit
		if err := unix.Getrlimit(resource, &now); err != nil {
			return fmt.Errorf("reading the limit %q: %w", l.Name, err)
		}
		if l.Hard > now.Max && !caps.Effective.Has(unix.CAP_SYS_RESOURCE) {
			err := fmt.Errorf("the hard limit is %d and raising it needs CAP_SYS_RESOURCE: %w", now.Max, unix.EPERM)
			if err := p.cannot(fmt.Sprintf("the limit %q (limits.%s)", l.Name, l.Name), err); err != nil {
				return err
			}
			continue
		}
		p.starter.Limits = append(p.starter.Limits, starter.Limit{Name: "RLIMIT_" + strings.ToUpper(l.Name), Resource: resource,
			Value: unix.Rlimit{Cur: l.Soft, Max: l.Hard}})
	}
	return nil
}
