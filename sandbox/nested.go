package sandbox

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// nested reports whether another supervisor serves this process, so that the sandbox can have
// none. What that one grants of procfs it grants to this sandbox, too: an injected descriptor
// is no open, so the domain of this sandbox is not asked. A policy that grants less is not
// enforced then: an error if it asks for that, otherwise a warning.
func (o *Options) nested(e *effort) (bool, error) {
	var granted procfsGrants
	above, err := kernel.UnderListener(func(child int) { granted = grantedHere(child) })
	if err != nil || !above {
		return false, err
	}
	if !granted.injects {
		e.Warn("no file of /proc can be granted: another program supervises the system calls of this process " +
			"(a seccomp listener), and the kernel allows only one such supervisor")
		return true, nil
	}
	const why = "the supervisor of another memjail around this one grants more"
	asked, excess := granted.exceeding(&o.Policy)
	if len(excess) > 0 {
		e.Warn(strings.Join(excess, ", ") + " cannot be enforced: " + why)
	}
	if len(asked) == 0 {
		return true, nil
	}
	return true, e.DropOrFail(strings.Join(asked, ", "), errors.New(why+" (give that one the same [procfs])"))
}

// procfsGrants are the files of procfs that the supervisor above grants, although the kernel
// refuses them.
type procfsGrants struct {
	injects           bool // it may grant some
	system, processes bool
	write             []policy.ProcfsWrite
}

// grantedHere tries what the supervisor above grants this process, also about a child. Where
// memory itself can be opened, the kernel opens other files by itself, too, and the domain of
// this sandbox is going to refuse them.
func grantedHere(child int) (g procfsGrants) {
	if !opens("self/mem", unix.O_RDONLY) {
		g.system = opens("version", unix.O_RDONLY)
		g.processes = opens(strconv.Itoa(child)+"/environ", unix.O_RDONLY)
		g.injects = opens("self/stat", unix.O_RDONLY)
	}
	if !opens("self/mem", unix.O_RDWR) {
		for _, file := range []policy.ProcfsWrite{policy.WriteComm, policy.WriteOOMScoreAdj} {
			if opens("self/"+file.String(), unix.O_WRONLY) {
				g.write, g.injects = append(g.write, file), true
			}
		}
	}
	return g
}

func opens(below string, flags int) bool {
	fd, err := unix.Open("/proc/"+below, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// exceeding lists the keys of the policy under which less is granted than these: those that
// the policy asks for, and those that have the value of a policy that does not mention them.
func (g procfsGrants) exceeding(p *policy.Policy) (asked, usual []string) {
	if p.Memory.Access != policy.AccessAllow {
		for _, file := range g.write {
			if !slices.Contains(p.Procfs.Write, file) {
				asked = append(asked, fmt.Sprintf("procfs.write without %q", file))
			}
		}
	}
	if p.Memory.Access != policy.AccessDeny {
		return asked, nil // everything can be read
	}
	if g.system && p.Procfs.System == policy.SystemNone {
		asked = append(asked, `procfs.system = "none"`)
	}
	if g.processes && p.Procfs.Processes == policy.ProcessesOwn {
		const key = `procfs.processes = "own"`
		if o := p.Origins.Of("procfs.processes", "").Kind; o == policy.OriginFile || o == policy.OriginFlag ||
			len(asked) > 0 {
			asked = append(asked, key)
		} else {
			usual = append(usual, key)
		}
	}
	return asked, usual
}
