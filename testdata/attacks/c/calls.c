// calls: makes system calls that memjail refuses, and says which were refused and how.
//
//	calls      one line for each, "NAME ok" or "NAME ERRNO"
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *name, long result) {
	printf("%s %s\n", name, result < 0 ? strerrorname_np(errno) : "ok");
}

int main(void) {
	static char secret[16] = "secret", copy[16];
	struct iovec local = {copy, 16}, remote = {secret, 16};
	struct rlimit limit = {0, 0};
	int one = 1;
	say("process_vm_readv", syscall(SYS_process_vm_readv, getpid(), &local, 1, &remote, 1, 0));
	say("process_vm_writev", syscall(SYS_process_vm_writev, getpid(), &local, 1, &remote, 1, 0));
	pid_t child = fork();
	if (child == 0)
		_exit(ptrace(PTRACE_TRACEME) < 0 ? errno : 0);
	int status;
	waitpid(child, &status, 0);
	errno = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
	say("ptrace", errno ? -1 : 0);
	say("kcmp", syscall(SYS_kcmp, getpid(), getpid(), 2, 0, 0));
	say("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, (int[2]){0}));
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	say("SO_KEEPALIVE", setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one));
	say("SO_ZEROCOPY", setsockopt(fd, SOL_SOCKET, 60, &one, sizeof one));
	child = fork();
	if (child == 0) {
		pause();
		_exit(0);
	}
	syscall(SYS_prlimit64, child, RLIMIT_NOFILE, 0, &limit); // which stays as it is
	say("prlimit of another", syscall(SYS_prlimit64, child, RLIMIT_NOFILE, &limit, 0));
	kill(child, SIGKILL);
	getrlimit(RLIMIT_CORE, &limit);
	limit.rlim_cur = limit.rlim_max;
	say("RLIMIT_CORE", syscall(SYS_prlimit64, 0, RLIMIT_CORE, &limit, 0));
	say("clone3", syscall(SYS_clone3, 0, 0) < 0 && errno == ENOSYS ? -1 : 0);
	say("unshare", unshare(CLONE_NEWUSER));
	return 0;
}
