package kernel

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLoadFilterErrors(t *testing.T) {
	nonsense := []unix.SockFilter{{Code: 0xffff}}
	unending := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}}
	for _, test := range []struct {
		name    string
		program []unix.SockFilter
		flags   FilterFlags
		want    unix.Errno
	}{
		{"empty", nil, 0, unix.EINVAL},
		{"too long", make([]unix.SockFilter, maxFilterInstructions+1), 0, unix.EINVAL},
		{"unknown instruction", nonsense, 0, unix.EINVAL},
		{"no end", unending, 0, unix.EINVAL},
		{"unknown flag", on(asked, 0), 1 << 30, unix.EINVAL},
	} {
		t.Run(test.name, func(t *testing.T) {
			onThread(func() {
				unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
				file, err := LoadFilter(test.program, test.flags)
				if !errors.Is(err, test.want) || file != nil {
					t.Errorf("got %v, %v; want %v", file, err, test.want)
				}
			})
		})
	}
}

func TestFilterFlagSupported(t *testing.T) {
	for flag, want := range map[FilterFlags]bool{FilterTSync: true, FilterNewListener: true,
		FilterWaitKillableRecv: true, 1 << 30: false} {
		if got, err := FilterFlagSupported(flag); err != nil || got != want {
			t.Errorf("flag %#x: %t, %v; want %t", uint32(flag), got, err, want)
		}
	}
	if got, err := UserNotifSupported(); err != nil || !got {
		t.Errorf("user notification: %t, %v", got, err)
	}
}

// TestLoadFilter loads filters in a process of its own and looks at what they do.
func TestLoadFilter(t *testing.T) {
	const want = "without no_new_privs: permission denied\n" +
		"plain: <nil> <nil>, the call: operation not permitted\n" +
		"all threads: <nil> <nil>, the call elsewhere: no data available\n" +
		"listener: seccomp listener <nil>\n" +
		"second listener: device or resource busy\n"
	if got := playRole(t, "loader", nobody()); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func loaderRole() {
	refuse := func(errno unix.Errno) []unix.SockFilter { return on(asked, unix.SECCOMP_RET_ERRNO|uint32(errno)) }
	call := func() error {
		_, _, errno := unix.RawSyscall(asked, 0, 0, 0)
		return errno
	}
	bare := func(err error) error {
		var errno unix.Errno
		errors.As(err, &errno)
		return errno
	}
	elsewhere := make(chan func())
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		for range elsewhere {
			result <- call()
		}
	}()
	_, err := LoadFilter(refuse(unix.EPERM), 0)
	fmt.Println("without no_new_privs:", bare(err))
	unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	file, err := LoadFilter(refuse(unix.EPERM), 0)
	fmt.Printf("plain: %s %v, the call: %v\n", nameOf(file), err, call())
	file, err = LoadFilter(refuse(unix.ENODATA), FilterTSync)
	elsewhere <- nil
	fmt.Printf("all threads: %s %v, the call elsewhere: %v\n", nameOf(file), err, <-result)
	file, err = LoadFilter(on(asked, seccompRetUserNotif), FilterNewListener)
	fmt.Println("listener:", nameOf(file), err)
	_, err = LoadFilter(on(asked, seccompRetUserNotif), FilterNewListener)
	fmt.Println("second listener:", bare(err))
}

func nameOf(file *os.File) string {
	if file == nil {
		return "<nil>"
	}
	return strings.TrimSpace(file.Name())
}
