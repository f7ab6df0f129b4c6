package attempts

import (
	"errors"
	"fmt"
	"slices"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

var ptraceCall = number{unix.SYS_PTRACE, 26}

const ptraceManual = "ptrace(2)"

// permitsTracedChildren is for what begins with PTRACE_TRACEME.
var permitsTracedChildren = permits("memory.ptrace, which lets a process be traced that asks for it",
	func(p policy.Policy) bool { return p.Memory.Ptrace != policy.PtraceDeny })

// ptraceAttempts are those of ptrace(2).
func ptraceAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, request := range []struct {
		spelling, explain string
		attach            func(t tracer) (string, error)
	}{
		{"attach", "PTRACE_ATTACH, then PEEKDATA, POKEDATA or POKETEXT", tracer.attach},
		{"seize", "PTRACE_SEIZE and INTERRUPT, then PEEKDATA, POKEDATA or POKETEXT", tracer.seize},
	} {
		for _, abi := range both {
			if abi == probe.I386 && request.spelling == "seize" {
				continue
			}
			for _, target := range others {
				for _, effect := range []probe.Effect{probe.Read, probe.Write, probe.WriteRO, probe.WriteCode} {
					if abi == probe.I386 && (effect == probe.WriteRO || effect == probe.WriteCode) {
						continue
					}
					all = append(all, probe.Attempt{Route: "ptrace", Spelling: request.spelling, Target: target,
						Effect: effect, ABI: abi,
						Explain: request.explain, Reference: ptraceManual, Permits: only(permitsPtrace, target),
						Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome {
							return tracer{abi, uintptr(v.PID)}.during(request.attach,
								func(t tracer) probe.Outcome { return t.use(v, effect) })
						}})
				}
			}
		}
	}
	return slices.Concat(all, registerAttempts(), tracemeAttempts(), suspendAttempts())
}

// registerAttempts change the victim's registers, so that its own instructions
// write what the attacker wants.
func registerAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, set := range []struct{ spelling, explain string }{
		{"setregs", "PTRACE_SETREGS sends a thread to instructions that write its memory"},
		{"setregset", "PTRACE_SETREGSET sends a thread to instructions that write its memory"},
	} {
		for _, target := range others {
			all = append(all, probe.Attempt{Route: "ptrace", Spelling: set.spelling, Target: target,
				Effect:  probe.Write,
				Explain: set.explain, Reference: ptraceManual, Permits: only(permitsPtrace, target),
				Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome {
					return tracer{probe.Native, uintptr(v.PID)}.during(tracer.attach,
						func(t tracer) probe.Outcome { return t.divert(v, set.spelling == "setregs") })
				}})
		}
	}
	return all
}

// tracemeAttempts let a child ask for being traced.
func tracemeAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, abi := range both {
		for _, effect := range []probe.Effect{probe.Read, probe.Write, probe.WriteRO, probe.WriteCode} {
			if abi == probe.I386 && effect != probe.Write {
				continue
			}
			check := forged
			if effect == probe.Read {
				check = ownCanary
			}
			all = append(all, probe.Attempt{Route: "ptrace", Spelling: "traceme", Target: probe.Child,
				Effect: effect, ABI: abi,
				Explain:   "a child asks for it by PTRACE_TRACEME and is read or written by its parent",
				Reference: ptraceManual,
				Permits:   permitsTracedChildren, Check: check,
				Attack: func(s *probe.Env, _ probe.Victim) probe.Outcome { return traceme(s.Own(), effect, abi) }})
		}
	}
	return all
}

func suspendAttempts() []probe.Attempt {
	return []probe.Attempt{{Route: "ptrace", Spelling: "suspend-seccomp", Target: probe.Child, Effect: probe.Obtain,
		Explain:   "PTRACE_O_SUSPEND_SECCOMP switches a process's system call filter off",
		Reference: "ptrace(2), CVE-2022-30594",
		Permits:   permitsPtrace,
		Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome {
			return tracer{probe.Native, uintptr(v.PID)}.during(tracer.seize, func(t tracer) probe.Outcome {
				if err := t.do(unix.PTRACE_SETOPTIONS, 0, unix.PTRACE_O_SUSPEND_SECCOMP); err != nil {
					return probe.Refused("ptrace SETOPTIONS", err)
				}
				return probe.Did("the filter is suspended")
			})
		}}}
}

// tracer traces one thread by one of the interfaces.
type tracer struct {
	abi probe.ABI
	tid uintptr
}

func (t tracer) do(request int, address, data uintptr) error {
	_, err := call(t.abi, ptraceCall, uintptr(request), t.tid, address, data)
	return err
}

// wait waits until the thread has stopped.
func (t tracer) wait() error {
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(int(t.tid), &status, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case !status.Stopped():
			return unix.ESRCH
		default:
			return nil
		}
	}
}

func (t tracer) attach() (string, error) {
	if err := t.do(unix.PTRACE_ATTACH, 0, 0); err != nil {
		return "ptrace ATTACH", err
	}
	return "wait4", t.wait()
}

func (t tracer) seize() (string, error) {
	if err := t.do(unix.PTRACE_SEIZE, 0, 0); err != nil {
		return "ptrace SEIZE", err
	}
	if err := t.do(unix.PTRACE_INTERRUPT, 0, 0); err != nil {
		return "ptrace INTERRUPT", err
	}
	return "wait4", t.wait()
}

// during does something while the thread is stopped, and lets it go again.
func (t tracer) during(attach func(tracer) (string, error), do func(tracer) probe.Outcome) probe.Outcome {
	if step, err := attach(t); err != nil {
		return probe.Refused(step, err)
	}
	defer t.do(unix.PTRACE_DETACH, 0, 0)
	return do(t)
}

// use reads or writes the canary.
func (t tracer) use(v probe.Victim, e probe.Effect) probe.Outcome {
	size := 8
	if t.abi == probe.I386 {
		size = 4
	}
	at, data := uintptr(v.Address(e)), low(make([]byte, probe.CanarySize))
	for i := 0; i < probe.CanarySize; i += size {
		if e == probe.Read {
			if err := t.do(unix.PTRACE_PEEKDATA, at+uintptr(i), attack.Address(data[i:])); err != nil {
				return probe.Refused("ptrace PEEKDATA", err)
			}
			continue
		}
		request, word := unix.PTRACE_POKEDATA, uintptr(word32(probe.Marker, i))
		if e == probe.WriteCode {
			request = unix.PTRACE_POKETEXT
		}
		if size == 8 {
			word = uintptr(word64(probe.Marker, i))
		}
		if err := t.do(request, at+uintptr(i), word); err != nil {
			return probe.Refused("ptrace POKE", err)
		}
	}
	if e == probe.Read {
		return probe.Got(data)
	}
	return probe.Did("written by a tracer")
}

// divert has the thread write its canary itself, and go on where it was.
func (t tracer) divert(v probe.Victim, plain bool) probe.Outcome {
	var before unix.PtraceRegs
	if err := t.registers(&before, plain, false); err != nil {
		return probe.Refused("ptrace GETREGS", err)
	}
	regs := before
	attack.GadgetRegisters(&regs, v.Gadget, v.RW, probe.Marker)
	if err := t.registers(&regs, plain, true); err != nil {
		return probe.Refused("ptrace SETREGS", err)
	}
	defer t.registers(&before, plain, true)
	if err := t.do(unix.PTRACE_CONT, 0, 0); err != nil {
		return probe.Refused("ptrace CONT", err)
	}
	if err := t.wait(); err != nil {
		return probe.Refused("wait4", err)
	}
	return probe.Did("the thread wrote its memory itself")
}

// Requests and a set of registers that not every architecture's package has.
const (
	ptraceGetRegs = 12
	ptraceSetRegs = 13
	prStatus      = 1 // NT_PRSTATUS, linux/elf.h
)

func (t tracer) registers(regs *unix.PtraceRegs, plain, set bool) error {
	raw := attack.Bytes(regs)
	memory := low(raw)
	defer copy(raw, memory)
	request, address, data := unix.PTRACE_GETREGSET, uintptr(prStatus), iovec(t.abi, addressOf(memory), len(memory))
	if set {
		request = unix.PTRACE_SETREGSET
	}
	if plain {
		address, data = 0, attack.Address(memory)
		if request = ptraceGetRegs; set {
			request = ptraceSetRegs
		}
	}
	return t.do(request, address, data)
}

// traceme reads or writes the copy of this process's canaries in a child.
func traceme(v probe.Victim, e probe.Effect, abi probe.ABI) probe.Outcome {
	word, err := newPipe()
	if err != nil {
		return probe.Refused("pipe2", err)
	}
	defer word.close()
	child, err := attack.Spawn(0, 0,
		orEnd(ptraceCall.step(abi, uintptr(unix.PTRACE_TRACEME))),
		attack.Step{Number: unix.SYS_GETPID},
		after(2, attack.Step{Number: unix.SYS_KILL, Args: [6]uintptr{0, uintptr(unix.SIGSTOP)}}),
		word.tell(v.Address(e)))
	if err != nil {
		return probe.Refused("clone", err)
	}
	defer child.End()
	t := tracer{abi, uintptr(child.PID)}
	if err := t.wait(); err != nil {
		if child.Err(0) != nil {
			err = child.Err(0)
		}
		return probe.Refused("ptrace TRACEME", err)
	}
	o := t.use(v, e)
	if e == probe.Read || !o.Done {
		return o
	}
	if err := t.do(unix.PTRACE_CONT, 0, 0); err != nil {
		return probe.Refused("ptrace CONT", err)
	}
	if o.Data, err = word.take(); err != nil {
		return probe.Refused("read", fmt.Errorf("asking the child: %w", err))
	}
	return o
}
