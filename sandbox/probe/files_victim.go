package probe

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// The options of a victim, see [victimOption].
const (
	codeFileOption = "code-file" // the file that holds its executable page
	donateOption   = "donate"    // a socket on which it hands out its own memory
	beatOption     = "beat"      // call heartbeat over and over, "beat=1"
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
	if path, ok := options[donateOption]; ok {
		return donate(path)
	}
	return nil
}

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
