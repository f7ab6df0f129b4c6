package policy

import (
	"slices"
	"strings"
)

// callGroup is a set of system calls. Its name begins with "@", and so do those of its
// members that are groups themselves.
type callGroup struct {
	name, what string
	calls      string // separated by blanks
}

// callGroups is sorted by name. A group lists all forms of a call (setuid and setuid32),
// so 32-bit programs are refused the same. Where a call both reads and sets, a group about
// setting lists only the use that sets. (adjtimex and clock_adjtime are listed whole: what
// they do depends on memory, which no filter can read.)
var callGroups = [...]callGroup{
	{"@aio", "asynchronous input and output by io_setup(2) and io_uring",
		"io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit " +
			"io_uring_enter io_uring_register io_uring_setup"},
	{"@chown", "changing the owner of files",
		"chown chown32 fchown fchown32 fchownat lchown lchown32"},
	{"@clock", "setting the system's clocks",
		"adjtimex clock_adjtime clock_adjtime64 clock_settime clock_settime64 settimeofday stime"},
	{"@cpu-emulation", "modes of the CPU for old programs",
		"modify_ldt:write vm86 vm86old"},
	{"@debug", "inspecting processes and the kernel",
		"kcmp lookup_dcookie perf_event_open pidfd_getfd process_vm_readv process_vm_writev ptrace"},
	{"@ipc", "System V and POSIX message queues, semaphores, shared memory; memfds",
		"ipc memfd_create memfd_secret mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 " +
			"mq_timedsend mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop " +
			"semtimedop semtimedop_time64 shmat shmctl shmdt shmget"},
	{"@keyring", "the kernel's key store",
		"add_key keyctl request_key"},
	{"@memlock", "keeping memory from being swapped",
		"mlock mlock2 mlockall munlock munlockall"},
	{"@metadata", "changing owner, mode, times, extended attributes and flags of files",
		"@chown chmod fchmod fchmodat fchmodat2 file_setattr fremovexattr fsetxattr futimesat lremovexattr lsetxattr " +
			"removexattr removexattrat setxattr setxattrat utime utimensat utimensat_time64 utimes"},
	{"@module", "kernel modules",
		"create_module delete_module finit_module init_module query_module get_kernel_syms"},
	{"@mount", "mounts and the root directory",
		"chroot fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree open_tree_attr pivot_root " +
			"umount umount2"},
	{"@namespaces", "entering and making namespaces, other than by clone(2)",
		"setns unshare"},
	{"@network-io", "sockets of every kind, including those between processes of one machine",
		"accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg " +
			"recvmmsg_time64 " +
			"recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socket socketcall socketpair"},
	{"@obsolete", "calls that no current program needs, or that no kernel has any more",
		"_sysctl afs_syscall bdflush break create_module ftime get_kernel_syms getpmsg gtty idle lock mpx nfsservctl " +
			"prof profil putpmsg query_module security sgetmask ssetmask stty sysfs tuxcall ulimit " +
			"uselib ustat vserver"},
	{"@pkey", "memory protection keys",
		"pkey_alloc pkey_free pkey_mprotect"},
	{"@privileged", "calls that change the system or need privileges; the kernel refuses nearly all of " +
		"them to unprivileged programs anyway",
		"@chown @clock @module @mount @raw-io @reboot @setuid @swap _sysctl acct bpf capset fanotify_init " +
			"nfsservctl open_by_handle_at quotactl:set quotactl_fd:set setdomainname sethostname setns syslog vhangup"},
	{"@raw-io", "ports and devices without their drivers",
		"ioperm iopl pciconfig_iobase pciconfig_read pciconfig_write"},
	{"@reboot", "restarting the machine, or another kernel on it",
		"kexec_file_load kexec_load reboot"},
	{"@resources", "setting priorities, processors and memory nodes, limits",
		"ioprio_set mbind migrate_pages move_pages:move nice prlimit64:set sched_setaffinity " +
			"sched_setattr sched_setparam " +
			"sched_setscheduler set_mempolicy set_mempolicy_home_node setpriority setrlimit"},
	{"@sandbox", "restricting oneself further: seccomp(2) and Landlock",
		"landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp"},
	{"@setuid", "becoming another user or group",
		"setfsgid:set setfsgid32:set setfsuid:set setfsuid32:set setgid setgid32 setgroups setgroups32 " +
			"setregid setregid32 setresgid " +
			"setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32"},
	{"@swap", "swap space",
		"swapoff swapon"},
}

// vital are the calls that no policy can refuse: without them no program can start, end,
// or return from a signal handler.
var vital = []string{"execve", "exit", "exit_group", "restart_syscall", "rt_sigreturn", "sigreturn"}

// CallGroup is a named set of system calls.
type CallGroup struct {
	Name  string   // "@mount"
	What  string   // what the calls do, for documents
	Calls []string // sorted, with nested groups resolved
}

// CallGroups lists the groups, sorted by name.
func CallGroups() []CallGroup {
	groups := make([]CallGroup, len(callGroups))
	for i, g := range callGroups {
		groups[i] = CallGroup{g.name, g.what, g.expand()}
	}
	return groups
}

func (g callGroup) expand() []string {
	var calls []string
	for _, name := range strings.Fields(g.calls) {
		if inner, ok := findCallGroup(name); ok {
			calls = append(calls, inner.expand()...)
		} else {
			calls = append(calls, name)
		}
	}
	slices.Sort(calls)
	return slices.Compact(calls)
}

func findCallGroup(name string) (callGroup, bool) {
	i := slices.IndexFunc(callGroups[:], func(g callGroup) bool { return g.name == name })
	if i < 0 {
		return callGroup{}, false
	}
	return callGroups[i], true
}

// ExpandCall returns the system calls that a name in a policy stands for: the members of
// a group ("@mount"), or the named call or use itself. The result is empty if Linux 6.18
// has no such group, call or use.
func ExpandCall(name string) []string {
	if g, ok := findCallGroup(name); ok {
		return g.expand()
	}
	if !refusable(name) {
		return nil
	}
	return []string{name}
}

// KnownCall reports whether Linux 6.18 has a system call of that name in any of the ABIs
// that memjail knows.
func KnownCall(name string) bool {
	_, ok := slices.BinarySearch(callNames[:], name)
	return ok
}

// CallNames lists the system calls of Linux 6.18, sorted. The caller owns the
// slice.
func CallNames() []string {
	all := callNames
	return all[:]
}

// VitalCall reports whether a call cannot be refused: without it no program can start,
// end, or return from a signal handler.
func VitalCall(name string) bool { return slices.Contains(vital, name) }
