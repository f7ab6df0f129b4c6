package main

import (
	"cmp"
	"slices"

	"golang.org/x/sys/unix"
)

// ofTheRuntime are calls that the Go runtime makes for itself: it ends a program with a
// trace where memory or threads cannot be had, before memjail is asked. They do not fail here.
var ofTheRuntime = []string{"arch_prctl", "brk", "clone-thread", "epoll_pwait", "exit", "exit_group", "fcntl-standard",
	"futex",
	"getpid", "gettid", "madvise", "mmap", "mprotect", "munmap", "nanosleep", "restart_syscall", "rt_sigaction",
	"rt_sigprocmask", "rt_sigreturn", "rseq", "sched_getaffinity", "sched_yield", "set_robust_list",
	"set_tid_address", "sigaltstack", "tgkill", "getuid", "geteuid", "getgid", "getegid", "getppid"}

// errnos are what a call can fail with, by its manual page and by what filters and limits
// above memjail answer. Calls that are not named fail with usual. Not among them is what would
// be a lie of the kernel's: ENOENT for an answer says that nobody waits for it any more, and
// EAGAIN for a read that there is nothing to be read.
var errnos = map[string][]unix.Errno{
	"openat":                  {unix.EACCES, unix.ENOENT, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EINTR, unix.ELOOP},
	"openat2":                 {unix.EACCES, unix.ENOSYS, unix.EAGAIN, unix.EMFILE, unix.EXDEV, unix.ENOMEM},
	"close":                   {unix.EIO, unix.EINTR},
	"read":                    {unix.EIO, unix.EINTR, unix.ESRCH},
	"pread64":                 {unix.EIO, unix.EINTR, unix.ESRCH},
	"write":                   {unix.EIO, unix.EINTR, unix.EPIPE, unix.ENOSPC, unix.EFBIG},
	"statx":                   {unix.EACCES, unix.ENOENT, unix.ENOMEM, unix.ENOSYS},
	"newfstatat":              {unix.EACCES, unix.ENOENT, unix.ENOMEM},
	"fstat":                   {unix.EIO, unix.ENOMEM},
	"fstatfs":                 {unix.EIO, unix.ENOSYS, unix.EINTR},
	"readlinkat":              {unix.EACCES, unix.ENOENT, unix.ENOMEM},
	"getdents64":              {unix.EIO, unix.ENOENT, unix.ENOMEM},
	"fcntl":                   {unix.EMFILE, unix.EBADF, unix.EINVAL, unix.EPERM},
	"dup3":                    {unix.EMFILE, unix.EBUSY, unix.EINTR},
	"pipe2":                   {unix.EMFILE, unix.ENFILE, unix.ENOMEM},
	"socketpair":              {unix.EMFILE, unix.ENOMEM, unix.EACCES},
	"memfd_create":            {unix.EMFILE, unix.ENOMEM, unix.ENOSYS, unix.EACCES},
	"eventfd2":                {unix.EMFILE, unix.ENOMEM},
	"epoll_create1":           {unix.EMFILE, unix.ENOMEM},
	"epoll_ctl":               {unix.ENOMEM, unix.ENOSPC, unix.EPERM},
	"clone":                   {unix.EAGAIN, unix.ENOMEM, unix.EPERM},
	"execve":                  {unix.EACCES, unix.ENOENT, unix.ENOMEM, unix.E2BIG, unix.EAGAIN},
	"execveat":                {unix.EACCES, unix.ENOENT, unix.ENOMEM, unix.ENOSYS},
	"prctl":                   {unix.EPERM, unix.EINVAL, unix.EACCES},
	"seccomp":                 {unix.EPERM, unix.EACCES, unix.EINVAL, unix.EBUSY, unix.ENOMEM, unix.ENOSYS},
	"landlock_create_ruleset": {unix.ENOSYS, unix.EOPNOTSUPP, unix.EINVAL, unix.EMFILE, unix.ENOMEM},
	"landlock_add_rule":       {unix.EINVAL, unix.ENOMEM, unix.EBADF, unix.EPERM},
	"landlock_restrict_self":  {unix.EPERM, unix.E2BIG, unix.ENOMEM, unix.EINVAL},
	"ioctl":                   {unix.EBADF, unix.EINTR, unix.ENOTTY, unix.EMFILE, unix.ENOMEM, unix.EINPROGRESS},
	"process_vm_readv":        {unix.EPERM, unix.ESRCH, unix.EFAULT, unix.ENOSYS},
	"pidfd_open":              {unix.EMFILE, unix.ESRCH, unix.ENOSYS, unix.EPERM},
	"pidfd_send_signal":       {unix.EPERM, unix.ESRCH, unix.ENOSYS},
	"wait4":                   {unix.ECHILD, unix.EINTR},
	"waitid":                  {unix.ECHILD, unix.EINTR},
	"ppoll":                   {unix.EINTR, unix.ENOMEM},
	"mount":                   {unix.EPERM, unix.EACCES, unix.ENOMEM, unix.EBUSY, unix.EINVAL},
	"pivot_root":              {unix.EPERM, unix.EINVAL, unix.EBUSY},
	"unshare":                 {unix.EPERM, unix.ENOMEM, unix.ENOSPC},
	"setns":                   {unix.EPERM, unix.EINVAL, unix.ENOMEM},
	"sendmsg":                 {unix.EPIPE, unix.ENOBUFS, unix.ETOOMANYREFS, unix.EINTR},
	"recvmsg":                 {unix.ECONNRESET, unix.ENOMEM, unix.EINTR},
}

// usual are the errnos of other calls.
var usual = []unix.Errno{unix.EPERM, unix.ENOMEM, unix.ENOSYS, unix.EINVAL}

// faults are the cases for calls that were counted: each errno for each of the calls, or for
// at most most of them, the first, the last and some between.
func faults(counts map[string]int, most int) []fault {
	var all []fault
	for call, count := range counts {
		if slices.Contains(ofTheRuntime, call) {
			continue
		}
		able := errnos[call]
		if able == nil {
			able = usual
		}
		for _, nth := range spread(count, most) {
			for _, errno := range able {
				all = append(all, fault{call, nth, errno})
			}
		}
	}
	slices.SortFunc(all, func(a, b fault) int {
		return cmp.Or(cmp.Compare(a.call, b.call), a.nth-b.nth, cmp.Compare(a.errno, b.errno))
	})
	return all
}

// spread are up to most numbers from 1 to count, the first and the last among them.
func spread(count, most int) []int {
	if count <= most {
		most = count
	}
	var all []int
	for i := range most {
		nth := 1
		if most > 1 {
			nth = 1 + i*(count-1)/(most-1)
		}
		all = append(all, nth)
	}
	return slices.Compact(all)
}
