package probe

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/memjail/memjail/sandbox/kernel/attack"
	"golang.org/x/sys/unix"
)

// The options of a victim, see [victimOption].
const (
	codeFileOption = "code-file" // the file that holds its executable page
	donateOption   = "donate"    // a socket on which it hands out its own memory
	beatOption     = "beat"      // call heartbeat over and over, "beat=1"
	mappedOption   = "mapped"    // a file that it makes, maps and looks at over and over
	lockOption     = "lock"      // the directory for the file that it locks
	tokenOption    = "token"     // a word by which it is known, see [newToken]
)

// victimOption is an argument for [startVictim].
func victimOption(key, value string) string { return key + "=" + value }

func victimOptions(args []string) (map[string]string, error) {
	options := map[string]string{}
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, fmt.Errorf("victim's option %q: %w", arg, unix.EINVAL)
		}
		options[key] = value
	}
	return options, nil
}

// beHelpful starts what a victim does beside being one.
func beHelpful(options map[string]string) error {
	if _, ok := options[beatOption]; ok {
		go func() {
			for {
				heartbeat()
				time.Sleep(5 * time.Millisecond)
			}
		}()
	}
	if path, ok := options[mappedOption]; ok {
		if err := lookAt(path); err != nil {
			return err
		}
	}
	if path, ok := options[donateOption]; ok {
		return donate(path)
	}
	return nil
}

// lookAt maps a file of its own making, as programs do with caches and databases, and
// reads it again and again. Where the file loses its page the process ends as one that
// is not written in Go does, with as large a core file as it may have.
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

// donate listens on a socket and sends everybody who connects an open descriptor
// of this process's memory.
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
