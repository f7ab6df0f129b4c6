package landlock

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
)

var scenarios = map[string]scenario{
	"own procfs":                   {ownProcfs},
	"second procfs":                {secondProcfs},
	"bind of procfs":               {bindOfProcfs},
	"bind of a part of procfs":     {bindOfPart},
	"procfs in a chroot directory": {chrootProcfs},
	"bind of one mem file":         {bindOfMem},
	"bind of a carved directory":   {bindOfCarved},
	"move through a bind":          {moveThroughBind},
	"mounted after the table":      {mountedLater},
	"covered procfs":               {coveredProcfs},
	"chroot that is no mount":      {chrootNoMount},
	"tracefs":                      {tracefs},
	"files over procfs":            {filesOverProcfs},
	"top directory":                {topDirectory},
	"devices":                      {deviceNodes},
	"second devtmpfs":              {secondDevtmpfs},
	"named device":                 {namedDevice},
	"sysfs":                        {sysfs},
	"sysfs with capabilities":      {sysfsPrivileged},
	"sysfs for an ordinary user":   {sysfsOrdinary},
	"delegated cgroup":             {delegatedCgroup},
	"swap file":                    {swapFile},
	"swap file with capabilities":  {swapFilePrivileged},
	"paths beside a cgroup":        {pathRulesBesideCgroup},
	"program directories":          {programDirs},
	"names of programs":            {programNames},
	"names of programs, user":      {programNamesUser},
	"bind of a library directory":  {bindOfLibraries},
	"bind of a program":            {bindOfProgram},
	"bind of the root":             {bindOfRoot},
	"mount in a program directory": {mountInPrograms},
	"overlay layers":               {overlayScenario},
	"unprotected programs":         {unprotectedPrograms},
	"no-write":                     {noWrite},
	"allow":                        {allowMemory},
	"paths":                        {pathRules},
	"paths with a procfs inside":   {pathRulesCarved},
	"paths and no-write":           {pathRulesNoWrite},
	"paths in a cgroup":            {pathRulesCgroup},
	"ordinary user":                {ordinaryUser},
	"old ABI":                      {oldABI},
	"denied file":                  {deniedFile},
	"denied directory":             {deniedDirectory},
	"denied, without path rules":   {deniedByUsual},
	"watch":                        {watchScenario},
	"TCP ports":                    {tcpPorts},
	"no TCP ports":                 {noTCPPorts},
	"UDP ports":                    {udpPorts},
	"a bound UDP port":             {boundUDP},
}

func ownProcfs(st *stage) []attempt {
	check(os.Symlink("/proc/self/mem", st.path("link")))
	pid := strconv.Itoa(os.Getpid())
	return []attempt{
		st.readMem("self", "/proc/self/mem"),
		st.writeMem("self for writing", "/proc/self/mem"),
		st.readMem("by number", "/proc/"+pid+"/mem"),
		st.readMem("by thread", "/proc/thread-self/mem"),
		st.readMem("by symlink", st.path("link")),
		st.readMem("by magic link", "/proc/self/root/proc/self/mem"),
		{"listing procfs", func() error { _, err := os.ReadDir("/proc"); return err }, nil},
		{"listing the root", func() error { _, err := os.ReadDir("/"); return err }, nil},
		create("a file in a granted directory", st.path("new"), nil),
		{"running a program", func() error { return exec.Command("/bin/true").Run() }, nil},
	}
}

func secondProcfs(st *stage) []attempt {
	mount("proc", st.path("a", "p"), "proc", 0)
	beside := st.mkdir("a", "beside")
	st.request.WorkDirs = []string{st.path("a")}
	st.check = func(p *Plan) error {
		if !slices.Contains(p.Hidden, st.path("a", "p")) {
			return fmt.Errorf("Hidden is %q", p.Hidden)
		}
		return expectWarning("nothing new can be created directly in " +
			st.path("a") + ", because of proc on " + st.path("a", "p"))(p)
	}
	return []attempt{
		st.readMem("read", st.path("a", "p", "self", "mem")),
		st.writeMem("write", st.path("a", "p", "self", "mem")),
		create("in the carved directory", st.path("a", "new"), unix.EACCES),
		{"mkdir in the carved directory", func() error {
			if err := os.Mkdir(st.path("a", "d"), 0o700); err != nil {
				return err
			}
			return os.Remove(st.path("a", "d"))
		}, unix.EACCES},
		create("beside it", beside+"/new", nil),
	}
}

func bindOfProcfs(st *stage) []attempt {
	bind("/proc", st.path("b"))
	return []attempt{
		st.readMem("read", st.path("b", "self", "mem")),
		st.writeMem("write", st.path("b", "self", "mem")),
		open("another file", st.path("b", "meminfo"), os.O_RDONLY, unix.EACCES),
	}
}

func bindOfPart(st *stage) []attempt {
	bind("/proc/"+strconv.Itoa(os.Getpid()), st.path("part"))
	return []attempt{st.readMem("read", st.path("part", "mem"))}
}

func chrootProcfs(st *stage) []attempt {
	mount("proc", st.path("srv", "jail one", "proc"), "proc", 0) // a space: escaped in the table
	etc := st.mkdir("srv", "jail one", "etc")
	check(os.WriteFile(st.path("srv", "jail one", "file"), []byte("x"), 0o600))
	return []attempt{
		st.writeMem("write", st.path("srv", "jail one", "proc", "self", "mem")),
		create("a sibling directory", etc+"/new", nil),
		open("a sibling file", st.path("srv", "jail one", "file"), os.O_RDWR, nil),
		create("the jail's top", st.path("srv", "jail one", "new"), unix.EACCES),
	}
}

func bindOfMem(st *stage) []attempt {
	bind("/proc/"+strconv.Itoa(os.Getpid())+"/mem", st.path("f"))
	return []attempt{
		st.readMem("read", st.path("f")),
		st.writeMem("write", st.path("f")),
	}
}

// bindOfCarved: a rule on the bind would be a rule on the carved directory.
func bindOfCarved(st *stage) []attempt {
	mount("proc", st.path("home", "u", "proc"), "proc", 0)
	st.mkdir("home", "u", "work")
	bind(st.path("home"), st.path("view"))
	return []attempt{
		st.writeMem("at its place", st.path("home", "u", "proc", "self", "mem")),
		create("a sibling through the bind", st.path("view", "u", "work", "new"), nil),
		create("the carved directory through the bind", st.path("view", "u", "new"), unix.EACCES),
	}
}

// moveThroughBind: the parent of the mount point is moved, by another mount of
// its file system, into a directory that is granted.
func moveThroughBind(st *stage) []attempt {
	mount("proc", st.path("home", "u", "jail", "proc"), "proc", 0)
	st.mkdir("home", "v")
	bind(st.path("home"), st.path("far", "view"))
	from, to := st.path("far", "view", "u", "jail"), st.path("far", "view", "v", "jail")
	return []attempt{{"move and open", func() error {
		if err := os.Rename(from, to); err != nil {
			return err
		}
		err := st.touchMem(st.path("home", "v", "jail", "proc", "self", "mem"), os.O_RDWR)
		if back := os.Rename(to, from); back != nil && err == nil {
			err = back
		}
		return err
	}, unix.EACCES}}
}

// mountedLater: somebody mounts between the reading of the table and the walk. At
// a level that is walked it is noticed on the descriptor.
func mountedLater(st *stage) []attempt {
	mount("proc", st.path("a", "p"), "proc", 0)
	st.request.Mounts = must(ReadMountTable())
	mount("proc", st.path("a", "q"), "proc", 0)
	check(os.WriteFile(st.path("a", "f"), nil, 0o600))
	check(unix.Mount("/proc/"+strconv.Itoa(os.Getpid())+"/mem", st.path("a", "f"), "", unix.MS_BIND, ""))
	return []attempt{
		st.writeMem("directory", st.path("a", "q", "self", "mem")),
		st.writeMem("file", st.path("a", "f")),
	}
}

func coveredProcfs(st *stage) []attempt {
	mount("proc", st.path("c", "p"), "proc", 0)
	mount("cover", st.path("c", "p"), "tmpfs", 0)
	return []attempt{
		create("beside the cover", st.path("c", "new"), nil),
		create("on the cover", st.path("c", "p", "new"), nil),
		st.readMem("the usual procfs", "/proc/self/mem"),
	}
}

// chrootNoMount: the mount table does not list what "/" lies on.
func chrootNoMount(st *stage) []attempt {
	mount("proc", st.path("jail", "proc"), "proc", 0)
	bind(st.dir, st.path("jail", "all")) // shows the directory above the new root
	st.mkdir("jail", "site")
	st.mkdir("free")
	check(unix.Chroot(st.path("jail")))
	check(unix.Chdir("/"))
	return []attempt{
		st.writeMem("procfs", "/proc/self/mem"),
		create("a directory", "/site/new", nil),
		create("above the root", "/all/free/new", unix.EACCES),
	}
}

func tracefs(st *stage) []attempt {
	mount("t", st.path("t"), "tracefs", 0)
	unix.Unmount("/sys/kernel/tracing", unix.MNT_DETACH) // one there already would be the same, and busy
	mount("t", "/sys/kernel/tracing", "tracefs", 0)
	bind(st.path("t", "trace_marker"), st.path("one"))
	return []attempt{
		open("elsewhere", st.path("t", "trace"), os.O_RDONLY, unix.EACCES),
		open("elsewhere for writing", st.path("t", "trace_marker"), os.O_WRONLY, unix.EACCES),
		open("at its place", "/sys/kernel/tracing/trace", os.O_RDONLY, unix.EACCES),
		open("bind of a file", st.path("one"), os.O_WRONLY, unix.EACCES),
		open("beside its place", "/sys/kernel/mm/transparent_hugepage/enabled", os.O_RDONLY, nil),
	}
}

// filesOverProcfs is what container runtimes do.
func filesOverProcfs(st *stage) []attempt {
	check(os.WriteFile(st.path("cpuinfo"), []byte("processor: 0\n"), 0o644))
	check(unix.Mount(st.path("cpuinfo"), "/proc/cpuinfo", "", unix.MS_BIND, ""))
	check(unix.Mount("/dev/null", "/proc/devices", "", unix.MS_BIND, ""))
	check(unix.Mount("/dev/kmsg", "/proc/swaps", "", unix.MS_BIND, ""))
	check(unix.Mount("mask", "/proc/tty", "tmpfs", unix.MS_RDONLY, ""))
	check(unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""))
	return []attempt{
		open("a file", "/proc/cpuinfo", os.O_RDONLY, nil),
		open("a harmless device", "/proc/devices", os.O_RDWR, nil),
		open("a device that is not on the list", "/proc/swaps", os.O_RDWR, unix.EACCES),
		{"a directory", func() error { _, err := os.ReadDir("/proc/tty"); return err }, nil},
		open("a bind of procfs itself", "/proc/sys/kernel/pid_max", os.O_RDONLY, unix.EACCES),
		st.readMem("memory", "/proc/self/mem"),
	}
}

func topDirectory(st *stage) []attempt {
	// The temporary top is the program's own, so that the control harms nothing.
	bind("/usr", st.path("top", "usr"))
	for _, name := range []string{"bin", "lib", "lib64"} {
		check(os.Symlink("usr/"+name, st.path("top", name)))
	}
	mount("proc", st.path("top", "proc"), "proc", 0)
	mount("top", st.path("mnt"), "tmpfs", 0)
	check(unix.Mount(st.path("top"), st.path("top"), "", unix.MS_BIND|unix.MS_REC, ""))
	check(unix.Chroot(st.path("top")))
	check(unix.Chdir("/"))
	check(os.MkdirAll("/etc", 0o755))
	check(os.MkdirAll("/var/a", 0o755))
	return []attempt{
		create("a file", "/new", unix.EACCES),
		{"a directory", func() error {
			if err := os.Mkdir("/newdir", 0o755); err != nil {
				return err
			}
			return os.Remove("/newdir")
		}, unix.EACCES},
		{"a symbolic link", func() error {
			if err := os.Symlink("x", "/newlink"); err != nil {
				return err
			}
			return os.Remove("/newlink")
		}, unix.EACCES},
		{"moving a directory out and back", func() error {
			if err := os.Rename("/var/a", "/a"); err != nil {
				return err
			}
			return os.Rename("/a", "/var/a")
		}, unix.EACCES},
		create("a file below", "/etc/new", nil),
	}
}

func deviceNodes(st *stage) []attempt {
	mknod := func(mode uint32, dev uint64) func() error {
		return func() error {
			if err := unix.Mknod(st.path("node"), mode|0o600, int(dev)); err != nil {
				return err
			}
			return os.Remove(st.path("node"))
		}
	}
	return []attempt{
		open("null", "/dev/null", os.O_RDWR, nil),
		open("zero", "/dev/zero", os.O_RDONLY, nil),
		open("urandom", "/dev/urandom", os.O_RDONLY, nil),
		open("ptmx", "/dev/ptmx", os.O_RDWR, nil),
		create("shm", "/dev/shm/memjail-landlock-test-"+strconv.Itoa(os.Getpid()), nil),
		open("kmsg", "/dev/kmsg", os.O_RDONLY, unix.EACCES),
		open("block device", "/dev/loop0", os.O_RDONLY, unix.EACCES).ifExists("/dev/loop0"),
		create("a file in /dev", "/dev/memjail-landlock-test-"+strconv.Itoa(os.Getpid()), unix.EACCES),
		{"own character device", mknod(unix.S_IFCHR, unix.Mkdev(10, 229)), unix.EACCES},
		{"own block device", mknod(unix.S_IFBLK, unix.Mkdev(7, 0)), unix.EACCES},
		{"own FIFO", mknod(unix.S_IFIFO, 0), nil},
	}
}

func secondDevtmpfs(st *stage) []attempt {
	mount("dev", st.path("jail", "dev"), "devtmpfs", 0)
	mount("dev", st.path("made", "dev"), "tmpfs", 0)
	check(unix.Mknod(st.path("made", "dev", "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	check(unix.Mknod(st.path("made", "dev", "zero"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 11)))) // kmsg, lying
	return []attempt{
		open("null", st.path("jail", "dev", "null"), os.O_RDWR, nil),
		open("kmsg", st.path("jail", "dev", "kmsg"), os.O_RDWR, unix.EACCES),
		open("null on tmpfs", st.path("made", "dev", "null"), os.O_RDWR, nil),
		open("a wrong number under a good name", st.path("made", "dev", "zero"), os.O_RDWR, unix.EACCES),
	}
}

func namedDevice(st *stage) []attempt {
	st.request.Policy.Devices = []policy.Device{{Path: "/dev/kmsg"}}
	const other = "/dev/cpu_dma_latency"
	return []attempt{
		open("named", "/dev/kmsg", os.O_RDWR, nil),
		open("not named", other, os.O_RDWR, unix.EACCES).ifExists(other),
	}
}

func sysfs(st *stage) []attempt {
	mount("sys", st.path("jail", "sys"), "sysfs", 0)
	mount("cg", st.path("cg"), "cgroup2", 0)
	const thp = "kernel/mm/transparent_hugepage/enabled"
	return []attempt{
		open("read", "/sys/"+thp, os.O_RDONLY, nil),
		open("read lscpu's file", "/sys/kernel/address_bits", os.O_RDONLY, nil),
		open("write", "/sys/"+thp, os.O_WRONLY, unix.EACCES),
		open("read a second sysfs", st.path("jail", "sys", thp), os.O_RDONLY, nil),
		open("write a second sysfs", st.path("jail", "sys", thp), os.O_WRONLY, unix.EACCES),
		open("read a cgroup file", st.path("cg", "cgroup.procs"), os.O_RDONLY, nil),
		open("write a cgroup file", st.path("cg", "cgroup.procs"), os.O_WRONLY, unix.EACCES),
	}
}

// asUser makes this process an ordinary user with some capabilities, as a service
// manager or a container does that grants them as ambient ones.
func (st *stage) asUser(capabilities ...int) {
	const nobody = 65534
	check(os.Chmod(st.dir, 0o755))
	check(os.Chmod(filepath.Dir(st.dir), 0o755))
	check(unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0))
	check(syscall.Setgroups(nil))
	check(syscall.Setresgid(nobody, nobody, nobody))
	check(syscall.Setresuid(nobody, nobody, nobody))
	check(unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0))
	setCapabilities(capabilities...)
}

func setCapabilities(capabilities ...int) {
	var bits uint32
	for _, c := range capabilities {
		bits |= 1 << c
	}
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	d := [2]unix.CapUserData{{Effective: bits, Permitted: bits, Inheritable: bits}}
	check(unix.Capset(&h, &d[0]))
}

// sysfsPrivileged: neither a capability nor what one can become is uid 0, and both
// write what uid 0 may.
func sysfsPrivileged(st *stage) []attempt {
	mount("cg", st.path("cg"), "cgroup2", 0)
	const thp = "/sys/kernel/mm/transparent_hugepage/enabled"
	st.request.Policy = withPolicy(func(p *policy.Policy) { // no rule opens sysfs for them
		p.Paths = onlyRules(policy.Grant(mayWrite|policy.MayExecute, "/"), policy.Grant(mayWrite, thp))
	})
	st.asUser(actingAsRoot...)
	return []attempt{
		open("write with CAP_DAC_OVERRIDE", thp, os.O_WRONLY, unix.EACCES),
		open("write a cgroup with CAP_DAC_OVERRIDE", st.path("cg", "cgroup.procs"), os.O_WRONLY, unix.EACCES),
		{"write with CAP_SETUID",
			func() error { return as(0, func() error { return touch(thp, os.O_WRONLY) }) }, unix.EACCES},
		{"write what was given away with CAP_CHOWN", func() error {
			if err := os.Chown(thp, 65534, 65534); err != nil {
				return err
			}
			defer os.Chown(thp, 0, 0)
			return touch(thp, os.O_WRONLY)
		}, unix.EACCES},
		open("read", thp, os.O_RDONLY, nil),
	}
}

// actingAsRoot are the capabilities that make any uid as good as 0 for files, none
// of which memjail drops.
var actingAsRoot = []int{unix.CAP_DAC_OVERRIDE, unix.CAP_SETUID, unix.CAP_CHOWN, unix.CAP_FOWNER}

// as does something on this thread as another user, and comes back.
func as(uid int, do func() error) error {
	const same = ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(uid), same); errno != 0 {
		return errno
	}
	err := do()
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, 65534, same); errno != 0 {
		panic(errno)
	}
	setCapabilities(actingAsRoot...) // which a change of the effective uid takes out of effect
	return err
}

func touch(path string, flags int) error {
	f, err := os.OpenFile(path, flags, 0)
	if err == nil {
		f.Close()
	}
	return err
}

// sysfsOrdinary: what a file's mode gives to an ordinary user can be opened by a
// path rule, and no more than it.
func sysfsOrdinary(st *stage) []attempt {
	const thp, defrag = "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/mm/transparent_hugepage/defrag"
	afterwards(st.dir, "chown 0:0 "+thp+" "+defrag)
	for _, file := range []string{thp, defrag} {
		check(os.Chown(file, 65534, 65534))
	}
	st.request.Policy = withPolicy(func(p *policy.Policy) {
		p.Paths = onlyRules(policy.Grant(mayWrite|policy.MayExecute, "/"), policy.Grant(mayWrite, thp))
	})
	st.asUser()
	return []attempt{
		open("named", thp, os.O_WRONLY, nil),
		open("not named", defrag, os.O_WRONLY, unix.EACCES),
	}
}

// makeCgroup makes a cgroup, which goes when this process has ended.
func (st *stage) makeCgroup(name string) string {
	dir := st.path("cg", "memjail-landlock-test-"+name+"-"+strconv.Itoa(os.Getpid()))
	check(os.Mkdir(dir, 0o755))
	afterwards(filepath.Dir(dir), "rmdir "+filepath.Base(dir)) // the way there may be gone by then
	return dir
}

// afterwards has a process outside the domain run a command when this one has ended.
func afterwards(dir, command string) {
	cmd := exec.Command("sh", "-c", "read wait; "+command)
	cmd.Dir = dir
	must(cmd.StdinPipe())
	check(cmd.Start())
}

// delegatedCgroup: in one that an ordinary user owns, processes can be ended and
// frozen that no signal reaches.
func delegatedCgroup(st *stage) []attempt {
	mount("cg", st.path("cg"), "cgroup2", 0)
	own := st.makeCgroup("own")
	for _, name := range []string{"", "cgroup.kill", "cgroup.freeze", "cgroup.procs"} {
		check(os.Chown(filepath.Join(own, name), 65534, 65534))
	}
	st.asUser()
	return []attempt{
		open("kill", own+"/cgroup.kill", os.O_WRONLY, unix.EACCES),
		open("freeze", own+"/cgroup.freeze", os.O_WRONLY, unix.EACCES),
		open("join", own+"/cgroup.procs", os.O_WRONLY, unix.EACCES),
		open("read", own+"/cgroup.procs", os.O_RDONLY, nil),
	}
}

// pathRulesBesideCgroup: naming a cgroup opens it, not all cgroups for a rule on a
// directory above.
func pathRulesBesideCgroup(st *stage) []attempt {
	mount("cg", st.path("cg"), "cgroup2", 0)
	dirs := []string{"named", "other"}
	for i, name := range dirs {
		dirs[i] = st.makeCgroup(name)
	}
	st.request.Policy = withPolicy(func(p *policy.Policy) {
		p.Paths = onlyRules(policy.Grant(mayWrite, dirs[:1]...), policy.Grant(mayWrite|policy.MayExecute, "/"))
	})
	return []attempt{
		open("named", dirs[0]+"/cgroup.procs", os.O_WRONLY, nil),
		open("not named", dirs[1]+"/cgroup.procs", os.O_WRONLY, unix.EACCES),
		open("sysfs", "/sys/kernel/mm/transparent_hugepage/enabled", os.O_WRONLY, unix.EACCES),
	}
}

// swapFile has the kernel's list name a file with a canary, by a cover over it.
func swapFile(st *stage) []attempt {
	st.coverSwaps()
	return []attempt{
		open("read", st.path("swap", "file"), os.O_RDONLY, unix.EACCES),
		open("write", st.path("swap", "file"), os.O_WRONLY, unix.EACCES),
	}
}

func swapFilePrivileged(st *stage) []attempt {
	st.coverSwaps()
	file := st.path("swap", "file")
	st.asUser(actingAsRoot...)
	read := func() error {
		text, err := os.ReadFile(file)
		if err == nil && string(text) != "canary" {
			err = unix.EBADMSG
		}
		return err
	}
	return []attempt{
		{"CAP_DAC_OVERRIDE", read, unix.EACCES},
		{"CAP_SETUID", func() error { return as(0, read) }, unix.EACCES},
		{"CAP_FOWNER", func() error {
			if err := os.Chmod(file, 0o644); err != nil {
				return err
			}
			defer os.Chmod(file, 0o600)
			return read()
		}, unix.EACCES},
	}
}

func (st *stage) coverSwaps() {
	file := filepath.Join(st.mkdir("swap"), "file")
	check(os.WriteFile(file, []byte("canary"), 0o600))
	list := st.path("list")
	check(os.WriteFile(list, []byte("Filename\tType\tSize\tUsed\tPriority\n"+file+"\tfile\t4\t0\t-2\n"), 0o644))
	check(unix.Mount(list, "/proc/swaps", "", unix.MS_BIND, ""))
}

// osRelease is a file that every /usr has; opening it for writing harms nothing.
const osRelease = "/usr/lib/os-release"

func programDirs(st *stage) []attempt {
	return []attempt{
		open("read", osRelease, os.O_RDONLY, nil),
		open("write", osRelease, os.O_WRONLY, unix.EACCES),
		open("write through the symbolic link", "/lib/os-release", os.O_WRONLY, unix.EACCES),
		{"running a program", func() error { return exec.Command("/usr/bin/true").Run() }, nil},
	}
}

// coverEtc puts a directory of the test's own in the place of /etc, so that the
// control changes nothing of the system.
func (st *stage) coverEtc() {
	etc := st.mkdir("etc")
	check(os.MkdirAll(etc+"/alternatives", 0o755))
	check(os.MkdirAll(etc+"/sub", 0o755))
	check(os.Symlink("/usr/bin/true", etc+"/alternatives/awk"))
	check(os.WriteFile(etc+"/file", []byte("x"), 0o644))
	check(unix.Mount(etc, "/etc", "", unix.MS_BIND, ""))
}

// programNames: what a program of a protected directory is called by, and the
// directory of such names, stay in place. Around them files are as usual but for
// their names directly in /etc.
func programNames(st *stage) []attempt {
	st.coverEtc()
	const link = "/etc/alternatives/awk"
	again := func(path string, do func() error) func() error {
		return func() error {
			if err := do(); err != nil {
				return err
			}
			os.Remove(path)
			return os.Symlink("/usr/bin/true", path)
		}
	}
	rename := func(from, to string) func() error {
		return func() error {
			if err := os.Rename(from, to); err != nil {
				return err
			}
			return os.Rename(to, from)
		}
	}
	seen := st.path("etc", "alternatives", "awk")
	return []attempt{
		{"removing a name", again(link, func() error { return os.Remove(link) }), unix.EACCES},
		{"replacing a name", again(link, func() error {
			if err := os.Symlink("/tmp/x", "/etc/sub/x"); err != nil && !os.IsExist(err) {
				return err
			}
			return os.Rename("/etc/sub/x", link)
		}), unix.EACCES},
		{"removing a name by another mount", again(seen, func() error { return os.Remove(seen) }), unix.EACCES},
		{"moving the directory", rename("/etc/alternatives", "/etc/moved"), unix.EACCES},
		{"moving it elsewhere", rename("/etc/alternatives", "/etc/sub/moved"), unix.EACCES},
		open("writing a file", "/etc/file", os.O_WRONLY|os.O_TRUNC, nil),
		open("making a file", "/etc/new", os.O_WRONLY|os.O_CREATE, nil),
		create("a file below", "/etc/sub/new", nil),
		{"renaming below", func() error {
			if err := os.WriteFile("/etc/sub/a", nil, 0o644); err != nil {
				return err
			}
			return os.Rename("/etc/sub/a", "/etc/sub/b")
		}, nil},
	}
}

// programNamesUser: whom the files' own permissions keep from it is not limited
// elsewhere for it.
func programNamesUser(st *stage) []attempt {
	st.coverEtc()
	check(os.Chmod(st.path("etc"), 0o777))
	st.asUser()
	return []attempt{create("directly in /etc", "/etc/new", nil)}
}

func bindOfLibraries(st *stage) []attempt {
	bind("/usr/lib", st.path("jail", "lib"))
	mount("/usr/lib", st.path("ro", "lib"), "", unix.MS_BIND)
	check(unix.Mount("", st.path("ro", "lib"), "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	st.request.WorkDirs = []string{st.path("jail"), st.path("ro")}
	st.check = func(p *Plan) error {
		for _, c := range p.Carved {
			if c.Path == st.path("ro") {
				return fmt.Errorf("%s is carved although its mount is read-only", c.Path)
			}
		}
		return expectWarning(st.path("jail") + ", because of /usr shown on " + st.path("jail", "lib"))(p)
	}
	return []attempt{
		open("read", st.path("jail", "lib", "os-release"), os.O_RDONLY, nil),
		open("write", st.path("jail", "lib", "os-release"), os.O_WRONLY, unix.EACCES),
		create("beside a read-only one", st.path("ro", "new"), nil),
	}
}

func bindOfProgram(st *stage) []attempt {
	bind(osRelease, st.path("file"))
	return []attempt{
		open("read", st.path("file"), os.O_RDONLY, nil),
		open("write", st.path("file"), os.O_WRONLY, unix.EACCES),
	}
}

func bindOfRoot(st *stage) []attempt {
	bind("/", st.path("r"))
	return []attempt{
		st.writeMem("procfs", "/proc/self/mem"), // a rule on r would be one on /
		open("read a program directory", st.path("r", osRelease), os.O_RDONLY, nil),
		open("write a program directory", st.path("r", osRelease), os.O_WRONLY, unix.EACCES),
		create("the top", st.path("r", "memjail-landlock-test-"+strconv.Itoa(os.Getpid())), unix.EACCES),
		create("elsewhere", st.path("r", "var", "tmp", "memjail-landlock-test-"+strconv.Itoa(os.Getpid())), nil),
	}
}

func mountInPrograms(st *stage) []attempt {
	mount("m", "/usr/local/share", "tmpfs", 0)
	check(os.MkdirAll("/usr/local/share/sub", 0o755))
	bind("/usr/local/share/sub", st.path("far", "sub"))
	return []attempt{
		create("in place", "/usr/local/share/new", unix.EACCES),
		create("through the bind", st.path("far", "sub", "new"), unix.EACCES),
	}
}

func overlayScenario(st *stage) []attempt {
	lower, upper, work := st.mkdir("layers", "lower:1"), st.mkdir("layers", "upper"), st.mkdir("layers", "work")
	bind(st.path("layers"), st.path("again"))
	options := "lowerdir=" + st.path("layers", `lower\:1`) + ",upperdir=" + upper + ",workdir=" + work
	check(unix.Mount("o", "/usr/local/share", "overlay", 0, options))
	return []attempt{
		create("merged", "/usr/local/share/new", unix.EACCES),
		create("upper layer", upper+"/new", unix.EACCES),
		create("lower layer", lower+"/new", unix.EACCES),
		create("work directory", work+"/new", unix.EACCES),
		create("upper layer through a bind", st.path("again", "upper", "new"), unix.EACCES),
	}
}

func unprotectedPrograms(st *stage) []attempt {
	st.request.Policy = withPolicy(func(p *policy.Policy) { p.Memory.CodeFiles = policy.CodeFilesAllow })
	return []attempt{
		open("write", osRelease, os.O_WRONLY, nil),
		st.readMem("memory", "/proc/self/mem"),
	}
}

func noWrite(st *stage) []attempt {
	st.request.Policy = withPolicy(func(p *policy.Policy) { p.Memory.Access = policy.AccessNoWrite })
	mount("proc", st.path("p"), "proc", 0)
	bind("/proc", st.path("b"))
	mount("t", st.path("t"), "tracefs", 0)
	read := st.readMem("read", "/proc/self/mem")
	read.want = nil
	return []attempt{
		read,
		st.writeMem("write", "/proc/self/mem"),
		st.readMem("read a second procfs", st.path("p", "self", "mem")),
		st.writeMem("write a second procfs", st.path("p", "self", "mem")),
		st.writeMem("write a bind", st.path("b", "self", "mem")),
		open("tracefs", st.path("t", "trace"), os.O_RDONLY, unix.EACCES),
		open("status", "/proc/self/status", os.O_RDONLY, nil),
		open("comm", "/proc/self/comm", os.O_WRONLY, unix.EACCES),
	}
}

func allowMemory(st *stage) []attempt {
	st.request.Policy = withPolicy(func(p *policy.Policy) { p.Memory.Access = policy.AccessAllow })
	mount("proc", st.path("p"), "proc", 0)
	mem, second := st.writeMem("memory", "/proc/self/mem"), st.writeMem("second procfs", st.path("p", "self", "mem"))
	mem.want, second.want = nil, nil
	return []attempt{
		mem, second,
		open("kmsg", "/dev/kmsg", os.O_RDWR, unix.EACCES),
	}
}

const (
	mayRead  = policy.MayRead
	mayWrite = policy.MayRead | policy.MayWrite
)

func onlyRules(rules ...[]policy.Rule) policy.Paths {
	return policy.Paths{Rules: policy.OnlyThese(slices.Concat(rules...)...)}
}

func pathRules(st *stage) []attempt {
	ro, rw, other := st.mkdir("ro"), st.mkdir("rw"), st.mkdir("other")
	check(os.WriteFile(ro+"/file", []byte("x"), 0o644))
	check(os.WriteFile(other+"/file", []byte("x"), 0o644))
	check(os.WriteFile(other+"/single", []byte("x"), 0o644))
	check(os.Symlink(rw, st.path("link")))
	st.request.Policy = withPolicy(func(p *policy.Policy) {
		p.Paths = onlyRules(policy.Grant(mayRead, ro, other+"/single"), policy.Grant(mayRead|policy.MayExecute, "/usr"),
			policy.Grant(mayWrite, st.path("link"), "/usr/local"),
			[]policy.Rule{{Path: "/nowhere", Rights: mayRead, Optional: true}})
	})
	st.check = expectWarning("/usr/local stays read-only")
	return []attempt{
		open("ro", ro+"/file", os.O_RDONLY, nil),
		open("ro for writing", ro+"/file", os.O_WRONLY, unix.EACCES),
		create("ro new", ro+"/new", unix.EACCES),
		create("rw", rw+"/new", nil),
		open("a file that is named", other+"/single", os.O_RDONLY, nil),
		open("its neighbour", other+"/file", os.O_RDONLY, unix.EACCES),
		open("null", "/dev/null", os.O_RDWR, nil),
		open("kmsg", "/dev/kmsg", os.O_RDWR, unix.EACCES),
		open("protected although rw", "/usr/local/bin", os.O_RDONLY, nil),
		create("protected although rw, new", "/usr/local/memjail-landlock-test", unix.EACCES),
		{"running a program", func() error { return syscallRun("/usr/bin/true") }, nil},
		st.readMem("memory", "/proc/self/mem"),
	}
}

// syscallRun starts a program without the /dev/null that os/exec opens.
func syscallRun(path string) error {
	p, err := os.StartProcess(path, []string{path}, &os.ProcAttr{Files: []*os.File{nil, os.Stderr, os.Stderr}})
	if err != nil {
		return err
	}
	state, err := p.Wait()
	if err == nil && !state.Success() {
		err = fmt.Errorf("%v", state)
	}
	return err
}

func pathRulesCarved(st *stage) []attempt {
	mount("proc", st.path("rw", "jail", "proc"), "proc", 0)
	sub := st.mkdir("rw", "sub")
	st.request.Policy = withPolicy(func(p *policy.Policy) {
		p.Paths = onlyRules(policy.Grant(mayWrite, st.path("rw")))
	})
	st.check = expectWarning("nothing new can be created directly in " + st.path("rw", "jail"))
	return []attempt{
		st.writeMem("memory", st.path("rw", "jail", "proc", "self", "mem")),
		create("carved", st.path("rw", "new"), unix.EACCES),
		create("below", sub+"/new", nil),
	}
}

func pathRulesNoWrite(st *stage) []attempt {
	st.request.Policy = withPolicy(func(p *policy.Policy) {
		p.Memory.Access = policy.AccessNoWrite
		p.Paths = onlyRules(policy.Grant(mayRead, "/usr"))
	})
	read := st.readMem("read", "/proc/self/mem")
	read.want = nil
	return []attempt{read, st.writeMem("write", "/proc/self/mem")}
}

func pathRulesCgroup(st *stage) []attempt {
	mount("cg", st.path("cg"), "cgroup2", 0)
	st.request.Policy = withPolicy(func(p *policy.Policy) {
		p.Paths = onlyRules(policy.Grant(mayWrite, st.path("cg")), policy.Grant(mayRead, "/sys"))
	})
	return []attempt{
		open("named", st.path("cg", "cgroup.procs"), os.O_WRONLY, nil),
		open("sysfs", "/sys/kernel/mm/transparent_hugepage/enabled", os.O_WRONLY, unix.EACCES),
	}
}

func ordinaryUser(st *stage) []attempt {
	mount("proc", st.path("p"), "proc", 0)
	check(os.Chmod(st.dir, 0o755))
	check(os.Chmod(filepath.Dir(st.dir), 0o755))
	work := st.mkdir("work")
	check(os.Chmod(work, 0o777))
	const nobody = 65534
	check(syscall.Setgroups(nil))
	check(syscall.Setresgid(nobody, nobody, nobody))
	check(syscall.Setresuid(nobody, nobody, nobody))
	check(unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0))
	return []attempt{
		st.writeMem("memory", "/proc/self/mem"),
		st.writeMem("memory through a second procfs", st.path("p", "self", "mem")),
		create("a file", work+"/new", nil),
		open("null", "/dev/null", os.O_RDWR, nil),
		{"running a program", func() error { return exec.Command("/bin/true").Run() }, nil},
	}
}

// oldABI enforces with the first version: fewer rights, the same closed procfs.
func oldABI(st *stage) []attempt {
	for v := range 7 {
		if v == 0 {
			continue
		}
		table := must(ReadMountTable())
		p := must(NewPlan(Request{ABI: ForVersion(v), Mounts: table}))
		must(p.Ruleset()).Close()
		check(p.Close())
	}
	st.request.ABI = ForVersion(1)
	st.check = expectWarning("truncate(2)")
	return []attempt{
		st.writeMem("memory", "/proc/self/mem"),
		create("a file", st.path("new"), nil),
	}
}

// watchScenario needs no domain; its attempts watch real mounts.
func watchScenario(st *stage) []attempt {
	mount("proc", st.path("before"), "proc", 0)
	return []attempt{{"watch", func() error { return st.watch() }, nil}}
}

func (st *stage) watch() error {
	known, err := ReadMountTable()
	if err != nil {
		return nil // inside the domain: the control has seen it all
	}
	mount("proc", st.path("between"), "proc", 0)
	f := must(OpenMountinfo(os.Getpid()))
	defer f.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	points, ended := make(chan string, 16), make(chan error, 1)
	var seen atomic.Int64 // mounts of the last table
	go func() {
		ended <- Watch(ctx, f, KnownMounts(known), func(m mountinfo.Mount) { points <- m.Point },
			func(t *MountTable) { seen.Store(int64(len(t.mounts))) })
	}()
	expect := func(want string) {
		select {
		case got := <-points:
			if got != want {
				panic(fmt.Errorf("reported %q, want %q", got, want))
			}
		case <-time.After(5 * time.Second):
			panic(fmt.Errorf("%q was not reported", want))
		}
	}
	expect(st.path("between"))
	mount("x", st.path("ordinary"), "tmpfs", 0)
	mount("d", "/sys/kernel/debug", "debugfs", 0)
	for i := range 20 { // each on its own wake-up
		point := st.path("later" + strconv.Itoa(i))
		mount("t", point, "tracefs", 0)
		expect(point)
	}
	bind("/proc/1", st.path("bound"))
	expect(st.path("bound"))
	if now := must(ReadMountTable()); seen.Load() != int64(len(now.mounts)) {
		return fmt.Errorf("the last table that was handed on has %d mounts, and there are %d", seen.Load(),
			len(now.mounts))
	}
	before := cpuTime()
	time.Sleep(100 * time.Millisecond)
	if used := cpuTime() - before; used > 50*time.Millisecond {
		return fmt.Errorf("an idle watch used %v of 100 ms", used)
	}
	cancel()
	select {
	case err := <-ended:
		return err
	case <-time.After(5 * time.Second):
		return fmt.Errorf("the watch did not end with its context")
	}
}

func cpuTime() time.Duration {
	var u unix.Rusage
	check(unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
