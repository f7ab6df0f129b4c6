package main_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/memjail/memjail/sandbox/filter"
	"golang.org/x/sys/unix"
)

// TestExplainAgreesWithTheKernel asks "policy explain" about random accesses under
// random policies, and tries each of them for real in the sandbox of that policy.
// Only what can be done without the sandbox is counted: the rest has no control.
func TestExplainAgreesWithTheKernel(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		t.Parallel()
		d := newDifference(t, as)
		for seed := range uint64(100) {
			d.compare(t, seed)
		}
		least := map[string]int{"read": 2000, "write": 800, "execute": 500, "connect": 50, "bind": 50, "call": 1000}
		for action, want := range least {
			compared, refused := d.compared[action], d.refused[action]
			t.Logf("%s: %d compared, %d of them refused", action, compared, refused)
			if compared < want {
				t.Errorf("%s: only %d can be done outside: want %d", action, compared, want)
			}
			if refused == 0 || refused == compared {
				t.Errorf("%s: all answers are the same", action)
			}
		}
	})
}

// boundPort is above the ports that the kernel gives to sockets by itself.
const boundPort = 61010

// difference is a scratch tree and what is asked about it.
type difference struct {
	as       account
	home     string
	try      string
	tree     []string // directories, files and links, to be named by policies
	asked    []access
	outside  []int          // the errno of each access without the sandbox
	compared map[string]int // by action
	refused  map[string]int
}

type access struct {
	action string
	object string
}

// triedCalls are system calls that do nothing when all their arguments are -1, and
// that no filter judges by arguments. What they do without the sandbox is an errno
// about the arguments, or a success that changes nothing.
var triedCalls = []string{
	"ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "pidfd_getfd", "kcmp",
	"userfaultfd", "perf_event_open", "bpf", "open_by_handle_at", "name_to_handle_at", "mount", "umount2", "pivot_root",
	"move_mount", "open_tree", "mount_setattr", "fsopen", "fsconfig", "fsmount", "fspick", "setns", "swapon", "swapoff",
	"finit_module", "clone3", "add_key", "request_key", "quotactl", "acct", "seccomp",
	"landlock_create_ruleset", "landlock_add_rule",
	"pidfd_open", "pidfd_send_signal", "inotify_init1", "eventfd2", "epoll_create1", "timerfd_create", "signalfd4",
	"fanotify_init", "fanotify_mark", "sethostname", "setdomainname", "memfd_create", "memfd_secret", "mincore",
	"mseal", "mlock", "munlock", "mbind",
	"sched_getattr", "sched_getaffinity", "clock_gettime", "clock_adjtime", "getrandom", "uname", "sysinfo",
	"getcwd", "getsockopt",
	"listen", "accept4", "shutdown", "flock", "fsync", "ftruncate", "fallocate", "copy_file_range", "splice", "tee",
	"cachestat", "statx", "statfs", "lseek", "getpid", "getuid", "setpriority", "getpriority", "semget",
	"semop", "shmat", "mq_notify",
}

// native are the numbers of system calls here, as the kernel's audit names the ABI.
var native = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]

func newDifference(t *testing.T, as account) *difference {
	d := &difference{as: as, home: as.workDir(t), try: attackProgram(t, "c/try.c"), compared: map[string]int{},
		refused: map[string]int{}}
	d.plant(t)
	objects := append([]string{"/", "/usr", "/usr/bin/env", "/bin/sh", "/etc", "/etc/hostname", "/etc/mtab",
		"/tmp", "/dev", "/dev/null", "/dev/urandom",
		"/dev/full", "/dev/fuse", "/dev/kvm", "/dev/kmsg", "/dev/net", "/dev/shm", "/dev/fd", "/dev/pts",
		"/proc", "/proc/self/status", "/proc/self/mem", "/proc/self/maps", "/proc/self/environ",
		"/proc/self/comm", "/proc/self/oom_score_adj", "/proc/self/pagemap",
		"/proc/self/task", "/proc/thread-self/status", "/proc/self/root/etc/hostname", "/proc/self/cwd/a/data",
		"/proc/net/dev", "/proc/meminfo", "/proc/kallsyms", "/proc/1/status",
		"/proc/sys/kernel/ostype", "/sys", "/sys/kernel", "/sys/kernel/mm/transparent_hugepage/enabled",
		"/sys/class", "/var/lib/dpkg", d.home, d.scratch()}, d.tree...)
	for _, object := range objects {
		d.asked = append(d.asked, access{"read", object}, access{"execute", object})
		// Nothing is opened for writing that others use.
		if strings.HasPrefix(object, d.home) || object == d.scratch() ||
			object == "/dev/null" || object == "/proc/self/comm" ||
			object == "/proc/self/mem" {
			d.asked = append(d.asked, access{"write", object})
		}
	}
	for port := 9; port < 12; port++ { // the discard service and its neighbours: nobody listens
		d.asked = append(d.asked, access{"connect", strconv.Itoa(port)})
	}
	for port := boundPort; port < boundPort+3; port++ {
		d.asked = append(d.asked, access{"bind", strconv.Itoa(port)})
	}
	for _, call := range triedCalls {
		if _, ok := filter.Number(native, call); ok {
			d.asked = append(d.asked, access{"call", call})
		}
	}
	d.outside = d.attempts(t, []string{d.try})
	return d
}

// scratch is a file that does not exist, in a directory that a sandbox can have for itself.
func (d *difference) scratch() string { return "/tmp/memjail-explain-" + d.as.name }

// plant makes directories, files, programs and links, in an order that is always
// the same: policies choose among them by their random numbers.
func (d *difference) plant(t *testing.T) {
	for _, dir := range []string{"a", "a/b", "a/b/c", "d", "d/e"} {
		d.made(t, dir, os.Mkdir(filepath.Join(d.home, dir), 0o755))
		data, tool := filepath.Join(dir, "data"), filepath.Join(dir, "tool")
		d.made(t, data, os.WriteFile(filepath.Join(d.home, data), []byte("text\n"), 0o644))
		d.made(t, tool, os.WriteFile(filepath.Join(d.home, tool), []byte("#!/bin/sh\n"), 0o755))
	}
	for _, link := range [][2]string{{"a/link", "../d"}, {"d/link", "e/data"}, {"d/e/up", "../.."}, {"link", "a/b/c"}} {
		path := filepath.Join(d.home, link[0])
		if err := os.Symlink(link[1], path); err != nil {
			t.Fatal(err)
		}
		d.tree = append(d.tree, path)
	}
	for _, link := range [][2]string{{"a/hard", "d/e/data"}, {"d/hard", "a/b/tool"}} {
		d.made(t, link[0], os.Link(filepath.Join(d.home, link[1]), filepath.Join(d.home, link[0])))
	}
	d.tree = append(d.tree, filepath.Join(d.home, "a/new"), filepath.Join(d.home, "a/link/new"))
}

func (d *difference) made(t *testing.T, name string, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(d.home, name)
	d.as.own(t, path)
	d.tree = append(d.tree, path)
}

// workDir is a directory that exists for a program: a private view has only what is granted.
func (d *difference) workDir(argv []string) string {
	if replacesMounts(argv) {
		return "/usr"
	}
	return d.home
}

// replacesMounts reports whether flags give the sandbox mounts of its own.
func replacesMounts(argv []string) bool {
	return slices.ContainsFunc(argv, func(arg string) bool {
		return arg == "--view" || arg == "--private-home" || arg == "--tmp"
	})
}

// attempts makes all accesses, by the program that argv starts.
func (d *difference) attempts(t *testing.T, argv []string) []int {
	t.Helper()
	var lines strings.Builder
	for _, a := range d.asked {
		object := a.object
		if a.action == "call" {
			nr, _ := filter.Number(native, a.object)
			object = strconv.Itoa(int(nr))
		}
		fmt.Fprintf(&lines, "%s %s\n", a.action, object)
	}
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	stdin, err := os.Open(list)
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	o := job{as: d.as, dir: d.workDir(argv), argv: argv, stdin: stdin, env: []string{"HOME=" + d.home}}.run(t)
	var results []int
	for _, field := range strings.Fields(o.stdout) {
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatalf("%v printed %v", argv, o)
		}
		results = append(results, n)
	}
	if len(results) != len(d.asked) {
		t.Fatalf("%v made %d of %d accesses: %v", argv, len(results), len(d.asked), o)
	}
	return results
}

// flags is a random policy under which the trying program itself can run.
func (d *difference) flags(random *rand.Rand) []string {
	var flags []string
	if random.IntN(6) > 0 {
		flags = append(flags, "--rox", "/usr", "--rox", filepath.Dir(d.try), "--ro", "/etc/ld.so.cache")
		for _, dir := range []string{"/lib", "/lib64", "/bin"} {
			if _, err := os.Stat(dir); err == nil {
				flags = append(flags, "--rox", dir)
			}
		}
		named := map[string]bool{}
		for range random.IntN(6) {
			path := d.tree[random.IntN(len(d.tree))]
			if info, err := os.Stat(path); err == nil && !named[path] {
				named[path] = true
				kinds := []string{"--ro", "--rox", "--rw", "--rwx"}
				if info.IsDir() {
					kinds = append(kinds, "--ls")
				}
				flags = append(flags, kinds[random.IntN(len(kinds))], path)
			}
		}
		flags = append(flags, d.mounts(random, flags)...)
	}
	for _, option := range [][]string{
		{"--connect-tcp", "10"}, {"--bind-tcp", strconv.Itoa(boundPort + 1)},
		{"--device", "/dev/full", "--device", "/dev/fuse"},
		{"--allow", "code-files=allow"}, {"--allow", "namespaces=user"}, {"--allow", "capabilities.keep=CAP_SYS_ADMIN"},
	} {
		if random.IntN(2) == 0 {
			flags = append(flags, option...)
		}
	}
	flags = append(flags, [][]string{{}, {"--allow", "ptrace=children"},
		{"--allow", "ptrace=allow"}}[random.IntN(3)]...)
	flags = append(flags, [][]string{
		{}, {"--allow", "system=none"}, {"--allow", "processes=sandbox", "--allow", "write=oom_score_adj"},
		{"--memory", "no-write"}, {"--memory", "allow"},
	}[random.IntN(5)]...)
	if random.IntN(2) == 0 {
		denied := []string{}
		for range 1 + random.IntN(4) {
			denied = append(denied, triedCalls[random.IntN(len(triedCalls))])
		}
		flags = append(flags, "--allow", "syscalls.deny="+strings.Join(denied, ","))
	}
	return flags
}

// mounts are flags about what the sandbox sees, and about what is denied in it.
func (d *difference) mounts(random *rand.Rand, flags []string) []string {
	if random.IntN(2) == 0 {
		return d.deny(random, flags)
	}
	mounts := []string{"--view", "private"}
	for _, option := range [][]string{{"--private-home"}, {"--tmp", "private"}, {"--unix", "own"}} {
		if random.IntN(3) == 0 {
			mounts = append(mounts, option...)
		}
	}
	for range random.IntN(3) {
		mounts = append(mounts, d.cover(random, mounts)...)
	}
	return mounts
}

// cover denies a path of the tree that a private view can cover, wherever it is: it exists, no
// symbolic link leads to it, and it has no other name.
func (d *difference) cover(random *rand.Rand, denied []string) []string {
	path := d.tree[random.IntN(len(d.tree))]
	info, err := os.Lstat(path)
	if err != nil || slices.Contains(denied, path) || info.Mode()&os.ModeSymlink != 0 ||
		!info.IsDir() && info.Sys().(*syscall.Stat_t).Nlink > 1 {
		return nil
	}
	if target, err := filepath.EvalSymlinks(path); err != nil || target != path {
		return nil
	}
	return []string{"--deny", path}
}

// deny denies a path of the tree where that is possible: its directory is not writable, and
// it has no other name.
func (d *difference) deny(random *rand.Rand, flags []string) []string {
	path := d.tree[random.IntN(len(d.tree))]
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		target = path
	}
	if info, err := os.Stat(target); err == nil && !info.IsDir() && info.Sys().(*syscall.Stat_t).Nlink > 1 {
		return nil
	}
	for i, flag := range flags {
		if flag != "--rw" && flag != "--rwx" {
			continue
		}
		writable, err := filepath.EvalSymlinks(flags[i+1])
		for _, place := range []string{path, target, filepath.Join(d.home, "d/link")} {
			dir, dirErr := filepath.EvalSymlinks(filepath.Dir(place))
			if err != nil || dirErr != nil || strings.HasPrefix(dir+"/", writable+"/") {
				return nil
			}
		}
	}
	return []string{"--deny", path}
}

// told are the refusals of rules in a log. Each says what would allow it.
func (d *difference) told(t *testing.T, log string) map[access]bool {
	t.Helper()
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	told := map[access]bool{}
	for line := range strings.Lines(string(data)) {
		var e struct {
			Comm, Path, Access, Reason string
			Predicted                  bool
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if e.Comm != "attack-try" || !e.Predicted {
			continue
		}
		path := strings.TrimSuffix(strings.TrimPrefix(e.Path, "TCP port "), "/made-by-try")
		told[access{e.Access, path}] = true
		if e.Reason == "" {
			t.Errorf("a refusal without a reason: %s", line)
		}
	}
	return told
}

// answer is one of "policy explain"'s, as far as it is compared.
type answer struct {
	Allowed bool   `json:"allowed"`
	Why     string `json:"why"`
	Layer   string `json:"layer"`
	Key     string `json:"key"`
	Errno   string `json:"errno"`
	Request struct {
		Action string `json:"action"`
		Path   string `json:"path"`
		Port   int    `json:"port"`
		Call   string `json:"call"`
	} `json:"request"`
	Notes []string `json:"notes"`
}

// answers asks about all accesses under one policy.
func (d *difference) answers(t *testing.T, flags []string) map[access]answer {
	t.Helper()
	explain := append([]string{memjailPath(t), "policy", "explain", "--json"}, flags...)
	for _, a := range d.asked {
		explain = append(explain, "--"+strings.Replace(a.action, "execute", "exec", 1), a.object)
	}
	o := job{as: d.as, dir: d.workDir(explain), argv: explain, env: []string{"HOME=" + d.home}}.run(t)
	var list []answer
	if err := json.Unmarshal([]byte(o.stdout), &list); err != nil || len(list) != len(d.asked) {
		t.Fatalf("%v: %v\n%v", explain, err, o)
	}
	said := map[access]answer{}
	for _, a := range list {
		object := a.Request.Path + a.Request.Call
		if object == "" {
			object = strconv.Itoa(a.Request.Port)
		}
		said[access{a.Request.Action, object}] = a
	}
	return said
}

// proves reports whether an access says something about a sandbox, by what it came
// to outside of one.
func (a access) proves(outside int) bool {
	switch a.action {
	case "connect": // which nobody answers
		return outside == 0 || outside == int(unix.ECONNREFUSED)
	case "call": // an errno that no filter gives
		return !slices.Contains([]unix.Errno{unix.EPERM, unix.EACCES, unix.ENOSYS}, unix.Errno(outside))
	}
	return outside == 0
}

// compare holds one random policy's answers to what happens.
func (d *difference) compare(t *testing.T, seed uint64) {
	t.Helper()
	flags := d.flags(rand.New(rand.NewPCG(seed, uint64(len(d.as.name)))))
	said := d.answers(t, flags)
	log := filepath.Join(d.home, fmt.Sprintf("log-%d", seed))
	inside := d.attempts(t, append(append([]string{memjailPath(t), "run", "-q", "--log", log, "--log-format",
		"json"}, flags...), "--", d.try))
	told := d.told(t, log)
	for i, a := range d.asked {
		answer := said[a]
		// A call that is allowed with a note is refused in some of its uses.
		if !a.proves(d.outside[i]) || a.action == "call" && answer.Allowed && len(answer.Notes) > 0 {
			continue
		}
		if replacesMounts(flags) && strings.HasPrefix(a.object, "/proc/self/cwd") {
			continue // it was looked at from another directory
		}
		if a.action == "write" && unix.Errno(inside[i]) == unix.EEXIST {
			continue // a link that leads to nothing in the view: opened here with O_EXCL
		}
		// Directories are opened without O_DIRECTORY here.
		if answer.Layer == "supervisor" && len(answer.Notes) > 1 && slices.Contains(flags, "--memory") {
			continue
		}
		if errno := unix.ErrnoName(unix.Errno(inside[i])); answer.Errno != "" && answer.Errno != errno {
			t.Errorf("policy %q: %s %s: explained as %s, but %s", flags, a.action, a.object, answer.Errno, errno)
		}
		d.compared[a.action]++
		allowed := inside[i] == d.outside[i]
		if !allowed {
			d.refused[a.action]++
		}
		errno := unix.ErrnoName(unix.Errno(inside[i]))
		if allowed != answer.Allowed {
			t.Errorf("policy %q: %s %s: explained as allowed=%v (%s: %s), but errno %q, outside %q", flags,
				a.action, a.object,
				answer.Allowed, answer.Layer, answer.Why, errno, unix.ErrnoName(unix.Errno(d.outside[i])))
		}
		if answer.Key == "paths.deny" && replacesMounts(flags) && (errno == "" || errno == "ENOENT") {
			continue // root may look into what covers it, which is empty
		}
		if reported := told[a]; !d.byRule(a, answer, flags) {
			continue
		} else if refused := slices.Contains([]string{"EACCES", "EROFS", "EBUSY"}, errno); refused != reported {
			t.Errorf("policy %q: %s %s: errno %q, but reported=%v", flags, a.action, a.object, errno, reported)
		}
	}
}

// byRule reports whether a supervisor says which path or port rule refuses an access.
// What is refused for what it is, whatever the rules, it reports in other words; a
// device without path rules, not at all.
func (d *difference) byRule(a access, answer answer, flags []string) bool {
	switch {
	case a.action == "call", strings.HasPrefix(a.object, "/proc"), answer.Why == "a device cannot be executed":
		return false
	case slices.Contains(flags, "--memory"): // without a supervisor, or one that sees only some of the opens
		return false
	}
	return slices.Contains(flags, "--rox") || !strings.Contains(answer.Why, "granted without being named")
}
