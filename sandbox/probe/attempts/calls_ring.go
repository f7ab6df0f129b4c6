package attempts

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

// io_uring, linux/io_uring.h. The numbers are the same in all interfaces.
var (
	ringSetup    = number{425, 425}
	ringEnter    = number{426, 426}
	ringRegister = number{427, 427}
)

const (
	opReadFixed  = 4
	opWriteFixed = 5
	opOpenat     = 18
	opRead       = 22
	opWrite      = 23
	opOpenat2    = 28

	ringAsync      = 1 << 4 // IOSQE_ASYNC
	ringGetEvents  = 1
	ringEntries    = 4
	ringParamsSize = 120
	ringEntrySize  = 64
	ringQueueSize  = 4096
	ringEntriesAt  = 0x10000000 // IORING_OFF_SQES
	ringManual     = "io_uring(7)"
)

// ringAttempts have an io_uring do what seccomp filters cannot see.
func ringAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, open := range []struct {
		spelling, explain string
		op, flags         uint8
		abis              []probe.ABI
		targets           []probe.Target
	}{
		{"openat", "IORING_OP_OPENAT opens /proc/PID/mem, past system call filters", opOpenat, 0, both,
			[]probe.Target{probe.Self, probe.Child, probe.Sibling, probe.Parent, probe.Outside}},
		{"openat2", "IORING_OP_OPENAT2 opens /proc/PID/mem, past system call filters", opOpenat2, 0, both,
			[]probe.Target{probe.Self, probe.Child, probe.Sibling, probe.Parent, probe.Outside}},
		{"async", "IORING_OP_OPENAT2 by a worker thread of the kernel", opOpenat2, ringAsync,
			[]probe.ABI{probe.Native}, []probe.Target{probe.Self, probe.Sibling, probe.Outside}},
	} {
		for _, abi := range open.abis {
			for _, target := range open.targets {
				for _, effect := range []probe.Effect{probe.Read, probe.Write, probe.WriteRO} {
					if effect != probe.Write && (abi == probe.I386 || target != probe.Self && target != probe.Outside) {
						continue
					}
					all = append(all, probe.Attempt{Route: "io-uring", Spelling: open.spelling, Target: target,
						Effect: effect, ABI: abi,
						Explain: open.explain, Reference: ringManual,
						Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome {
							return openByRing(abi, open.op, open.flags, v, effect)
						}})
				}
			}
		}
	}
	for _, effect := range []probe.Effect{probe.Read, probe.Write} {
		all = append(all, probe.Attempt{Route: "io-uring", Spelling: "registered-buffer", Target: probe.Child,
			Effect: effect, Check: believed,
			Explain: "a ring reads or writes the memory that its maker registered, for whoever holds " +
				"the ring's descriptor", Reference: ringManual + ", io_uring_register(2)",
			Attack: func(s *probe.Env, _ probe.Victim) probe.Outcome { return useForeignRing(s.Own(), effect) }})
	}
	return all
}

// ring is an io_uring with its queues mapped.
type ring struct {
	abi           probe.ABI
	fd            uintptr
	queue, places []byte
	params        []byte // struct io_uring_params, as the kernel filled it in
}

func newRing(abi probe.ABI) (*ring, error) {
	params := low(make([]byte, ringParamsSize))
	fd, err := call(abi, ringSetup, ringEntries, attack.Address(params))
	if err != nil {
		return nil, err
	}
	return mapRing(abi, fd, params)
}

func mapRing(abi probe.ABI, fd uintptr, params []byte) (*ring, error) {
	r := &ring{abi: abi, fd: fd, params: params}
	var err error
	if r.queue, err = unix.Mmap(int(fd), 0, ringQueueSize, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("mapping the ring: %w", err)
	}
	if r.places, err = unix.Mmap(int(fd), ringEntriesAt, ringEntries*ringEntrySize, unix.PROT_READ|
		unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("mapping the ring's entries: %w", err)
	}
	return r, nil
}

// request is a struct io_uring_sqe.
type request struct {
	op, flags uint8
	fd        int32
	offset    uint64
	address   uintptr
	size      uint32
	opFlags   uint32
}

// Where the offsets of the queues' fields are in struct io_uring_params.
const (
	submitTail, submitMask, submitArray                 = 40 + 4, 40 + 8, 40 + 24
	completeHead, completeTail, completeMask, completed = 80, 80 + 4, 80 + 8, 80 + 20
)

// do has one request done and returns its result.
func (r *ring) do(q request) (int, error) {
	at := func(field int) int { return int(word32(r.params, field)) }
	put := func(where int, value uint32) { copy(r.queue[where:], pack(value)) }
	tail := word32(r.queue, at(submitTail))
	place := tail & word32(r.queue, at(submitMask))
	entry := r.places[place*ringEntrySize:][:ringEntrySize]
	clear(entry)
	copy(entry, pack(q.op, q.flags, uint16(0), q.fd, q.offset, q.address, q.size, q.opFlags))
	put(at(submitArray)+4*int(place), place)
	put(at(submitTail), tail+1)
	if _, err := call(r.abi, ringEnter, r.fd, 1, 1, ringGetEvents, 0, 0); err != nil {
		return 0, fmt.Errorf("io_uring_enter: %w", err)
	}
	head := word32(r.queue, at(completeHead))
	// A signal ends the call's wait, but not the request.
	for word32(r.queue, at(completeTail)) == head {
		if _, err := call(r.abi, ringEnter, r.fd, 0, 1, ringGetEvents, 0, 0); err != nil &&
			!errors.Is(err, unix.EINTR) {
			return 0, fmt.Errorf("io_uring_enter: %w", err)
		}
	}
	result := int32(word32(r.queue, at(completed)+16*int(head&word32(r.queue, at(completeMask)))+8))
	put(at(completeHead), head+1)
	if result < 0 {
		return 0, unix.Errno(-result)
	}
	return int(result), nil
}

func openByRing(abi probe.ABI, op, flags uint8, v probe.Victim, e probe.Effect) probe.Outcome {
	r, err := newRing(abi)
	if err != nil {
		return probe.Refused("io_uring_setup", err)
	}
	defer unix.Close(int(r.fd))
	access := uint64(unix.O_RDWR | unix.O_CLOEXEC)
	if e == probe.Read {
		access = unix.O_RDONLY | unix.O_CLOEXEC
	}
	q := request{op: op, flags: flags, fd: unix.AT_FDCWD, address: lowString(v.Mem()), opFlags: uint32(access)}
	if op == opOpenat2 {
		how := low(pack(access, uint64(0), uint64(0)))
		q.opFlags, q.offset, q.size = 0, addressOf(how), uint32(len(how))
	}
	fd, err := r.do(q)
	if err != nil {
		return probe.Refused("open by io_uring", err)
	}
	defer unix.Close(fd)
	buf := low(probe.Marker)
	use := request{op: opWrite, flags: flags, fd: int32(fd), offset: v.Address(e), address: attack.Address(buf),
		size: probe.CanarySize}
	if e == probe.Read {
		use.op = opRead
	}
	if _, err := r.do(use); err != nil {
		return probe.Refused("I/O by io_uring", err)
	}
	if e == probe.Read {
		return probe.Got(buf)
	}
	return probe.Did("written by io_uring")
}

// useForeignRing reads or writes the memory of a child by the child's ring, whose
// descriptor this process shares. The child says by a pipe what its memory holds.
func useForeignRing(v probe.Victim, e probe.Effect) probe.Outcome {
	pipes, done, err := newPipes(2)
	if err != nil {
		return probe.Refused("pipe2", err)
	}
	defer done()
	word, wait := pipes[0], pipes[1]
	params, err := sharedPageOfCalls()
	if err != nil {
		return probe.Refused("mmap", err)
	}
	child, err := attack.Spawn(unix.CLONE_FILES, 0,
		orEnd(ringSetup.step(probe.Native, ringEntries, attack.Address(params))),
		orEnd(after(1, ringRegister.step(probe.Native, 0, 0, iovec(probe.Native, v.RW, probe.CanarySize), 1))),
		attack.Step{Number: unix.SYS_GETRANDOM, Args: [6]uintptr{uintptr(v.RW), probe.CanarySize}},
		word.tell(v.RW), wait.await(), word.tell(v.RW))
	if err != nil {
		return probe.Refused("clone", err)
	}
	defer child.End()
	for i, step := range []string{"io_uring_setup", "io_uring_register"} {
		if err := child.Until(i); err != nil {
			return probe.Refused(step, err)
		}
	}
	secret, err := word.take()
	if err != nil {
		return probe.Refused("read", fmt.Errorf("asking the child: %w", err))
	}
	fd := uintptr(child.Steps[0].Result)
	defer unix.Close(int(fd))
	r, err := mapRing(probe.Native, fd, params)
	if err != nil {
		return probe.Refused("mmap", err)
	}
	return r.reach(v, e, secret, func() ([]byte, error) { wait.give(); return word.take() })
}

// reach moves the registered buffer to or from a file of this process.
func (r *ring) reach(v probe.Victim, e probe.Effect, secret []byte, now func() ([]byte, error)) probe.Outcome {
	file, err := unix.MemfdCreate("buffer", unix.MFD_CLOEXEC)
	if err != nil {
		return probe.Refused("memfd_create", err)
	}
	defer unix.Close(file)
	if _, err := unix.Pwrite(file, probe.Marker, 0); err != nil {
		return probe.Refused("pwrite", err)
	}
	q := request{op: opReadFixed, fd: int32(file), address: uintptr(v.RW), size: probe.CanarySize}
	if e == probe.Read {
		q.op = opWriteFixed
	}
	if _, err := r.do(q); err != nil {
		return probe.Refused("I/O by io_uring", err)
	}
	want, got := probe.Marker, make([]byte, probe.CanarySize)
	if e == probe.Read {
		want = secret
		_, err = unix.Pread(file, got, 0)
	} else {
		got, err = now()
	}
	if err != nil {
		return probe.Refused("read", err)
	}
	return probe.Outcome{Done: bytes.Equal(got, want), Data: got, Detail: "through the child's ring"}
}
