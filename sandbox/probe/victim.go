package probe

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/memjail/memjail/sandbox/kernel/attack"
	"golang.org/x/sys/unix"
)

// CanarySize is the length of a canary in bytes.
const CanarySize = 16

// Marker is what a writing attempt writes over a canary.
var Marker = []byte("FORGED-FORGED-16")

// Victim is a process with canaries in its memory, as an attacker knows it.
type Victim struct {
	PID int `json:"pid"`
	TID int `json:"tid"` // a thread of it; PID unless the target is Thread
	// RW, RO and Code are the addresses of canaries on separate pages: readable and
	// writable, mapped read-only, and mapped readable and executable.
	RW   uint64 `json:"rw"`
	RO   uint64 `json:"ro"`
	Code uint64 `json:"code"`
	// FD is a descriptor of the victim: a memfd that it maps shared, with a canary.
	FD     int    `json:"fd"`
	Shared uint64 `json:"shared"`
	// Proc is its number in the procfs at its /proc, 0 if that is not known.
	Proc int `json:"proc,omitempty"`
	// Token is an argument on its command line that no other process has.
	Token string `json:"token,omitempty"`
	// Lock is a file on which it holds a lock, if it is a victim outside.
	Lock string `json:"lock,omitempty"`
	// Dir is its working directory, where its core file would be written.
	Dir string `json:"workdir,omitempty"`
	// Gadget is the address of instructions that write its memory, see attack.Gadget.
	Gadget uint64 `json:"gadget"`
	// Shm is a System V shared memory segment that it has attached, or -1.
	Shm int `json:"shm"`

	home  int // PID where it was started
	names *naming
}

// Address returns the address of the canary that an effect is judged by.
func (v Victim) Address(e Effect) uint64 {
	switch e {
	case WriteRO:
		return v.RO
	case WriteCode:
		return v.Code
	default:
		return v.RW
	}
}

// memory is a victim's own side: its pages, and what was in them at first.
type memory struct {
	victim Victim
	pages  map[Effect][]byte
	canary []byte
	shm    []byte   // nil: there is none
	w      *witness // nil: none in this process
	lock   *os.File // nil: it has none
}

// newMemory makes canaries in the calling process. They lie below 4 GiB, which
// attempts of the 32-bit interface can reach. codeFile, if not "", is a file that
// is made to hold the one on the executable page, mapped as a library is.
func newMemory(codeFile string) (*memory, error) {
	m := &memory{pages: map[Effect][]byte{}, canary: make([]byte, CanarySize)}
	rand.Read(m.canary)
	for effect, protection := range map[Effect]int{Write: unix.PROT_READ | unix.PROT_WRITE,
		WriteRO: unix.PROT_READ, WriteCode: unix.PROT_READ | unix.PROT_EXEC} {
		if effect == WriteCode && codeFile != "" {
			page, err := mappedPage(codeFile, m.canary)
			if err != nil {
				return nil, err
			}
			m.pages[effect] = page
			continue
		}
		page, err := attack.Low(make([]byte, unix.Getpagesize()))
		if err != nil {
			return nil, err
		}
		copy(page, m.canary)
		err = unix.Mprotect(page, protection)
		if effect == WriteCode && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)) {
			// No memory can be made executable here. It must not be written all the same.
			err = unix.Mprotect(page, unix.PROT_READ)
		}
		if err != nil {
			return nil, fmt.Errorf("protecting a canary: %w", err)
		}
		m.pages[effect] = page
	}
	shared, fd, err := sharedPage(m.canary)
	if err != nil {
		return nil, err
	}
	m.pages[Obtain] = shared
	m.victim = Victim{PID: unix.Getpid(), TID: unix.Getpid(), FD: fd, RW: address(m.pages[Write]),
		RO:   address(m.pages[WriteRO]),
		Code: address(m.pages[WriteCode]), Shared: address(shared)}
	m.furnish()
	m.introduce()
	return m, nil
}

func address(b []byte) uint64 { return uint64(attack.Address(b)) }

func sharedPage(canary []byte) ([]byte, int, error) {
	fd, err := unix.MemfdCreate("canary", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, 0, fmt.Errorf("making a shared canary: %w", err)
	}
	if err := unix.Ftruncate(fd, int64(unix.Getpagesize())); err != nil {
		return nil, 0, fmt.Errorf("making a shared canary: %w", err)
	}
	if _, err := unix.Pwrite(fd, canary, 0); err != nil {
		return nil, 0, fmt.Errorf("making a shared canary: %w", err)
	}
	page, err := unix.Mmap(fd, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		// No file can be mapped shared here. A private page that this process never
		// writes still shows changes of the file.
		page, err = unix.Mmap(fd, 0, unix.Getpagesize(), unix.PROT_READ, unix.MAP_PRIVATE)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("making a shared canary: %w", err)
	}
	return page, fd, nil
}

// State is a victim's report of its canaries.
type State struct {
	Canary  string            `json:"canary"` // hex: what they held at first
	Changed map[string]bool   `json:"changed"`
	Now     map[string]string `json:"now"`
	// Noticed is what happened to the process besides its private memory.
	Noticed map[string]bool `json:"noticed,omitempty"`
}

func (m *memory) state() State {
	s := State{Canary: hex.EncodeToString(m.canary), Changed: map[string]bool{}, Now: map[string]string{}}
	for effect, page := range m.pages {
		s.Changed[string(effect)] = !bytes.Equal(page[:CanarySize], m.canary)
		s.Now[string(effect)] = hex.EncodeToString(page[:CanarySize])
	}
	if s.Noticed = m.w.noticed(); m.shm != nil && s.Noticed != nil {
		s.Noticed[NoticedShm] = !bytes.Equal(m.shm[:CanarySize], m.canary)
	}
	return s
}

// victimMain is the victim's process: it reports where its canaries
// are, and answers each line on its input with their state. It ends with its input.
// args are those of [VictimOptions].
func victimMain(args []string, in io.Reader, out io.Writer) error {
	options, err := parseVictimOptions(args)
	if err != nil {
		return err
	}
	w, err := newWitness(options)
	if err != nil {
		return err
	}
	m, err := newMemory(options.CodeFile)
	if err != nil {
		return err
	}
	m.w = w
	if options.lockDir != "" {
		if err := m.hold(options.lockDir); err != nil {
			return err
		}
	}
	if err := options.start(); err != nil {
		return err
	}
	enc := json.NewEncoder(out)
	for _, word := range []any{m.victim, m.state()} {
		if err := enc.Encode(word); err != nil {
			return err
		}
	}
	line := make([]byte, 1)
	for {
		if _, err := io.ReadFull(in, line); err != nil {
			return nil
		}
		if err := enc.Encode(m.state()); err != nil {
			return err
		}
	}
}

// VictimProcess is a victim started by this process.
type VictimProcess struct {
	Victim
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *json.Decoder
	pipe  *os.File
	ended bool
	first State // its first report
	pace  pace
}

// victimDeadline is how long a victim may take to answer, at the usual pace.
const victimDeadline = 3 * time.Second

// ErrVictimGone means that a victim does not answer: an attempt may have ended it.
var ErrVictimGone = errors.New("the victim did not answer")

// startVictim starts a victim as a child of this process.
func startVictim(p pace, o VictimOptions) (*VictimProcess, error) {
	cmd, err := self(append([]string{victimName, newToken()}, o.args()...)...)
	if err != nil {
		return nil, err
	}
	if o.Program != "" {
		cmd.Path = o.Program
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	cmd.Stdout = w
	v := &VictimProcess{cmd: cmd, pipe: r, out: json.NewDecoder(r), pace: p}
	if v.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting a victim: %w", err)
	}
	r.SetReadDeadline(time.Now().Add(p.of(victimDeadline)))
	err = v.out.Decode(&v.Victim)
	if err == nil {
		err = v.out.Decode(&v.first)
	}
	if err != nil {
		v.End()
		return nil, fmt.Errorf("starting a victim: %w within %v", ErrVictimGone, p.of(victimDeadline))
	}
	return v, nil
}

// State asks the victim for the state of its canaries. With ErrVictimGone comes what is
// known of a victim that is gone: its canary.
func (p *VictimProcess) State() (State, error) {
	var s State
	gone := State{Canary: p.first.Canary}
	p.pipe.SetReadDeadline(time.Now().Add(p.pace.of(victimDeadline)))
	if _, err := p.in.Write([]byte{'?'}); err != nil {
		return gone, ErrVictimGone
	}
	if err := p.out.Decode(&s); err != nil {
		return gone, ErrVictimGone
	}
	return s, nil
}

// End ends the victim.
func (p *VictimProcess) End() {
	if p.ended {
		return
	}
	p.ended = true
	p.in.Close()
	p.cmd.Process.Kill()
	p.cmd.Wait()
	p.pipe.Close()
}
