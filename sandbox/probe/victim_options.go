package probe

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/memjail/memjail/sandbox/kernel/attack"
	"golang.org/x/sys/unix"
)

// VictimOptions describe a victim that is a separate process. The zero value is one that
// has canaries and waits.
type VictimOptions struct {
	// Program is a copy of this program to start it from; "": the program itself.
	Program string
	// Dir is its working directory, where its core file would be written.
	Dir string
	// CodeFile is a file that it makes, and maps as its executable page.
	CodeFile string
	// MappedFile is a file that it makes, maps shared, and reads again and again.
	MappedFile string
	// DonationSocket is where it listens, and sends its own /proc/self/mem, opened for
	// reading and writing, to everybody who connects.
	DonationSocket string
	// Heartbeat has it execute the instruction at [HeartbeatAddress] every 5 ms.
	Heartbeat bool

	lockDir     string // where it makes the file that it locks, see [memory.hold]
	keepSignals bool   // signals that it is sent stay pending, so that none is missed
}

// tokenOption is the argument by which a victim is recognised, see [newToken].
const tokenOption = "token"

// fields are the names that the options have on a victim's command line.
func (o *VictimOptions) fields() map[string]*string {
	return map[string]*string{"dir": &o.Dir, "code-file": &o.CodeFile, "mapped": &o.MappedFile,
		"donate": &o.DonationSocket, "lock": &o.lockDir}
}

func (o *VictimOptions) switches() map[string]*bool {
	return map[string]*bool{"beat": &o.Heartbeat, "signals": &o.keepSignals}
}

// args are the options as a victim's arguments.
func (o VictimOptions) args() []string {
	var args []string
	for name, value := range o.fields() {
		if *value != "" {
			args = append(args, name+"="+*value)
		}
	}
	for name, on := range o.switches() {
		if *on {
			args = append(args, name+"=yes")
		}
	}
	return args
}

// parseVictimOptions is the reverse of args.
func parseVictimOptions(args []string) (VictimOptions, error) {
	var o VictimOptions
	fields, switches := o.fields(), o.switches()
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		switch {
		case fields[name] != nil:
			*fields[name] = value
		case switches[name] != nil:
			*switches[name] = true
		case !ok || name != tokenOption:
			return o, fmt.Errorf("victim's option %q: %w", arg, unix.EINVAL)
		}
	}
	return o, nil
}

// start starts what the victim does besides being one.
func (o VictimOptions) start() error {
	if o.Heartbeat {
		go func() {
			for {
				heartbeat()
				time.Sleep(5 * time.Millisecond)
			}
		}()
	}
	if o.MappedFile != "" {
		if err := lookAt(o.MappedFile); err != nil {
			return err
		}
	}
	if o.DonationSocket != "" {
		return donate(o.DonationSocket)
	}
	return nil
}

// lookAt makes and maps a file, as programs do with caches and databases, and reads it
// again and again. If the file loses its page, the process ends as one that is not written
// in Go does, with as large a core file as it may have.
func lookAt(path string) error {
	if err := os.WriteFile(path, make([]byte, unix.Getpagesize()), 0o666); err != nil {
		return err
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	page, err := unix.Mmap(int(f.Fd()), 0, unix.Getpagesize(), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mapping %q: %w", path, err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: limit.Max, Max: limit.Max}); err != nil {
		return err
	}
	if err := attack.DefaultAction(unix.SIGBUS); err != nil {
		return err
	}
	go func() {
		for {
			looks.Add(int64(page[0]) + 1)
			time.Sleep(5 * time.Millisecond)
		}
	}()
	return nil
}

// looks are counted so that none is left out.
var looks atomic.Int64

// heartbeat does nothing, at an address that is known.
//
//go:noinline
func heartbeat() { beats.Add(1) }

var beats atomic.Int64

// HeartbeatAddress is the address of a function that a victim with the option Heartbeat
// calls again and again. It is the same in every process of the program, but for
// programs that are loaded at a random address.
func HeartbeatAddress() uintptr { return reflect.ValueOf(heartbeat).Pointer() }

// donate listens on a socket and sends an open descriptor of this process's memory to
// everybody who connects.
func donate(path string) error {
	mem, err := unix.Open("/proc/self/mem", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening what to donate: %w", err)
	}
	listener, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("donating: %w", err)
	}
	if err := unix.Bind(listener, &unix.SockaddrUnix{Name: path}); err != nil {
		return fmt.Errorf("donating on %q: %w", path, err)
	}
	if err := os.Chmod(path, 0o777); err != nil {
		return err
	}
	if err := unix.Listen(listener, 1); err != nil {
		return fmt.Errorf("donating on %q: %w", path, err)
	}
	go func() {
		for {
			peer, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
			if err != nil {
				return
			}
			unix.Sendmsg(peer, []byte{'m'}, unix.UnixRights(mem), nil, 0) // a peer that is gone gets nothing
			unix.Close(peer)
		}
	}()
	return nil
}

// mappedPage maps a file privately and executably, as the loader maps a library,
// after writing the canary to it. The page is not copied until it is written.
func mappedPage(path string, canary []byte) ([]byte, error) {
	page := make([]byte, unix.Getpagesize())
	copy(page, canary)
	if err := os.WriteFile(path, page, 0o666); err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return nil, err
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %q: %w", path, err)
	}
	defer unix.Close(fd)
	mapped, err := unix.Mmap(fd, 0, len(page), unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("mapping %q: %w", path, err)
	}
	return mapped, nil
}
