// Attacks on the memory capability. Every attempt runs in a process of its own:
//
//	attack control NAME...    nothing is dropped: each must print "NAME open"
//	attack drop NAME...       the process under attack, or the attacker, has dropped it
//
// "all" stands for every attempt. An attempt is judged by its effect wherever it has
// one: a word that only the attack changes, or a secret that only the attack finds.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/kcmp.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OPEN = 1, CLOSED = 0, UNPROVEN = -1 };
enum { OPTION = 0x4d454d4a, QUERY = 0x100, DROP = 0x101, SUPERVISE = 0x102, DROP_AND_EXEC = 0x103, PAUSE = 0x104 };
enum { DEFAULT = 207, NO_MEMFD = 143, NO_SYSTEM = 199, NO_ID_MAPS = 79 };
enum { KEPT_DIRECTORY = 50, KEPT_MEM = 51 };

static int drops; // this run is with the capability dropped
static const char *self;
static volatile uint64_t word = 1; // what attacks change
static char *page;                 // read-only memory, which only an attack changes

static int drop_to(unsigned long rights)
{
	if (!drops)
		return EALREADY;
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	for (int i = 0; i < 300; i++) {
		int r = prctl(OPTION, DROP, rights, 0, 0);
		if (r == 0)
			return 0;
		if (errno != EAGAIN)
			return errno;
		usleep(1000);
	}
	return EAGAIN;
}
static void drop(void)
{
	int e = drop_to(DEFAULT);
	if (e != EALREADY) {
		printf("(the drop was answered by %s) ", strerror(e));
		fflush(stdout);
	}
}

static int pid_file(pid_t pid, const char *name, int flags)
{
	char path[128];
	snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
	return open(path, flags);
}

// write_mem changes word through a file of memory, of this process.
static int write_mem(int fd)
{
	uint64_t x = 77;
	if (fd < 0)
		return CLOSED;
	int n = pwrite(fd, &x, 8, (off_t)(uintptr_t)&word);
	close(fd);
	return n == 8 && word == 77;
}
static int self_mem(void) { return write_mem(open("/proc/self/mem", O_RDWR)); }
static int status_of(pid_t pid)
{
	int s = 0;
	if (waitpid(pid, &s, __WALL) < 0 || !WIFEXITED(s))
		return UNPROVEN;
	return WEXITSTATUS(s) == 7 ? OPEN : WEXITSTATUS(s) == 8 ? CLOSED : UNPROVEN;
}
static void answer(int outcome) { _exit(outcome == OPEN ? 7 : outcome == CLOSED ? 8 : 9); }
static int in_child(int (*f)(void))
{
	pid_t pid = fork();
	if (!pid)
		answer(f());
	return status_of(pid);
}

/* ---- one's own memory ---- */
static int own_mem(void) { return drop(), self_mem(); }
static int own_mem_read(void)
{
	drop();
	uint64_t x = 0;
	int fd = open("/proc/self/mem", O_RDONLY);
	return fd >= 0 && pread(fd, &x, 8, (off_t)(uintptr_t)&word) == 8 && x == 1;
}
static int own_mem_neither(void) { return drop(), open("/proc/self/mem", 3) >= 0; }
static int own_pagemap(void) { return drop(), open("/proc/self/pagemap", O_RDONLY) >= 0; }
static int own_clear_refs(void) { return drop(), open("/proc/self/clear_refs", O_WRONLY) >= 0; }
static int own_task_mem(void) { return drop(), write_mem(pid_file(getpid(), "task/self/../mem", O_RDWR)) == OPEN || ({ char p[64]; snprintf(p, sizeof p, "task/%d/mem", getpid()); write_mem(pid_file(getpid(), p, O_RDWR)); }); }
static int thread_self_mem(void) { return drop(), write_mem(open("/proc/thread-self/mem", O_RDWR)); }
static int path_reopened(void)
{
	int fd = open("/proc/self/mem", O_PATH);
	drop();
	char p[64];
	snprintf(p, sizeof p, "/proc/self/fd/%d", fd);
	return write_mem(open(p, O_RDWR));
}
static int old_directory(void)
{
	int dir = open("/proc/self", O_RDONLY | O_DIRECTORY);
	drop();
	return write_mem(openat(dir, "mem", O_RDWR));
}
static int child(void) { return drop(), in_child(self_mem); }
static int run_self(const char *what)
{
	execl(self, self, "internal", what, NULL);
	return UNPROVEN;
}
static int exec_mem(void) { return run_self("mem"); }
static int child_exec(void) { return drop(), in_child(exec_mem); }
static int child_vfork(void)
{
	drop();
	pid_t pid = vfork();
	if (!pid) {
		execl(self, self, "internal", "mem", NULL);
		_exit(9);
	}
	return status_of(pid);
}
static int cloned(void *f) { answer(((int (*)(void))f)()); return 0; }
static char stack[1 << 16] __attribute__((aligned(16)));
static int clone_vm(void) { return drop(), status_of(clone(cloned, stack + sizeof stack, CLONE_VM | SIGCHLD, self_mem)); }
static int sibling(void) // CLONE_PARENT: the child of a marked process is its sibling
{
	int pipes[2];
	if (pipe(pipes))
		return UNPROVEN;
	pid_t pid = fork();
	if (!pid) {
		drop();
		pid_t s = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
		if (!s)
			answer(self_mem());
		write(pipes[1], &s, sizeof s);
		_exit(0);
	}
	pid_t s = 0;
	read(pipes[0], &s, sizeof s);
	waitpid(pid, 0, 0);
	return status_of(s);
}
static pthread_barrier_t barrier;
static int outcome;
static void *thread_tries(void *f)
{
	pthread_barrier_wait(&barrier);
	outcome = ((int (*)(void))f)();
	return 0;
}
static int in_old_thread(int (*f)(void))
{
	pthread_t t;
	pthread_barrier_init(&barrier, 0, 2);
	pthread_create(&t, 0, thread_tries, f);
	drop();
	pthread_barrier_wait(&barrier);
	pthread_join(t, 0);
	return outcome;
}
static int old_thread(void) { return in_old_thread(self_mem); }
static int grandchild(void) { return in_child(self_mem); }
static int old_thread_forks(void) { return in_old_thread(grandchild); }
static int old_thread_execs(void) { return in_old_thread(exec_mem); }
static void *drops_elsewhere(void *p) { return drop(), p; }
static int thread_drops(void) // not the leader
{
	pthread_t t;
	pthread_create(&t, 0, drops_elsewhere, 0);
	pthread_join(t, 0);
	return self_mem();
}
static void *leader_gone(void *p)
{
	usleep(100000);
	drop();
	answer(in_child(self_mem));
	return p;
}
static int no_leader(void)
{
	pid_t pid = fork();
	if (!pid) {
		pthread_t t;
		pthread_create(&t, 0, leader_gone, 0);
		pthread_exit(0);
	}
	return status_of(pid);
}
static int own_process_vm(void) // the kernel does not ask: refused by a filter, of "drop --" and the library
{
	uint64_t x = 77;
	drop();
	return process_vm_writev(getpid(), &(struct iovec){&x, 8}, 1, &(struct iovec){(void *)&word, 8}, 1, 0) == 8 && word == 77;
}
static int set_mm(void) { unsigned size; return drop(), prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE, &size, 0, 0) == 0; }

/* ---- a process and its child ---- */
static pid_t victim(int (*then)(void))
{
	pid_t pid = fork();
	if (!pid) {
		if (then)
			then();
		for (;;)
			pause();
	}
	usleep(50000);
	return pid;
}
static int end(pid_t pid, int outcome)
{
	kill(pid, SIGKILL);
	waitpid(pid, 0, __WALL);
	return outcome;
}
static uint64_t read_word(pid_t pid)
{
	uint64_t x = 0;
	process_vm_readv(pid, &(struct iovec){&x, 8}, 1, &(struct iovec){(void *)&word, 8}, 1, 0);
	return x;
}
static int attack_mem(pid_t pid)
{
	uint64_t x = 5, y = 0;
	int fd = pid_file(pid, "mem", O_RDWR);
	return fd >= 0 && pwrite(fd, &x, 8, (off_t)(uintptr_t)&word) == 8 && pread(fd, &y, 8, (off_t)(uintptr_t)&word) == 8 && y == 5;
}
static int attack_readv(pid_t pid) { return read_word(pid) == 1; }
static int attack_writev(pid_t pid)
{
	uint64_t x = 6;
	return process_vm_writev(pid, &(struct iovec){&x, 8}, 1, &(struct iovec){(void *)&word, 8}, 1, 0) == 8;
}
static int attack_trace(pid_t pid)
{
	if (ptrace(PTRACE_ATTACH, pid, 0, 0))
		return CLOSED;
	waitpid(pid, 0, __WALL);
	return ptrace(PTRACE_POKEDATA, pid, page, 99L) == 0; // read-only for everybody else
}
static int attack_kcmp(pid_t pid) { return syscall(SYS_kcmp, pid, getpid(), KCMP_VM, 0, 0) >= 0; }
static int attack_getfd(pid_t pid) { return syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, pid, 0), 0, 0) >= 0; }
static int attack_perf(pid_t pid)
{
	struct perf_event_attr a = {.type = PERF_TYPE_SOFTWARE, .size = sizeof a, .config = PERF_COUNT_SW_TASK_CLOCK,
		.sample_type = PERF_SAMPLE_STACK_USER, .sample_stack_user = 4096, .sample_period = 1000, .exclude_kernel = 1, .exclude_hv = 1};
	return syscall(SYS_perf_event_open, &a, pid, -1, -1, 0) >= 0;
}
static int attack_environ(pid_t pid) { return pid_file(pid, "environ", O_RDONLY) >= 0; }
static int attack_exe(pid_t pid)
{
	char b[256], p[64];
	snprintf(p, sizeof p, "/proc/%d/exe", pid);
	return readlink(p, b, sizeof b) > 0;
}
#define INSIDE(name) static int inside_##name(void) { pid_t v = victim(0); drop(); return end(v, attack_##name(v)); }
#define OUTSIDE(name) static int dropped_##name(void) { drop(); return 0; } \
	static int outside_##name(void) { pid_t v = victim(dropped_##name); return end(v, attack_##name(v)); }
INSIDE(mem) INSIDE(readv) INSIDE(writev) INSIDE(trace) INSIDE(kcmp) INSIDE(getfd) INSIDE(environ) INSIDE(exe) INSIDE(perf)
OUTSIDE(mem) OUTSIDE(readv) OUTSIDE(writev) OUTSIDE(trace) OUTSIDE(kcmp) OUTSIDE(getfd) OUTSIDE(perf)

static int vm_child_traces(void) // C5: one address space, two processes
{
	static pid_t me;
	int attacks(void) { return ptrace(PTRACE_SEIZE, me, 0, 0) == 0; }
	me = getpid();
	drop();
	pid_t pid = fork(); // a plain child first, so that a refusal by the order of birth shows
	if (!pid)
		answer(CLOSED);
	waitpid(pid, 0, 0);
	int r = status_of(clone(cloned, stack + sizeof stack, CLONE_VM | SIGCHLD, attacks));
	return r;
}
static int traced_before(void) // C4: the drop has to fail
{
	int ready[2], go[2];
	pipe(ready), pipe(go);
	pid_t pid = fork();
	if (!pid) {
		char c;
		read(go[0], &c, 1);
		answer(drop_to(DEFAULT) == EALREADY ? OPEN : CLOSED);
	}
	if (ptrace(PTRACE_SEIZE, pid, 0, 0))
		return UNPROVEN;
	write(go[1], "g", 1);
	return status_of(pid);
}
static int traces_before(void)
{
	pid_t v = victim(0);
	if (ptrace(PTRACE_SEIZE, v, 0, 0))
		return UNPROVEN;
	return end(v, drop_to(DEFAULT) == EALREADY ? OPEN : CLOSED);
}
static int traceme_to_dropped(void) // C6
{
	int go[2];
	pipe(go);
	pid_t pid = fork();
	if (!pid) {
		char c;
		read(go[0], &c, 1);
		answer(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0 ? OPEN : CLOSED);
	}
	drop();
	write(go[1], "g", 1);
	return status_of(pid);
}
static int traces_me(void) { return ptrace(PTRACE_TRACEME, 0, 0, 0) == 0; }
static int traceme_inside(void) { return drop(), in_child(traces_me); }

/* ---- descriptors ---- */
// A descriptor, or a file of procfs, that is sent by a process that has dropped nothing.
enum { SENDERS_MEMORY = -1, SENDERS = -2, RECEIVERS = -3 };
static int received(int fd)
{
	int s[2];
	char data = 'x', control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec io = {&data, 1};
	struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	socketpair(AF_UNIX, SOCK_DGRAM, 0, s);
	pid_t pid = fork();
	if (!pid) {
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int));
		if (fd < 0)
			fd = fd == RECEIVERS ? pid_file(getppid(), "maps", O_RDONLY) : open(fd == SENDERS ? "/proc/self/maps" : "/proc/self/mem", fd == SENDERS ? O_RDONLY : O_RDWR);
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
		sleep(1);
		sendmsg(s[1], &m, 0);
		_exit(0);
	}
	if (fd >= 0)
		close(fd);
	drop();
	if (recvmsg(s[0], &m, 0) < 0)
		return UNPROVEN;
	waitpid(pid, 0, 0);
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	return c && c->cmsg_len == CMSG_LEN(sizeof(int)) ? OPEN : CLOSED;
}
static int receive_mem(void) { return received(SENDERS_MEMORY); }
static int receive_others(void) { return received(SENDERS); }
static int receive_own(void) { return received(RECEIVERS); } // must stay open
static int receive_uffd(void) { return received(syscall(SYS_userfaultfd, UFFD_USER_MODE_ONLY)); }
static int receive_plain(void) // must stay open, dropped or not
{
	return received(open("/proc/self/status", O_RDONLY));
}
static int inject(int listener) // one answer, with a descriptor of this process's memory
{
	struct seccomp_notif n = {0};
	int fd = open("/proc/self/mem", O_RDWR);
	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &n))
		return -1;
	struct seccomp_notif_addfd a = {.id = n.id, .srcfd = fd};
	struct seccomp_notif_resp r = {.id = n.id, .val = ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &a)};
	return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &r);
}
static int injected_mem(void) // by a seccomp supervisor that has dropped nothing
{
	int s[2];
	char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec io = {control, 1};
	struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	socketpair(AF_UNIX, SOCK_DGRAM, 0, s);
	pid_t pid = fork();
	if (!pid) {
		struct sock_filter code[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
		struct sock_fprog filter = {4, code};
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		int listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &listener, sizeof listener);
		sendmsg(s[1], &m, 0);
		close(listener);
		drop();
		int fd = syscall(SYS_getppid);
		uint64_t x = 77;
		pwrite(fd, &x, 8, (off_t)(uintptr_t)&word); // the supervisor's word
		_exit(0);
	}
	int listener;
	if (recvmsg(s[0], &m, 0) < 0)
		return UNPROVEN;
	memcpy(&listener, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof listener);
	if (inject(listener))
		return UNPROVEN;
	waitpid(pid, 0, 0);
	return word == 77;
}
static int run_self(const char *what);
// A descriptor of the memory of a process from before its drop: the exec of "drop --"
// leaves that memory behind, the call alone does not.
static int outside_descriptor(int execs)
{
	int go[2], done[2];
	char c;
	uint64_t x = 77, y = 0;
	pipe(go), pipe(done);
	pid_t v = fork();
	if (!v) {
		read(go[0], &c, 1);
		drop();
		dup2(done[1], KEPT_MEM);
		if (execs && drops)
			run_self("wait");
		write(done[1], "d", 1);
		for (;;)
			pause();
	}
	int fd = pid_file(v, "mem", O_RDWR);
	write(go[1], "g", 1);
	read(done[0], &c, 1);
	return end(v, pwrite(fd, &x, 8, (off_t)(uintptr_t)&word) == 8 && pread(fd, &y, 8, (off_t)(uintptr_t)&word) == 8 && y == 77);
}
static int outside_descriptor_exec(void) { return outside_descriptor(1); }
static int outside_descriptor_kept(void) { return outside_descriptor(0); }
static int make_uffd(void) { return drop(), syscall(SYS_userfaultfd, UFFD_USER_MODE_ONLY) >= 0; }
static int outside_fd(void) // C10c: a memfd of the dropped process, opened by an outsider
{
	int fd = memfd_create("shared", 0);
	if (fd != 20)
		dup2(fd, 20), close(fd);
	int dropped(void) { drop(); return 0; }
	pid_t v = victim(dropped);
	close(20);
	return end(v, pid_file(v, "fd/20", O_RDWR) >= 0);
}

/* ---- executing ---- */
static int memfd(int flags)
{
	static const char script[] = "#!/bin/sh\nexit 7\n";
	int fd = memfd_create("program", flags);
	if (fd < 0)
		return UNPROVEN;
	if (flags & MFD_HUGETLB) {
		ftruncate(fd, 2 << 20);
		char *p = mmap(0, 2 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (p == MAP_FAILED)
			return UNPROVEN;
		memcpy(p, script, sizeof script - 1);
	} else
		write(fd, script, sizeof script - 1);
	fchmod(fd, 0755);
	if (drops)
		drop_to(NO_MEMFD);
	pid_t pid = fork();
	if (!pid) {
		char path[64], *argv[] = {path, 0}, *envp[] = {0};
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		execve(path, argv, envp);
		_exit(8);
	}
	return status_of(pid);
}
static int exec_memfd(void) { return memfd(0); }
static int exec_huge_memfd(void) { return memfd(MFD_HUGETLB); }
static void *execs_setuid(void *p)
{
	pthread_barrier_wait(&barrier);
	execl("/tmp/setuid", "/tmp/setuid", "internal", "euid", NULL);
	answer(CLOSED);
	return p;
}
static int other_thread_setuid(void) // C13: no_new_privs is the dropping thread's alone
{
	pid_t pid = fork();
	if (!pid) {
		pthread_t t;
		pthread_barrier_init(&barrier, 0, 2);
		pthread_create(&t, 0, execs_setuid, 0);
		drop();
		pthread_barrier_wait(&barrier);
		pthread_join(t, 0);
	}
	return status_of(pid);
}

#include "program.h"
#include "ring.h"
#include "before.h"

/* ---- namespaces, rights ---- */
static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	int ok = fd >= 0 && write(fd, text, strlen(text)) > 0;
	close(fd);
	return ok;
}
static int userns_capability(void) // C14: CAP_SYS_PTRACE over everybody in a namespace of one's own
{
	pid_t pid = fork();
	if (!pid) {
		if (unshare(CLONE_NEWUSER))
			answer(UNPROVEN);
		answer(outside_trace());
	}
	return status_of(pid);
}
static int other_procfs(void) // a procfs of a pid namespace of one's own
{
	drop();
	if (unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS))
		return UNPROVEN;
	int tries(void)
	{
		if (mount("p", "/tmp", "proc", 0, 0))
			return UNPROVEN;
		int fd = open("/tmp/self/maps", O_RDONLY);
		if (fd < 0)
			return UNPROVEN; // what is harmless stays open
		return write_mem(open("/tmp/self/mem", O_RDWR));
	}
	return in_child(tries);
}
static int outer_procfs(void) // the procfs of the pid namespace outside, by the number there
{
	drop();
	if (unshare(CLONE_NEWUSER | CLONE_NEWPID))
		return UNPROVEN;
	int tries(void)
	{
		int fd = open("/proc/self/maps", O_RDONLY);
		return fd < 0 ? UNPROVEN : self_mem();
	}
	return in_child(tries);
}
static int bound_file(void) // a procfs file that is mounted over an ordinary one
{
	char path[64];
	snprintf(path, sizeof path, "/tmp/bound-%d", getpid());
	close(open(path, O_WRONLY | O_CREAT, 0600));
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) || mount("/proc/self/mem", path, 0, MS_BIND, 0))
		return UNPROVEN;
	drop();
	return write_mem(open(path, O_RDWR));
}
static int first, second;
static void *drops_second(void *p)
{
	if (drops)
		drop_to(second);
	return p;
}
static int intersection(void) // C15: whoever drops first, the fewer rights hold
{
	pthread_t t;
	if (drops)
		drop_to(first);
	pthread_create(&t, 0, drops_second, 0);
	pthread_join(t, 0);
	int tries(void) { return open("/proc/meminfo", O_RDONLY) >= 0; }
	return tries() || in_child(tries) == OPEN;
}
static int fewer_second(void) { return first = DEFAULT, second = NO_SYSTEM, intersection(); }
static int fewer_first(void) { return first = NO_SYSTEM, second = DEFAULT, intersection(); }
static int supervised(unsigned long knows) // by one that is no parent
{
	int ready[2];
	char c;
	pipe(ready);
	pid_t v = fork();
	if (!v) {
		if (drops) {
			prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
			if (prctl(OPTION, DROP, DEFAULT, 4711, 0) != -1 || errno != EALREADY)
				_exit(1);
		}
		write(ready[1], "r", 1);
		for (;;)
			pause();
	}
	read(ready[0], &c, 1);
	if (drops && knows)
		prctl(OPTION, SUPERVISE, 0, knows, 0);
	return end(v, attack_readv(v) && attack_mem(v));
}
static int supervisor_of_it(void) { return supervised(4711); }
static int supervisor_of_others(void) { return supervised(4712); }
static int supervisor_marked(void) // knows the token, and has dropped the capability itself
{
	drop();
	return supervised(4711);
}
static int drop_again(void) { return drop(), drop_to(127), exec_mem(); }

/* ---- core files ---- */
static int core_dump(int before) // C10a
{
	static char secret[64];
	char dir[] = "/tmp/core-XXXXXX";
	snprintf(secret, sizeof secret, "secret-%d-%d", getpid(), 4711 * getpid());
	if (!mkdtemp(dir) || chdir(dir))
		return UNPROVEN;
	struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY}, none = {0, RLIM_INFINITY};
	setrlimit(RLIMIT_CORE, before ? &all : &none);
	int dropped(void) { drop(); return 0; }
	pid_t v = victim(dropped);
	prlimit(v, RLIMIT_CORE, &all, 0);
	kill(v, SIGSEGV);
	waitpid(v, 0, 0);
	char name[64];
	snprintf(name, sizeof name, access("core", F_OK) ? "core.%d" : "core", v);
	int fd = open(name, O_RDONLY);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) || st.st_size == 0)
		return CLOSED;
	char *b = mmap(0, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	return b != MAP_FAILED && memmem(b, st.st_size, secret, strlen(secret)) ? OPEN : CLOSED;
}
static int core_limit_raised(void) { return core_dump(0); }
static int core_limit_before(void) { return core_dump(1); }
static int core_limit_lowered(void) // to 0, which starts a handler behind a pipe; 1 does not
{
	static struct rlimit one = {1, 1}, none = {0, 0}, now;
	int dropped(void) { return setrlimit(RLIMIT_CORE, &one), drop(), 0; }
	pid_t v = victim(dropped);
	prlimit(v, RLIMIT_CORE, &none, 0);
	return end(v, prlimit(v, RLIMIT_CORE, 0, &now) == 0 && now.rlim_cur == 0);
}
static int own_core_limit(void) // must stay open
{
	struct rlimit none = {0, 0};
	return drop(), setrlimit(RLIMIT_CORE, &none) == 0;
}

/* ---- users and groups of a new namespace ---- */
static int id_maps(unsigned long rights)
{
	char map[32];
	if (drops)
		drop_to(rights);
	snprintf(map, sizeof map, "0 %d 1", geteuid());
	if (unshare(CLONE_NEWUSER))
		return UNPROVEN;
	return put("/proc/self/setgroups", "deny") && put("/proc/self/uid_map", map);
}
static int id_maps_without_right(void) { return id_maps(NO_ID_MAPS); }
static int own_id_maps(void) { return id_maps(DEFAULT); } // must stay open
static int child_id_maps(void)                            // must stay open
{
	int in_namespace(void) { return unshare(CLONE_NEWUSER); }
	char path[64], map[32];
	drop();
	pid_t pid = victim(in_namespace);
	snprintf(path, sizeof path, "/proc/%d/uid_map", pid);
	snprintf(map, sizeof map, "0 %d 1", geteuid());
	return end(pid, put(path, map));
}
static int others_id_maps(void)
{
	int in_namespace(void)
	{
		unshare(CLONE_NEWUSER);
		pid_t pid = fork(); // in the same namespace, and no child of who attacks
		if (pid)
			return UNPROVEN;
		setpgid(0, 0);
		for (;;)
			pause();
	}
	char path[64], map[32];
	pid_t pid = victim(in_namespace), of;
	snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
	FILE *f = fopen(path, "r");
	if (!f || fscanf(f, "%d", &of) != 1)
		return end(pid, UNPROVEN);
	drop();
	snprintf(path, sizeof path, "/proc/%d/uid_map", of);
	snprintf(map, sizeof map, "0 %d 1", geteuid());
	int outcome = put(path, map);
	kill(of, SIGKILL);
	return end(pid, outcome);
}

static int outside_core_filter(void) // C10a: what goes into the core file
{
	int dropped(void) { drop(); return 0; }
	pid_t v = victim(dropped);
	char b[16] = {0};
	int fd = pid_file(v, "coredump_filter", O_WRONLY);
	write(fd, "0x7b", 4);
	read(pid_file(v, "coredump_filter", O_RDONLY), b, sizeof b - 1);
	return end(v, strtol(b, 0, 16) == 0x7b);
}

/* ---- root ---- */
static int dev_mem(void) { return drop(), open("/dev/mem", O_RDONLY) >= 0; }
static int bpf_call(void)
{
	union bpf_attr a = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
	return drop(), syscall(SYS_bpf, BPF_MAP_CREATE, &a, sizeof a) >= 0;
}
static int dev_port(void) { return drop(), open("/dev/port", O_RDONLY) >= 0; }
static int kcore(void) { return drop(), open("/proc/kcore", O_RDONLY) >= 0; }
static int dev_uffd(void) // a userfaultfd by way of its device
{
	drop();
	return ioctl(open("/dev/userfaultfd", O_RDWR), USERFAULTFD_IOC_NEW, 0) >= 0;
}
static int tracefs_file(void) { return drop(), open("/sys/kernel/tracing/trace", O_RDONLY) >= 0; }
static int kallsyms(void) { return drop(), open("/proc/kallsyms", O_RDONLY) >= 0; }
static const char *pinned(void) // on the bpffs that the script has mounted
{
	union bpf_attr m = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
	static char path[64];
	snprintf(path, sizeof path, "/tmp/bpffs/pin-%d", getpid());
	union bpf_attr pin = {.pathname = (uintptr_t)path, .bpf_fd = syscall(SYS_bpf, BPF_MAP_CREATE, &m, sizeof m)};
	syscall(SYS_bpf, BPF_OBJ_PIN, &pin, sizeof pin);
	return path;
}
static int pin_removed(void)
{
	const char *p = pinned();
	return drop(), unlink(p) == 0;
}
static int pin_renamed(void)
{
	const char *p = pinned();
	return drop(), rename(p, "/tmp/bpffs/elsewhere") == 0;
}
static int pin_directory_removed(void)
{
	mkdir("/tmp/bpffs/directory", 0700);
	return drop(), rmdir("/tmp/bpffs/directory") == 0;
}
static int bpffs_unmounted(void) { return drop(), umount2("/tmp/bpffs", MNT_DETACH) == 0; }
static int marks_changed(void) // C19: by a process that has dropped nothing, with every capability
{
	union bpf_attr a = {0}, info = {0};
	int changed = CLOSED, frozen = UNPROVEN;
	while (syscall(SYS_bpf, BPF_MAP_GET_NEXT_ID, &a, sizeof a) == 0) {
		union bpf_attr get = {.map_id = a.next_id};
		struct bpf_map_info m = {0};
		int fd = syscall(SYS_bpf, BPF_MAP_GET_FD_BY_ID, &get, sizeof get);
		memset(&info, 0, sizeof info);
		info.info.bpf_fd = fd, info.info.info_len = sizeof m, info.info.info = (uintptr_t)&m;
		if (fd >= 0 && !syscall(SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &info, sizeof info) && (!strcmp(m.name, "marks") || !strcmp(m.name, "grants"))) {
			char key[128] = {0}, value[64] = {0};
			union bpf_attr u = {.map_fd = fd, .key = (uintptr_t)key, .value = (uintptr_t)value};
			if (!syscall(SYS_bpf, BPF_MAP_UPDATE_ELEM, &u, sizeof u))
				changed = OPEN;
			frozen = CLOSED;
		}
		a.start_id = a.next_id;
	}
	if (drops)
		return changed == OPEN ? OPEN : frozen;
	// The control: a map that is not frozen is changed by the same call.
	union bpf_attr c = {.map_type = BPF_MAP_TYPE_HASH, .key_size = 8, .value_size = 16, .max_entries = 1};
	char key[8] = {0}, value[16] = {0};
	union bpf_attr u = {.map_fd = syscall(SYS_bpf, BPF_MAP_CREATE, &c, sizeof c), .key = (uintptr_t)key, .value = (uintptr_t)value};
	return syscall(SYS_bpf, BPF_MAP_UPDATE_ELEM, &u, sizeof u) == 0;
}

/* ---- what must stay open ---- */
static int own_files(void)
{
	static const char *const names[] = {"/proc/self/maps", "/proc/self/status", "/proc/thread-self/maps", "/proc/self/fdinfo/0", "/proc/self/net/dev",
		"/proc/self/environ", "/proc/1/stat", "/proc/1/cmdline", "/proc/cpuinfo", "/proc/sys/kernel/ostype", "/proc/mounts", "/proc/self/task", "/proc/bus/input/devices"};
	drop();
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		int fd = open(names[i], O_RDONLY);
		if (fd < 0 && errno != ENOENT) {
			printf("(%s: %s) ", names[i], strerror(errno));
			return CLOSED;
		}
	}
	return put("/proc/self/comm", "renamed") && put("/proc/self/oom_score_adj", "10");
}
static void *top_level(void *p)
{
	usleep(200000);
	outcome = pid_file(syscall(SYS_gettid), "maps", O_RDONLY) >= 0; // C21
	return p;
}
static int own_thread_by_number(void)
{
	pthread_t t;
	pthread_create(&t, 0, top_level, 0);
	drop();
	pthread_join(t, 0);
	return outcome;
}
static int prctl_answers(void) // C23
{
	if (!drops)
		return OPEN;
	int q(unsigned long op, unsigned long a, unsigned long b) { return prctl(OPTION, op, a, b, 0) ? errno : 0; }
	if (q(QUERY, 0, 0) != ENODATA || q(QUERY, 1, 0) != EINVAL || q(QUERY, 0, 1) != EINVAL || q(7, 0, 0) != EINVAL ||
	    q(DROP, 1 << 20, 0) != EINVAL || prctl(OPTION, DROP, DEFAULT, 0, 1) != -1 || errno != EINVAL || q(SUPERVISE, 0, 0) != EINVAL || (geteuid() && q(DROP, DEFAULT, 0) != EPERM))
		return CLOSED;
	drop();
	return q(QUERY, 0, 0) == EALREADY && q(DROP, DEFAULT, 0) == EALREADY;
}

// The tasks that have dropped the capability leave no mark to whoever gets their place in
// the kernel's memory.
static int reused_tasks(void)
{
	int none(void) { return CLOSED; }
	pid_t pid = fork();
	if (!pid) {
		drop();
		for (int i = 0; i < 300; i++)
			in_child(none);
		_exit(0);
	}
	waitpid(pid, 0, 0);
	for (int i = 0; i < 100; i++)
		if (in_child(self_mem) != OPEN)
			return CLOSED;
	return OPEN;
}

static const struct { const char *name; int (*try)(void); } attempts[] = {
#define A(f) {#f, f}
	A(own_mem), A(own_mem_read), A(own_mem_neither), A(own_pagemap), A(own_clear_refs), A(own_task_mem), A(thread_self_mem), A(path_reopened),
	A(old_directory), A(child), A(child_exec), A(child_vfork), A(clone_vm), A(sibling), A(old_thread), A(old_thread_forks), A(old_thread_execs),
	A(thread_drops), A(no_leader), A(set_mm), A(inside_mem), A(inside_readv), A(inside_writev), A(inside_trace), A(inside_kcmp),
	A(inside_getfd), A(inside_environ), A(inside_exe), A(inside_perf), A(outside_mem), A(outside_readv), A(outside_writev), A(outside_trace),
	A(outside_kcmp), A(outside_getfd), A(outside_perf), A(vm_child_traces), A(traced_before), A(traces_before), A(traceme_to_dropped),
	A(traceme_inside), A(receive_mem), A(receive_uffd), A(make_uffd), A(exec_memfd), A(exec_huge_memfd), A(other_thread_setuid),
	A(userns_capability), A(other_procfs), A(fewer_second), A(fewer_first), A(drop_again), A(supervisor_of_others), A(supervisor_marked), A(core_limit_raised), A(core_limit_before),
	A(recorded_before), A(recorded_thread_before), A(traced_thread_before), A(shared_before), A(shared_table_before), A(shared_table_of_thread), A(token_of_thread), A(receive_others),
	A(core_limit_lowered), A(id_maps_without_right), A(others_id_maps),
	A(ring_inline), A(ring_worker), A(ring_polled), A(ring_polled_worker), A(ring_before), A(ring_polled_before), A(interpreter_memfd),
	A(exec_waits), A(exec_thread_directory), A(outer_procfs), A(bound_file), A(injected_mem), A(outside_descriptor_exec), A(outside_core_filter),
	{0, 0}, // from here on not part of "all"
	A(outside_fd), A(own_process_vm), A(receive_plain), A(own_files), A(own_thread_by_number), A(prctl_answers), A(supervisor_of_it),
	A(receive_own), A(own_core_limit), A(own_id_maps), A(child_id_maps), A(counted_before), A(shared_until_exec), A(fork_waits),
	A(ring_inherited), A(outside_descriptor_kept), A(reused_tasks), A(dev_port), A(kcore), A(dev_uffd),
	A(dev_mem), A(bpf_call), A(tracefs_file), A(kallsyms), A(pin_removed), A(pin_renamed),
	A(pin_directory_removed), A(bpffs_unmounted), A(marks_changed),
};

static void attempt(int i)
{
	printf("%s ", attempts[i].name);
	fflush(stdout);
	pid_t pid = fork();
	if (!pid) {
		alarm(60);
		int r = attempts[i].try();
		printf("%s\n", r == OPEN ? "open" : r == CLOSED ? "closed" : "unproven");
		fflush(stdout);
		_exit(0);
	}
	int s;
	waitpid(pid, &s, 0);
	if (!WIFEXITED(s))
		printf("died of signal %d\n", WTERMSIG(s));
	else if (WEXITSTATUS(s) != 0) // an attempt that became another program
		printf("%s\n", WEXITSTATUS(s) == 7 ? "open" : WEXITSTATUS(s) == 8 ? "closed" : "unproven");
	fflush(stdout);
}

/* C1: opens and children in a race with everything else that the kernel does. */
static int race(int seconds)
{
	long *counts = mmap(0, 4096 * 16, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	drop();
	time_t until = time(0) + seconds;
	for (int p = 0; p < 8; p++)
		if (!fork()) {
			long *c = counts + p * 8;
			while (time(0) < until) {
				for (int i = 0; i < 200; i++) {
					int fd = open("/proc/self/mem", O_RDONLY);
					c[0]++, c[1] += fd >= 0;
					close(fd);
				}
				pid_t child = fork();
				if (!child)
					answer(open("/proc/self/mem", O_RDONLY) >= 0);
				c[2]++, c[3] += status_of(child) != CLOSED;
			}
			_exit(0);
		}
	while (wait(0) > 0)
		;
	long t[4] = {0};
	for (int p = 0; p < 8; p++)
		for (int k = 0; k < 4; k++)
			t[k] += counts[p * 8 + k];
	printf("race: %ld of %ld opens, %ld of %ld children\n", t[1], t[0], t[3], t[2]);
	return 0;
}

/* C22: many children that live at the same time. A mark that cannot be stored fails the
 * fork, and no child is without one. */
static int children(int count)
{
	int go[2], tell[2], born = 0, open_ = 0;
	char c = 0;
	pipe(go), pipe(tell);
	drop();
	for (; born < count; born++) {
		pid_t pid = fork();
		if (pid < 0)
			break;
		if (!pid) {
			close(go[1]);
			c = self_mem() ? 'o' : 'c';
			write(tell[1], &c, 1);
			read(go[0], &c, 1);
			_exit(0);
		}
	}
	for (int i = 0; i < born && read(tell[0], &c, 1) == 1; i++)
		open_ += c == 'o';
	close(go[1]);
	while (wait(0) > 0)
		;
	printf("children: %d of %d born, %d with memory open\n", born, count, open_);
	return 0;
}

/* Processes that drop the capability while root uninstalls it, until a file is there. None of
 * them has memory as long as it lives, which is some seconds. */
static int droppers(const char *stop)
{
	int tell[2], count = 0, lost = 0, refused = 0;
	char c;
	pipe(tell);
	do {
		for (int i = 0; i < 8; i++) {
			if (fork())
				continue;
			int e = drop_to(DEFAULT);
			c = 'r';
			if (e == EALREADY) {
				c = 'c';
				for (int k = 0; k < 100 && c == 'c' && access(stop, F_OK); k++, usleep(50000))
					if (self_mem() == OPEN)
						c = 'o';
			}
			write(tell[1], &c, 1);
			_exit(0);
		}
		for (int i = 0; i < 8 && read(tell[0], &c, 1) == 1; i++)
			count++, lost += c == 'o', refused += c == 'r';
		while (waitpid(-1, 0, WNOHANG) > 0)
			;
	} while (access(stop, F_OK));
	printf("droppers: %d of %d lost, %d refused\n", lost, count - refused, refused);
	return 0;
}

// pauses keeps processes from dropping the capability, as an uninstallation does.
static int pauses(int milliseconds)
{
	prctl(OPTION, PAUSE, milliseconds, 0, 0);
	puts(strerror(errno));
	return 0;
}

// handles reports whether a file of procfs has a handle, which open_by_handle_at(2) opens
// on no path.
static int handles(void)
{
	struct { struct file_handle h; char more[128]; } b = {.h.handle_bytes = 128};
	int mount;
	puts(name_to_handle_at(AT_FDCWD, "/proc/self/mem", &b.h, &mount, 0) ? strerror(errno) : "there are handles");
	return 0;
}

// internal is what a program does that an attempt has executed.
static void internal(const char *what)
{
	if (!strcmp(what, "mem"))
		answer(self_mem());
	if (!strcmp(what, "directory"))
		answer(write_mem(openat(KEPT_DIRECTORY, "mem", O_RDWR)));
	if (!strcmp(what, "wait")) {
		write(KEPT_MEM, "d", 1);
		for (;;)
			pause();
	}
	answer(!strcmp(what, "here") || (!strcmp(what, "euid") && geteuid() == 0));
}

// hold executes a command with a descriptor that gives access to memory.
static int hold(const char *kind, char **command)
{
	struct ring r = {-1};
	struct perf_event_attr a = {.type = PERF_TYPE_SOFTWARE, .size = sizeof a, .config = PERF_COUNT_SW_TASK_CLOCK, .exclude_kernel = 1, .exclude_hv = 1};
	int fd = !strcmp(kind, "ring") ? (make_ring(&r, IORING_SETUP_SQPOLL), r.fd)
		: !strcmp(kind, "userfaultfd") ? (int)syscall(SYS_userfaultfd, UFFD_USER_MODE_ONLY)
		: !strcmp(kind, "perf") ? (int)syscall(SYS_perf_event_open, &a, 0, -1, -1, 0) : open("/dev/null", O_RDONLY);
	if (fd < 0)
		return perror(kind), 3;
	fcntl(fd, F_SETFD, 0);
	execvp(command[0], command);
	return perror(command[0]), 3;
}

int main(int argc, char **argv)
{
	setlinebuf(stdout);
	self = "/proc/self/exe";
	if (argc < 3)
		return 2;
	page = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!strcmp(argv[1], "internal"))
		internal(argv[2]);
	if (!strcmp(argv[1], "hold"))
		return hold(argv[2], argv + 3);
	if (!strcmp(argv[1], "record") || !strcmp(argv[1], "count"))
		return watch(!strcmp(argv[1], "record"), argv + 2);
	drops = !strcmp(argv[1], "drop");
	if (!strcmp(argv[2], "race"))
		return race(atoi(argv[3]));
	if (!strcmp(argv[2], "kept"))
		return kept(atoi(argv[3]), !strcmp(argv[4], "living"), argv[5]);
	if (!strcmp(argv[2], "droppers"))
		return droppers(argv[3]);
	if (!strcmp(argv[2], "pause"))
		return pauses(atoi(argv[3]));
	if (!strcmp(argv[2], "handles"))
		return handles();
	if (!strcmp(argv[2], "children"))
		return children(atoi(argv[3]));
	if (!strcmp(argv[2], "wait")) { // a process that lives on, dropped; it tries again when asked
		drop();
		printf("ready\n");
		fflush(stdout);
		char line[8];
		while (fgets(line, sizeof line, stdin)) {
			printf("own_mem %s\n", self_mem() ? "open" : "closed");
			fflush(stdout);
			word = 1;
		}
		return 0;
	}
	int n = sizeof attempts / sizeof *attempts;
	for (int a = 2; a < argc; a++)
		for (int i = 0; i < n; i++) {
			if (!attempts[i].name) {
				if (!strcmp(argv[a], "all"))
					break;
				continue;
			}
			if (!strcmp(argv[a], "all") || !strcmp(argv[a], attempts[i].name))
				attempt(i);
		}
	return 0;
}
