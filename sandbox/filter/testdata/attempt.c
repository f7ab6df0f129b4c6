// Tries calls that memjail's filters decide about, under a filter read from a
// file, and prints one line for each: its name, then the error or "OK". An
// effect is looked at where there is one. Modes:
//   attempt none            the control: no filter
//   attempt plain FILE      under the filter
//   attempt listen FILE     likewise, while a parent answers notifications: opens
//                           go on, everything else is refused with EPERM; each
//                           is printed as "notified ABI NUMBER"
//   attempt own FILE|none   what a supervisor may not do
//   attempt address         where own's empty path is, in decimal
// It is linked statically and not position-independent, so that the addresses
// fit 32-bit calls and are the same in every run.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static const char empty[1] = "";
static volatile int canary;

static void say(const char *name, long result)
{
	const char *what = result < 0 ? strerrorname_np(errno) : "OK";
	dprintf(1, "%s %s\n", name, what ? what : "?");
}

static long load(const char *path, unsigned flags)
{
	static struct sock_filter code[4096];
	int fd = open(path, O_RDONLY);
	long n = read(fd, code, sizeof code);
	close(fd);
	struct sock_fprog program = {n / sizeof code[0], code};
	if (n <= 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) {
		perror("attempt: preparing the filter");
		exit(3);
	}
	long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
	if (r < 0) {
		perror("attempt: loading the filter");
		exit(3);
	}
	return r;
}

// legacy makes a 32-bit call, as any program can. The sixth argument is 0.
static long legacy(long nr, long a, long b, long c, long d, long e)
{
	long r;
	__asm__ volatile("mov %%rbp, %%r12\n\txor %%ebp, %%ebp\n\tint $0x80\n\tmov %%r12, %%rbp"
			 : "=a"(r)
			 : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
			 : "memory", "r8", "r9", "r10", "r11", "r12");
	r = (int)r;
	if (r < 0 && r > -4096) {
		errno = -r;
		return -1;
	}
	return r;
}

// apart runs an attempt that changes the caller in a process of its own.
static void apart(const char *name, long (*attempt)(void))
{
	pid_t child = fork();
	if (child == 0) {
		say(name, attempt());
		_exit(0);
	}
	waitpid(child, NULL, 0);
}

static long traceme(void) { return ptrace(PTRACE_TRACEME, 0, 0, 0); }
static long traceme32(void) { return legacy(26, 0, 0, 0, 0, 0); }
static long unshare_user(void) { return syscall(SYS_unshare, CLONE_NEWUSER); }
static long unshare_user32(void) { return legacy(310, CLONE_NEWUSER, 0, 0, 0, 0); }
static long clone_user(void)
{
	long r = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
	if (r == 0)
		_exit(0);
	return r;
}

static long attach(void)
{
	pid_t child = fork();
	if (child == 0)
		for (;;)
			pause();
	long r = ptrace(PTRACE_ATTACH, child, 0, 0);
	int error = errno;
	kill(child, SIGKILL);
	waitpid(child, NULL, __WALL);
	errno = error;
	return r;
}

// limit lowers RLIMIT_CORE; it fails with EALREADY if the call says "done" and
// nothing was.
static long limit(void)
{
	struct rlimit before, after;
	getrlimit(RLIMIT_CORE, &before);
	struct rlimit wanted = {before.rlim_cur == 0 ? 1 : 0, before.rlim_max};
	if (setrlimit(RLIMIT_CORE, &wanted) || syscall(SYS_setrlimit, RLIMIT_CORE, &wanted))
		return -1;
	getrlimit(RLIMIT_CORE, &after);
	errno = EALREADY;
	return after.rlim_cur == wanted.rlim_cur ? 0 : -1;
}

static long other_limit(void)
{
	struct rlimit l;
	getrlimit(RLIMIT_NOFILE, &l);
	return prlimit(getppid(), RLIMIT_NOFILE, &l, NULL);
}

static long write_self(void)
{
	int value = 7;
	struct iovec local = {&value, sizeof value}, remote = {(void *)&canary, sizeof canary};
	long r = process_vm_writev(getpid(), &local, 1, &remote, 1, 0);
	if (r > 0 && canary != 7)
		abort();
	return r;
}

static long write_self32(void)
{
	static int value = 9;
	static struct { uint32_t base, length; } local, remote;
	local.base = (uintptr_t)&value;
	remote.base = (uintptr_t)&canary;
	local.length = remote.length = sizeof value;
	return legacy(348, getpid(), (long)&local, 1, (long)&remote, 1);
}

static long read_self(void)
{
	int value;
	struct iovec local = {&value, sizeof value}, remote = {(void *)&canary, sizeof canary};
	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
}

static void attempts(void)
{
	apart("ptrace-traceme", traceme);
	apart("ptrace-attach", attach);
	say("process_vm_readv", read_self());
	say("process_vm_writev", write_self());
	say("kcmp", syscall(SYS_kcmp, getpid(), getpid(), 1, 0, 0));
	say("userfaultfd", syscall(SYS_userfaultfd, O_CLOEXEC | 1));
	apart("unshare-user", unshare_user);
	apart("clone-user", clone_user);
	say("clone3", syscall(SYS_clone3, NULL, 0));
	say("io_uring_setup", syscall(SYS_io_uring_setup, 0, NULL));
	apart("limit-core", limit);
	apart("limit-other", other_limit);
	say("ioctl-tiocsti", syscall(SYS_ioctl, -1, 0x5412L, NULL));
	say("ioctl-tiocsti-garbage", syscall(SYS_ioctl, -1, 0xdeadbeef00005412L, NULL));
	say("ioctl-other", syscall(SYS_ioctl, -1, 0x5401L, NULL));
	say("process_mrelease", syscall(SYS_process_mrelease, -1, 0));
	say("move_pages-self", syscall(SYS_move_pages, 0, 0, NULL, NULL, NULL, 0));
	say("move_pages-other", syscall(SYS_move_pages, getpid(), 0, NULL, NULL, NULL, 0));
	say("openat-read", openat(AT_FDCWD, "/", O_RDONLY));
	say("openat-write", openat(AT_FDCWD, "/dev/null", O_WRONLY));

	apart("32-ptrace-traceme", traceme32);
	say("32-process_vm_writev", write_self32());
	say("32-process_vm_canary", canary == 9 ? 0 : (errno = EALREADY, -1));
	apart("32-unshare-user", unshare_user32);
	say("32-io_uring_setup", legacy(425, 0, 0, 0, 0, 0));
	say("32-clone3", legacy(435, 0, 0, 0, 0, 0));
	say("32-open_tree_attr", legacy(467, -1, (long)empty, 0, 0, 0));
	say("32-ioctl-tiocsti", legacy(54, -1, 0x5412, 0, 0, 0));
	say("32-getppid", legacy(64, 0, 0, 0, 0, 0));
	static char root[] = "/";
	say("32-open", legacy(5, (long)root, O_RDONLY, 0, 0, 0));
}

// answer serves the listener until nobody is left under the filter.
static void answer(int listener)
{
	for (;;) {
		struct seccomp_notif request;
		memset(&request, 0, sizeof request);
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request))
			return;
		struct seccomp_notif_resp response = {.id = request.id, .error = -EPERM};
		int nr = request.data.nr;
		int legacy_call = request.data.arch == 0x40000003;
		if (legacy_call ? nr == 5 || nr == 295 : nr == SYS_openat || nr == SYS_open) {
			response.error = 0;
			response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		}
		dprintf(1, "notified %s %d\n", legacy_call ? "i386" : "x86_64", nr);
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
	}
}

// listen runs the attempts in a child that shares this process's descriptors, so
// that its listener appears here.
static void listen_and_answer(const char *path)
{
	int ready[2];
	if (pipe(ready))
		exit(3);
	long child = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
	if (child == 0) {
		int fd = load(path, SECCOMP_FILTER_FLAG_NEW_LISTENER);
		if (write(ready[1], &fd, sizeof fd) != sizeof fd)
			_exit(3);
		attempts();
		_exit(0);
	}
	int listener;
	if (read(ready[0], &listener, sizeof listener) == sizeof listener)
		answer(listener);
	waitpid(child, NULL, 0);
}

static void *thread(void *unused) { return unused; }

static long make_thread(void)
{
	pthread_t t;
	int e = pthread_create(&t, NULL, thread, NULL);
	if (e) {
		errno = e;
		return -1;
	}
	return pthread_join(t, NULL);
}

// reap makes a child that ends at once, by fork or by clone with other flags.
static long reap(long flags)
{
	long r = flags ? syscall(SYS_clone, flags, 0, 0, 0, 0) : syscall(SYS_fork);
	if (r == 0)
		_exit(0);
	if (r > 0)
		waitpid(r, NULL, 0);
	return r;
}

static void supervisor(void)
{
	say("thread", make_thread());
	say("fork", reap(0));
	say("clone", reap(SIGCHLD));
	say("socket", socket(AF_UNIX, SOCK_STREAM, 0));
	say("process_vm_readv", read_self());
	say("process_vm_writev", write_self());
	say("32-getppid", legacy(64, 0, 0, 0, 0, 0));
	char *const arguments[] = {"attempt", "address", NULL};
	say("execve-missing", execve("/nonexistent", arguments, NULL));
	say("execveat-flags", syscall(SYS_execveat, 9, empty, arguments, NULL, AT_EMPTY_PATH | 1));
	say("execveat-elsewhere", syscall(SYS_execveat, 9, empty + 1, arguments, NULL, AT_EMPTY_PATH | 1));
	say("execveat", syscall(SYS_execveat, 9, empty, arguments, NULL, AT_EMPTY_PATH));
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	if (!strcmp(mode, "address")) {
		printf("%lu\n", (unsigned long)empty);
	} else if (!strcmp(mode, "none")) {
		attempts();
	} else if (!strcmp(mode, "plain") && argc > 2) {
		load(argv[2], 0);
		attempts();
	} else if (!strcmp(mode, "listen") && argc > 2) {
		listen_and_answer(argv[2]);
	} else if (!strcmp(mode, "own") && argc > 2) {
		if (dup2(open("/proc/self/exe", O_RDONLY | O_CLOEXEC), 9) != 9)
			return 3;
		if (strcmp(argv[2], "none"))
			load(argv[2], 0);
		supervisor();
	} else {
		return 2;
	}
	return 0;
}
