package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/memjail/memjail/sandbox/program"
	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

// observedMessage is a packet from a service that is observed to "memjail systemd learn".
// The first one of a process has Start, all others have Use.
type observedMessage struct {
	Start *observedStart          `json:"start,omitempty"`
	Use   *supervisor.Observation `json:"use,omitempty"`
}

// observedStart is what only the process itself knows.
type observedStart struct {
	Dir       string   `json:"dir"`
	Home      string   `json:"home,omitempty"`
	Variables []string `json:"variables"` // names
	ABI       int      `json:"abi"`       // of Landlock
}

// maxObserved is the longest packet, in bytes: a path may have 4 KiB, and is quoted.
const maxObserved = 32 << 10

// sendPatience is how long a service waits for its observer to read a packet.
const sendPatience = 2 * time.Second

// dialObserver connects to the socket of "memjail systemd learn".
func dialObserver(socket string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", socket, err)
	}
	limit := unix.NsecToTimeval(sendPatience.Nanoseconds())
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: socket})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("connecting to %s: %w", socket, err)
	}
	return os.NewFile(uintptr(fd), "observer"), nil
}

// sendStart sends the first packet.
func sendStart(observer *os.File, env []string, abi int) error {
	start := &observedStart{Home: program.Getenv(env, "HOME"), ABI: abi}
	start.Dir, _ = os.Getwd()
	for _, entry := range env {
		name, _, _ := strings.Cut(entry, "=")
		start.Variables = append(start.Variables, name)
	}
	text, err := json.Marshal(observedMessage{Start: start})
	if err != nil {
		return fmt.Errorf("describing the start: %w", err)
	}
	_, err = unix.Write(int(observer.Fd()), text)
	return err
}

// useSender sends what a service uses. Once its observer has ended, or does not read, it
// sends nothing any more: the service must not wait.
type useSender struct {
	file  *os.File
	ended atomic.Bool
}

func (s *useSender) send(o supervisor.Observation) {
	if s.ended.Load() {
		return
	}
	text, err := json.Marshal(observedMessage{Use: &o})
	if err != nil || len(text) > maxObserved {
		return
	}
	if _, err := unix.Write(int(s.file.Fd()), text); err != nil {
		s.ended.Store(true)
	}
}
