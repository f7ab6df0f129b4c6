package attempts

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

// A race opens something again and again while other threads change what its name
// means: between somebody's look at the name and the kernel's own, a file that is
// allowed can become /proc/self/mem.
type race struct {
	spelling string
	explain  string
	abi      probe.ABI
	duration time.Duration
	// prepare makes what the threads work with: flip changes it, to the memory file
	// if mem, and open tries it once.
	prepare func(dir string) (flip func(mem bool), open func() (int, unix.Errno), err error)
}

func raceAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, r := range races() {
		all = append(all, probe.Attempt{Route: "proc-mem", Spelling: r.spelling, Target: probe.Self,
			Effect: probe.Write, ABI: r.abi, Explain: r.explain,
			Reference: "seccomp_unotify(2) (caveats), proc_pid_mem(5)", Permits: permitsMemory(probe.Write),
			Seconds: int(probe.DefaultTimeout.Seconds()) + int(r.duration/time.Second),
			Attack:  func(s *probe.Env, v probe.Victim) probe.Outcome { return r.run(s.Dir, v) }})
	}
	return all
}

func races() []race {
	const long, short = 3 * time.Second, 1200 * time.Millisecond
	return []race{
		{spelling: "race", explain: "several threads flip a path between an ordinary file and " +
			"/proc/self/mem while others open it", duration: long, prepare: racePath(probe.Native)},
		{spelling: "race", abi: probe.I386, explain: "the same by the 32-bit interface", duration: short,
			prepare: racePath(probe.I386)},
		{spelling: "race-granted",
			explain: "several threads flip a path between a file of /proc that everybody may have and " +
				"/proc/self/mem", duration: short, prepare: raceGranted},
		{spelling: "race-symlink",
			explain:  "a symbolic link to an ordinary file is exchanged with one to /proc/self/mem",
			duration: short, prepare: raceSymlink},
		{spelling: "race-directory", explain: "a directory is exchanged with a symbolic link to /proc/self",
			duration: short, prepare: raceDirectory},
		{spelling: "race-cwd", explain: "another thread changes the working directory that a relative " +
			"name begins at", duration: short, prepare: raceCwd},
		{spelling: "race-dirfd",
			explain: "another thread puts /proc/self in the place of the directory descriptor that a " +
				"name begins at", duration: short, prepare: raceDirfd},
		{spelling: "race-how", explain: "another thread changes the structure that openat2(2) takes its " +
			"flags from", duration: short, prepare: raceHow},
	}
}

// run lets two threads open and one flip until one open brought the memory file or
// the time is over.
func (r race) run(dir string, v probe.Victim) probe.Outcome {
	flip, open, err := r.prepare(dir)
	if err != nil {
		return probe.Refused("preparing", err)
	}
	var opens, refused, won atomic.Int64
	var written atomic.Bool
	var over atomic.Bool
	var threads sync.WaitGroup
	defer unix.Chdir("/") // raceCwd leaves it anywhere
	thread := func(work func()) {
		threads.Go(func() {
			runtime.LockOSThread()
			for !over.Load() {
				work()
			}
		})
	}
	mem := false
	thread(func() { mem = !mem; flip(mem) })
	for range 2 {
		thread(func() {
			opens.Add(1)
			fd, errno := open()
			if errno != 0 {
				refused.Add(1)
				return
			}
			defer unix.Close(fd)
			if !isMem(fd, v) {
				return
			}
			won.Add(1)
			if _, err := unix.Pwrite(fd, probe.Marker, int64(v.RW)); err == nil {
				written.Store(true)
				over.Store(true)
			}
		})
	}
	deadline := time.AfterFunc(r.duration, func() { over.Store(true) })
	threads.Wait()
	deadline.Stop()
	counts := fmt.Sprintf("%d opens, %d refused, %d got the memory file", opens.Load(), refused.Load(), won.Load())
	if written.Load() {
		return probe.Did("%s", counts)
	}
	return probe.Outcome{Step: "open", Detail: counts}
}

// isMem reports whether a descriptor is this process's memory file: it has the
// canary where the canary is.
func isMem(fd int, v probe.Victim) bool {
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) != nil || fs.Type != unix.PROC_SUPER_MAGIC {
		return false
	}
	target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	return err == nil && filepath.Base(target) == "mem" && v.RW != 0
}

// flags of all races; the file is small and stays as it is.
const raceFlags = unix.O_RDWR | unix.O_CLOEXEC

// harmlessFile makes the file that is opened when the memory file is not.
func harmlessFile(path string) error { return os.WriteFile(path, []byte("harmless"), 0o600) }

// racePath flips the last letter of a path: "0" is a file, "1" a symbolic link to
// the memory file.
func racePath(abi probe.ABI) func(dir string) (func(bool), func() (int, unix.Errno), error) {
	return func(dir string) (func(bool), func() (int, unix.Errno), error) {
		if err := harmlessFile(filepath.Join(dir, "0")); err != nil {
			return nil, nil, err
		}
		if err := os.Symlink("/proc/self/mem", filepath.Join(dir, "1")); err != nil {
			return nil, nil, err
		}
		path, err := attack.Low(attack.String(filepath.Join(dir, "0")))
		if err != nil {
			return nil, nil, err
		}
		last := len(path) - 2
		flip := func(mem bool) {
			path[last] = '0'
			if mem {
				path[last] = '1'
			}
		}
		return flip, rawOpen(abi, path), nil
	}
}

// rawOpen opens the path that is in a buffer at the moment.
func rawOpen(abi probe.ABI, path []byte) func() (int, unix.Errno) {
	return func() (int, unix.Errno) {
		var fd uintptr
		var errno unix.Errno
		if abi == probe.I386 {
			fd, errno = attack.Call32(openat32, atFDCWD, attack.Address(path), raceFlags)
		} else {
			fd, errno = attack.Call(unix.SYS_OPENAT, atFDCWD, attack.Address(path), raceFlags)
		}
		attack.Keep(path)
		return int(fd), errno
	}
}

// raceGranted flips between two files of procfs, of which one may be written.
func raceGranted(string) (func(bool), func() (int, unix.Errno), error) {
	const prefix = "/proc/self/"
	path, err := attack.Low(attack.String(prefix + "comm\x00"))
	if err != nil {
		return nil, nil, err
	}
	flip := func(mem bool) {
		name := "comm\x00"
		if mem {
			name = "mem\x00\x00"
		}
		copy(path[len(prefix):], name)
	}
	return flip, rawOpen(probe.Native, path), nil
}

func raceSymlink(dir string) (func(bool), func() (int, unix.Errno), error) {
	harmless, link, other := filepath.Join(dir, "harmless"), filepath.Join(dir, "link"), filepath.Join(dir, "other")
	err := harmlessFile(harmless)
	if err == nil {
		err = os.Symlink(harmless, link)
	}
	if err == nil {
		err = os.Symlink("/proc/self/mem", other)
	}
	return raceExchange(link, other, link, err)
}

func raceDirectory(dir string) (func(bool), func() (int, unix.Errno), error) {
	real, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	err := os.Mkdir(real, 0o700)
	if err == nil {
		err = harmlessFile(filepath.Join(real, "mem"))
	}
	if err == nil {
		err = os.Symlink("/proc/self", link)
	}
	return raceExchange(real, link, filepath.Join(real, "mem"), err)
}

// raceExchange exchanges two names at every flip and opens a path.
func raceExchange(one, two, path string, err error) (func(bool), func() (int, unix.Errno), error) {
	if err != nil {
		return nil, nil, err
	}
	flip := func(bool) { unix.Renameat2(unix.AT_FDCWD, one, unix.AT_FDCWD, two, unix.RENAME_EXCHANGE) }
	return flip, rawOpen(probe.Native, attack.String(path)), nil
}

func raceCwd(dir string) (func(bool), func() (int, unix.Errno), error) {
	err := harmlessFile(filepath.Join(dir, "mem"))
	flip := func(mem bool) {
		to := dir
		if mem {
			to = "/proc/self"
		}
		unix.Chdir(to)
	}
	return flip, rawOpen(probe.Native, attack.String("mem")), err
}

func raceDirfd(dir string) (func(bool), func() (int, unix.Errno), error) {
	if err := harmlessFile(filepath.Join(dir, "mem")); err != nil {
		return nil, nil, err
	}
	var fds [3]int // the third is flipped
	for i, path := range []string{dir, "/proc/self", dir} {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, nil, err
		}
		fds[i] = fd
	}
	flip := func(mem bool) {
		from := fds[0]
		if mem {
			from = fds[1]
		}
		unix.Dup3(from, fds[2], unix.O_CLOEXEC)
	}
	name := attack.String("mem")
	open := func() (int, unix.Errno) {
		fd, errno := attack.Call(unix.SYS_OPENAT, uintptr(fds[2]), attack.Address(name), raceFlags)
		attack.Keep(name)
		return int(fd), errno
	}
	return flip, open, nil
}

// raceHow flips the flags and the path at once: reading a file that is granted
// becomes writing the memory.
func raceHow(string) (func(bool), func() (int, unix.Errno), error) {
	const size = 24 // struct open_how, openat2(2)
	how := make([]byte, size)
	path := attack.String("/proc/self/comm\x00")
	flip := func(mem bool) {
		flags, name := uint32(unix.O_RDONLY|unix.O_CLOEXEC), "comm\x00"
		if mem {
			flags, name = raceFlags, "mem\x00\x00"
		}
		binary.NativeEndian.PutUint32(how, flags)
		copy(path[len("/proc/self/"):], name)
	}
	flip(false)
	open := func() (int, unix.Errno) {
		fd, errno := attack.Call(unix.SYS_OPENAT2, atFDCWD, attack.Address(path), attack.Address(how), size)
		attack.Keep(path, how)
		return int(fd), errno
	}
	return flip, open, nil
}
