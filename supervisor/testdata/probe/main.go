// Program probe opens files in many ways and prints what it got: the test runs it
// with and without a sandbox and compares. It is built for each ABI of the CPU.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hole is the descriptor that is free below used ones, so that a number that is not
// the lowest shows.
const hole = 5

func main() {
	runtime.LockOSThread()
	for {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY, 0)
		if err != nil || fd > 12 {
			break
		}
	}
	unix.Close(hole)
	files := []string{"/proc/self/maps", "/proc/self/comm", "/proc/self/oom_score_adj", "/proc/version",
		"/proc/sys/kernel/osrelease", os.Args[1]}
	for _, path := range files {
		name := path
		if path == os.Args[1] {
			name = "ordinary" // the caller's scratch file: the flags below truncate it
		}
		for _, f := range flags {
			fd, errno := openat(unix.AT_FDCWD, path, f.value)
			say(fmt.Sprintf("openat %s %s", name, f.name), fd, errno)
			if openCall >= 0 {
				fd, errno = open(path, f.value)
				say(fmt.Sprintf("open %s %s", name, f.name), fd, errno)
			}
			fd, errno = openat2(unix.AT_FDCWD, path, f.value, 0)
			say(fmt.Sprintf("openat2 %s %s", name, f.name), fd, errno)
		}
		for _, r := range resolves {
			fd, errno := openat2(unix.AT_FDCWD, path, unix.O_RDONLY, r.value)
			say(fmt.Sprintf("openat2 %s resolve %s", name, r.name), fd, errno)
		}
		if creatCall >= 0 && strings.HasPrefix(path, "/proc/") {
			fd, errno := creat(path)
			say("creat "+path, fd, errno)
		}
	}
	for _, path := range spellings() {
		fd, errno := openat(unix.AT_FDCWD, path.open, unix.O_RDONLY|unix.O_CLOEXEC)
		say("read "+path.name, fd, errno)
	}
	relative()
	full()
}

type named struct {
	name  string
	value int
}

const cloexec, nonblock = unix.O_CLOEXEC, unix.O_NONBLOCK

var flags = []named{
	{"RDONLY", 0}, {"CLOEXEC", cloexec}, {"NONBLOCK", nonblock}, {"NOFOLLOW", unix.O_NOFOLLOW},
	{"DIRECTORY", unix.O_DIRECTORY},
	{"PATH", unix.O_PATH}, {"PATH|CLOEXEC", unix.O_PATH | cloexec}, {"NOATIME", unix.O_NOATIME},
	{"NOCTTY", unix.O_NOCTTY}, {"SYNC", unix.O_SYNC},
	{"DIRECT", unix.O_DIRECT}, {"APPEND", unix.O_APPEND}, {"ASYNC", unix.O_ASYNC}, {"LARGEFILE", 0x8000},
	{"unknown", 1 << 30}, {"CREAT", unix.O_CREAT},
	{"CREAT|EXCL", unix.O_CREAT | unix.O_EXCL}, {"WRONLY", unix.O_WRONLY}, {"RDWR", unix.O_RDWR}, {"mode 3", 3},
	{"WRONLY|APPEND", unix.O_WRONLY | unix.O_APPEND}, {"WRONLY|CREAT|EXCL", unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL},
	{"RDWR|NONBLOCK|CLOEXEC", unix.O_RDWR | nonblock | cloexec}, {"WRONLY|DIRECT", unix.O_WRONLY | unix.O_DIRECT},
	{"TMPFILE", unix.O_TMPFILE | unix.O_RDWR}, {"WRONLY|DIRECTORY", unix.O_WRONLY | unix.O_DIRECTORY},
	{"WRONLY|CREAT|TRUNC", unix.O_WRONLY | unix.O_CREAT | unix.O_TRUNC},
	{"RDWR|CREAT|TRUNC|CLOEXEC", unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC | cloexec},
	{"RDONLY|TRUNC", unix.O_TRUNC},
}

var resolves = []struct {
	name  string
	value uint64
}{
	{"NO_XDEV", unix.RESOLVE_NO_XDEV}, {"NO_MAGICLINKS", unix.RESOLVE_NO_MAGICLINKS},
	{"NO_SYMLINKS", unix.RESOLVE_NO_SYMLINKS},
	{"BENEATH", unix.RESOLVE_BENEATH}, {"IN_ROOT", unix.RESOLVE_IN_ROOT}, {"CACHED", 0x20}, {"unknown", 1 << 40},
	{"NO_SYMLINKS|NO_MAGICLINKS", unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS},
	{"BENEATH|IN_ROOT", unix.RESOLVE_BENEATH | unix.RESOLVE_IN_ROOT},
}

type spelling struct{ name, open string }

// spellings are paths with the numbers that differ from run to run taken out of
// their names.
func spellings() []spelling {
	pid, tid := fmt.Sprint(os.Getpid()), fmt.Sprint(unix.Gettid())
	var all []spelling
	for _, name := range []string{
		"/proc/self/stat", "/proc/self/status", "/proc/self/statm", "/proc/self/cmdline", "/proc/self/cgroup",
		"/proc/self/limits",
		"/proc/self/environ", "/proc/self/auxv", "/proc/self/smaps", "/proc/self/smaps_rollup",
		"/proc/self/numa_maps", "/proc/self/io",
		"/proc/self/personality", "/proc/self/mountinfo", "/proc/self/mounts", "/proc/self/mountstats",
		"/proc/self/uid_map", "/proc/self/setgroups",
		"/proc/self/oom_score", "/proc/self/wchan", "/proc/self/sched", "/proc/self/schedstat",
		"/proc/self/timers", "/proc/self/timerslack_ns",
		"/proc/self/fdinfo/0", "/proc/self/net/dev", "/proc/self/task/TID/stat", "/proc/self/task/TID/comm",
		"/proc/self/task/TID/children",
		"/proc/thread-self/comm", "/proc/thread-self/maps", "/proc/PID/maps", "/proc/PID/task/TID/maps",
		"/proc/PID/task/PID/stat", "/proc/TID/stat",
		"/proc//self/./stat", "/proc/self/../self/stat", "/proc/self/cwd/proc/self/stat",
		"/proc/self/root/proc/version", "/proc/mounts", "/etc/mtab",
		"/proc/self/stat/", "/proc/self/stat/x", "/proc/self/nothing", "/proc/mounts/", "/proc/mounts/x",
		"/proc/nothing", "/proc/4000000000/stat", "",
		"/proc/1/stat", "/proc/1/comm", "/proc/1/status", "/proc/1/cmdline", "/proc/net/dev", "/proc/net/tcp",
		"/proc/cpuinfo", "/proc/meminfo",
		"/proc/stat", "/proc/uptime", "/proc/loadavg", "/proc/filesystems", "/proc/devices", "/proc/modules",
		"/proc/swaps", "/proc/cmdline", "/proc/locks",
		"/proc/sys/kernel/hostname", "/proc/sys/kernel/pid_max", "/proc/sys/kernel/random/boot_id",
		"/proc/sys/vm/overcommit_memory", "/proc/sys/fs/file-nr",
		"/proc/sys/kernel/cad_pid", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/nothing",
		"/proc/pressure/cpu", "/proc/iomem", "/proc/kallsyms",
		"/proc/self", "/proc", "/proc/self/fd", "/proc/self/task", "/proc/sys/kernel", "/dev/fd",
		"/proc/self/exe", "/dev/stdin", "/proc/self/fd/0",
		"/dev/null", "/etc/passwd", "/proc/self/mem", "/proc/self/pagemap", "/proc/self/stack",
		"/proc/self/syscall", "/proc/1/maps", "/proc/1/environ",
		"/proc/1/mem", "/proc/1/io", "/proc/self/map_files", "/proc/timer_list", "/proc/slabinfo", "/proc/keys",
		"/proc/kmsg",
	} {
		open := strings.NewReplacer("PID", pid, "TID", tid).Replace(name)
		all = append(all, spelling{name, open})
	}
	return append(all, spelling{"too long", strings.Repeat("/", 4096) + "proc/version"},
		spelling{"long", strings.Repeat("/", 4000) + "proc/version"})
}

// relative opens relative to descriptors and to the working directory.
func relative() {
	for _, dir := range []string{"/proc", "/proc/self", "/proc/sys", "/etc", "/dev/null"} {
		at, err := unix.Open(dir, unix.O_PATH, 0)
		if err != nil {
			fmt.Println("holding", dir, err)
			continue
		}
		unix.Dup3(at, 40, 0)
		unix.Close(at)
		for _, path := range []string{"self/maps", "maps", "kernel/osrelease", "../proc/version", "passwd", "."} {
			fd, errno := openat(40, path, unix.O_RDONLY)
			say(fmt.Sprintf("at %s: %s", dir, path), fd, errno)
			fd, errno = openat2(40, path, unix.O_RDONLY|cloexec, unix.RESOLVE_BENEATH)
			say(fmt.Sprintf("beneath %s: %s", dir, path), fd, errno)
		}
		if unix.Fchdir(40) == nil {
			fd, errno := openat(unix.AT_FDCWD, "version", unix.O_RDONLY)
			say("in "+dir+": version", fd, errno)
		}
		unix.Chdir("/")
		unix.Close(40)
	}
	fd, errno := openat(99, "/proc/version", unix.O_RDONLY)
	say("absolute, at no descriptor", fd, errno)
	fd, errno = openat(99, "version", unix.O_RDONLY)
	say("relative, at no descriptor", fd, errno)
}

// full opens when there may be no more descriptors, and with bad pointers.
func full() {
	var limit unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: hole, Max: limit.Max})
	for _, path := range []string{"/proc/self/maps", "/proc/version", "/etc/passwd"} {
		fd, errno := openat(unix.AT_FDCWD, path, unix.O_RDONLY)
		say("full "+path, fd, errno)
	}
	unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	at := unix.AT_FDCWD
	fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(at), 8, 0, 0, 0, 0)
	say("bad pointer", int(fd), errno)
	path, _ := unix.BytePtrFromString("/proc/version")
	fd, _, errno = unix.Syscall6(unix.SYS_OPENAT2, uintptr(at), uintptr(unsafe.Pointer(path)), 8, 24, 0, 0)
	say("bad openat2 pointer", int(fd), errno)
	for _, size := range []uintptr{0, 23, 25, 32, 4096, 4097} {
		how := make([]uint64, 1024)
		fd, _, errno = unix.Syscall6(unix.SYS_OPENAT2, uintptr(at), uintptr(unsafe.Pointer(path)),
			uintptr(unsafe.Pointer(&how[0])), size, 0, 0)
		say(fmt.Sprintf("openat2 of size %d", size), int(fd), errno)
		how[3] = 1
		fd, _, errno = unix.Syscall6(unix.SYS_OPENAT2, uintptr(at), uintptr(unsafe.Pointer(path)),
			uintptr(unsafe.Pointer(&how[0])), size, 0, 0)
		say(fmt.Sprintf("openat2 of size %d, not zero behind", size), int(fd), errno)
	}
	for _, mode := range []uint64{0o644, 0o10000} {
		for _, flag := range []uint64{0, unix.O_CREAT} {
			how := unix.OpenHow{Flags: flag, Mode: mode}
			fd, err := unix.Openat2(unix.AT_FDCWD, "/proc/version", &how)
			errno, _ := err.(syscall.Errno)
			say(fmt.Sprintf("openat2 with mode %o, flags %#x", mode, flag), fd, errno)
		}
	}
}

func openat(dir int, path string, flags int) (int, syscall.Errno) {
	p, _ := unix.BytePtrFromString(path)
	fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(p)), uintptr(flags),
		0o600, 0, 0)
	return int(fd), errno
}

func openat2(dir int, path string, flags int, resolve uint64) (int, syscall.Errno) {
	how := unix.OpenHow{Flags: uint64(flags), Resolve: resolve}
	if flags&unix.O_CREAT != 0 {
		how.Mode = 0o600
	}
	fd, err := unix.Openat2(dir, path, &how)
	errno, _ := err.(syscall.Errno)
	return fd, errno
}

// say prints what an open came to and gives the descriptor back.
func say(what string, fd int, errno syscall.Errno) {
	if errno != 0 {
		fmt.Printf("%s: %s\n", what, unix.ErrnoName(errno))
		return
	}
	descriptor, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	status, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	offset, err := unix.Seek(fd, 0, 1)
	var st unix.Stat_t
	statErr := unix.Fstat(fd, &st)
	fmt.Printf("%s: fd %d, flags %d, status %#x, offset %d %v, mode %#o, size %d, owner %d:%d %v%s\n",
		what, fd, descriptor, status, offset, err, st.Mode, stableSize(&st), st.Uid, st.Gid, statErr, content(what, fd))
	unix.Close(fd)
}

func stableSize(st *unix.Stat_t) int64 {
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return 0 // the root directory of procfs counts processes
	}
	return st.Size
}

// content is the beginning of a file that says the same each time.
func content(what string, fd int) string {
	for _, stable := range []string{"version", "osrelease", "/comm", "cmdline", "oom_score_adj", "hostname",
		"pid_max", "uid_map", "setgroups", "filesystems", "boot_id", "passwd", "ordinary"} {
		if !strings.Contains(what, stable) {
			continue
		}
		buf := make([]byte, 24)
		n, err := unix.Pread(fd, buf, 0)
		if err != nil {
			return ", reading: " + err.Error()
		}
		return fmt.Sprintf(", %q", buf[:max(n, 0)])
	}
	return ""
}
