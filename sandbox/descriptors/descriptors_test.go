package descriptors

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/landlock"
	"golang.org/x/sys/unix"
)

// TestCheckInheritedFD looks at descriptors of every kind that can be made here.
func TestCheckInheritedFD(t *testing.T) {
	open := func(path string, flags int) int {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatalf("opening %s: %v", path, err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		t.Fatal(err)
	}
	memfd := func(flags int) int {
		fd, err := unix.MemfdCreate("x", flags|unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	named := memfd(unix.MFD_EXEC)
	later := memfd(unix.MFD_EXEC | unix.MFD_ALLOW_SEALING)
	if err := unix.Fchmod(later, 0o600); err != nil {
		t.Fatal(err)
	}
	shm, err := os.CreateTemp("/dev/shm", "memjail-")
	if err != nil {
		t.Fatal(err)
	}
	defer shm.Close()
	defer os.Remove(shm.Name())
	epoll, err := unix.EpollCreate1(0)
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := landlock.ReadMountTable()
	if err != nil {
		t.Fatal(err)
	}
	in := &Inherited{view: View{Mounts: mounts, RefuseExecMemfds: true,
		ProcfsGranted: func(below string) bool { return below == "cpuinfo" }}}
	self := "/proc/" + strconv.Itoa(os.Getpid())
	for _, test := range []struct {
		name string
		fd   int
		want bool
	}{
		{"a file", open("/etc/passwd", unix.O_RDONLY), true},
		{"a directory", open("/", unix.O_RDONLY), true},
		{"a pipe", pipe[0], true},
		{"a memfd for data", memfd(unix.MFD_NOEXEC_SEAL), true},
		{"a memfd that can be executed", named, false},
		{"the same by name only", open("/proc/self/fd/"+strconv.Itoa(named), unix.O_PATH), false},
		{"the same to read", open("/proc/self/fd/"+strconv.Itoa(named), unix.O_RDONLY), false},
		{"a memfd that can be made executable", later, false},
		{"a memfd of large pages", memfd(unix.MFD_HUGETLB | unix.MFD_HUGE_2MB), false},
		{"a memfd of large pages with the seal, which it does not heed",
			memfd(unix.MFD_HUGETLB | unix.MFD_HUGE_2MB | unix.MFD_NOEXEC_SEAL), false},
		{"a file on a tmpfs", int(shm.Fd()), true},
		{"an epoll instance", epoll, true},
		{"/dev/null", open("/dev/null", unix.O_RDWR), true},
		{"a closed number", 999, true},
		{"a granted file of procfs", open("/proc/cpuinfo", unix.O_RDONLY), true},
		{"own memory", open(self+"/mem", unix.O_RDWR), false},
		{"own memory, to read", open(self+"/mem", unix.O_RDONLY), false},
		{"own maps", open(self+"/maps", unix.O_RDONLY), false},
		{"a granted file, to write", open(self+"/comm", unix.O_WRONLY), false},
		{"memory by name only", open(self+"/mem", unix.O_PATH), true},
	} {
		if what, ok := in.checkInheritedFD(test.fd); ok != test.want {
			t.Errorf("%s (%s): let in: %v, want %v", test.name, what, ok, test.want)
		}
	}
	in.view.RefuseExecMemfds = false
	if what, ok := in.checkInheritedFD(named); !ok {
		t.Errorf("under a policy that allows executing it: %s is refused", what)
	}
	in.view.Access = policy.AccessAllow
	if what, ok := in.checkInheritedFD(open(self+"/mem", unix.O_RDWR)); !ok {
		t.Errorf("under a policy that allows memory: %s is refused", what)
	}
}

// TestKernelObjects makes what has no file, and of each shows first that it is what it is
// taken for.
func TestKernelObjects(t *testing.T) {
	in := &Inherited{}
	dir := t.TempDir()
	for _, test := range []struct {
		name string
		make func() (int, error)
		want bool
	}{
		{"[eventfd]", func() (int, error) { return unix.Eventfd(0, unix.EFD_CLOEXEC) }, true},
		{"[timerfd]", func() (int, error) { return unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC) }, true},
		{"inotify", func() (int, error) { return unix.InotifyInit1(unix.IN_CLOEXEC) }, true},
		{"[signalfd]", func() (int, error) { return unix.Signalfd(-1, &unix.Sigset_t{}, unix.SFD_CLOEXEC) }, true},
		{"[pidfd]", func() (int, error) { return unix.PidfdOpen(os.Getpid(), 0) }, true},
		{"[fanotify]", func() (int, error) { return watchOpens(t, dir) }, false},
		{"[perf_event]", func() (int, error) {
			attributes := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_TASK_CLOCK}
			return unix.PerfEventOpen(&attributes, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
		}, false},
		{"[fscontext]", func() (int, error) { return unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC) }, false},
	} {
		fd, err := test.make()
		if err == unix.ENOSYS || err == unix.EPERM {
			t.Logf("%s cannot be made here: %v", test.name, err)
			continue
		} else if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		defer unix.Close(fd)
		if what, ok := in.checkInheritedFD(fd); ok != test.want || !strings.Contains(what, test.name) {
			t.Errorf("%s: it is %s, and let in: %v", test.name, what, ok)
		}
	}
}

// watchOpens makes a fanotify group that has seen somebody open a file.
func watchOpens(t *testing.T, dir string) (int, error) {
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_REPORT_FID|unix.FAN_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD, unix.FAN_OPEN|unix.FAN_ONDIR, unix.AT_FDCWD, dir); err != nil {
		return -1, err
	}
	if _, err := os.ReadDir(dir); err != nil {
		return -1, err
	}
	if n, err := unix.Read(fd, make([]byte, 4096)); n <= 0 {
		t.Errorf("control: the group has seen nothing: %v", err)
	}
	return fd, nil
}

func TestDescriptorsAskedFor(t *testing.T) {
	fd, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	number := strconv.Itoa(fd)
	for _, test := range []struct {
		args []string
		keep []int
		want []int
	}{
		{[]string{"/dev/fd/" + number}, nil, []int{fd}},
		{[]string{"/proc/self/fd/" + number, "/dev/fd/" + number}, []int{fd}, []int{fd}},
		{[]string{"/dev/fd/0", "/dev/fd/999", "/dev/fd/x", "/dev/fd/" + number + "/x"}, []int{1}, nil},
	} {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil { // as one that was inherited
			t.Fatal(err)
		}
		in, err := Examine(View{}, test.args, test.keep)
		if err != nil || !slices.Equal(in.Keep, test.want) {
			t.Errorf("%q keeping %v: %+v, %v; want %v", test.args, test.keep, in, err, test.want)
		}
	}
	if _, err := Examine(View{}, nil, []int{999}); !errors.Is(err, unix.EBADF) {
		t.Errorf("keeping a closed descriptor: %v", err)
	}
	// It is closed on execve, as this process's own are.
	if _, err := Examine(View{}, nil, []int{fd}); !errors.Is(err, unix.EBADF) {
		t.Errorf("keeping a descriptor of memjail's own: %v", err)
	}
}
