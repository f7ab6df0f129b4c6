package attack

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestSpawn(t *testing.T) {
	const getpid32 = 20
	p, err := Spawn(0, 0,
		Step{Number: unix.SYS_GETPID},
		Step{Number: getpid32, Mode: By32},
		Step{Number: unix.SYS_CLOSE, Args: [6]uintptr{^uintptr(0)}},
		Step{Args: [6]uintptr{1000}, Mode: Spin},
		Step{Number: unix.SYS_CLONE, Args: [6]uintptr{uintptr(unix.SIGCHLD)}, Mode: InChild},
		Step{Number: unix.SYS_GETPID},
		Step{Number: unix.SYS_KILL, Args: [6]uintptr{0, 0}, From: 1},
		Step{Number: unix.SYS_CLOSE, Args: [6]uintptr{^uintptr(0)}, Mode: OrEnd},
		Step{Number: unix.SYS_GETPID})
	if err != nil {
		t.Fatal(err)
	}
	if status, err := p.Wait(); err != nil || !status.Exited() || status.ExitStatus() != 0 {
		t.Errorf("wait: %v, %v", status, err)
	}
	if p.Steps[0].Result != int64(p.PID) {
		t.Errorf("getpid: %d, want %d", p.Steps[0].Result, p.PID)
	}
	if p.Err(1) != unix.ENOSYS && p.Steps[1].Result != int64(p.PID) {
		t.Errorf("getpid by the 32-bit interface: %d", p.Steps[1].Result)
	}
	if p.Err(2) != unix.EBADF || p.Err(3) != nil {
		t.Errorf("close(-1): %v; spinning: %v", p.Err(2), p.Err(3))
	}
	if p.Steps[5].Result == int64(p.PID) || p.Err(5) != nil || p.Err(6) != nil {
		t.Errorf("the child's child: %d, %v", p.Steps[5].Result, p.Err(6))
	}
	if p.Err(8) != unix.EINPROGRESS {
		t.Errorf("a step behind the end: %v", p.Err(8))
	}
}

// TestSpawnSharing starts a process on the memory and the stack of this one.
func TestSpawnSharing(t *testing.T) {
	buf := make([]byte, 16)
	p, err := Spawn(unix.CLONE_VM|unix.CLONE_VFORK, 0,
		Step{Number: unix.SYS_GETRANDOM, Args: [6]uintptr{Address(buf), uintptr(len(buf))}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err != nil || p.Steps[0].Result != 16 || string(buf) == string(make([]byte, 16)) {
		t.Errorf("%v, %d bytes: %x", err, p.Steps[0].Result, buf)
	}
}

func TestGadget(t *testing.T) {
	var regs unix.PtraceRegs
	GadgetRegisters(&regs, uint64(Gadget()), 0x1000, []byte("0123456789abcdef"))
	if Gadget() == 0 || len(Bytes(&regs)) < 100 {
		t.Errorf("gadget at %#x, %d bytes of registers", Gadget(), len(Bytes(&regs)))
	}
}
