/* The least that a sandbox of memjail's kind can cost: the same kernel round trips
 * and nothing else. It protects nothing; it is what the benchmark holds memjail
 * against.
 *
 *	limit continue CMD...   opens are notified; the path is read, the call goes on
 *	limit inject CMD...     the same, and what lies in /proc is opened and injected
 *	limit inject-in-two-steps CMD...
 *	                        the same, but the call is answered with the number that the
 *	                        descriptor has got: in one step it can be answered with 0
 *	limit landlock CMD...   no supervisor: a rule for each entry of / but /proc
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif
#ifndef SECCOMP_ADDFD_FLAG_SEND
#define SECCOMP_ADDFD_FLAG_SEND (1UL << 1)
#endif
#define IOCTL_SET_FLAGS _IOW('!', 4, __u64)
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static volatile int *listener;
static int injecting, steps = 1;

static void die(const char *what)
{
	fprintf(stderr, "limit: %s: %s\n", what, strerror(errno));
	_exit(125);
}

static void load(void)
{
	struct sock_filter program[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 1, 0),
		ALLOW,
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
	};
	struct sock_fprog filter = { sizeof program / sizeof *program, program };
	int fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &filter);
	if (fd < 0)
		die("loading the filter");
	*listener = fd;
}

static void answer(int fd, struct seccomp_notif *n)
{
	struct seccomp_notif_resp go = { .id = n->id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE };
	char path[256] = "", own[300];
	struct iovec here = { path, sizeof path - 1 }, there = { (void *)(unsigned long)n->data.args[1], sizeof path - 1 };

	/* A page's end may cut the reading short. */
	unsigned long rest = 4096 - (n->data.args[1] & 4095);
	if (rest < there.iov_len)
		there.iov_len = rest;
	process_vm_readv(n->pid, &here, 1, &there, 1, 0);
	if (injecting && !strncmp(path, "/proc/", 6)) {
		if (!strncmp(path, "/proc/self/", 11))
			snprintf(own, sizeof own, "/proc/%u/%s", n->pid, path + 11);
		else
			strcpy(own, path);
		int file = open(own, (int)n->data.args[2], 0);
		struct seccomp_notif_addfd add = { .id = n->id, .flags = steps == 1 ? SECCOMP_ADDFD_FLAG_SEND : 0,
			.srcfd = file, .newfd_flags = n->data.args[2] & O_CLOEXEC };
		int number = file < 0 ? -1 : ioctl(fd, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
		close(file);
		if (number >= 0 && steps == 1)
			return;
		if (number >= 0)
			go.val = number, go.flags = 0;
	}
	ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &go);
}

static void *serve(void *unused)
{
	int fd = *listener;

	(void)unused;
	for (;;) {
		struct seccomp_notif n;
		memset(&n, 0, sizeof n);
		if (ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &n) == 0) {
			answer(fd, &n);
		} else if (errno == ENOENT) {
			struct pollfd p = { .fd = fd };
			if (poll(&p, 1, 0) > 0 && p.revents & POLLHUP)
				return NULL;
		} else if (errno != EINTR) {
			return NULL;
		}
	}
}

static int supervised(void *argv)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		die("no_new_privs");
	load();
	execvp(((char **)argv)[0], argv);
	die("executing the command");
	return 125;
}

static int supervise(char **argv)
{
	static char stack[64 << 10] __attribute__((aligned(16)));
	pthread_t t;
	int status;

	listener = mmap(NULL, sizeof *listener, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	/* A shared descriptor table brings the listener here without a message. */
	pid_t child = clone(supervised, stack + sizeof stack, CLONE_FILES | SIGCHLD, argv);
	if (child < 0)
		die("clone");
	while (!*listener)
		if (waitpid(child, &status, WNOHANG) == child)
			return 125;
	ioctl(*listener, IOCTL_SET_FLAGS, 1UL); /* SYNC_WAKE_UP, Linux 6.6 */
	for (int i = 0; i < (injecting ? 2 : 1); i++)
		pthread_create(&t, NULL, serve, NULL);
	waitpid(child, &status, 0);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

static void restrict_self(void)
{
	int abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	if (abi < 1)
		die("landlock");
	/* All rights of the kernel's ABI: 13, then REFER, TRUNCATE and IOCTL_DEV. */
	__u64 rights = (1ULL << (abi >= 5 ? 16 : abi >= 3 ? 15 : abi >= 2 ? 14 : 13)) - 1;
	struct { __u64 fs; } attr = { rights };
	int ruleset = syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
	if (ruleset < 0)
		die("creating the ruleset");
	DIR *root = opendir("/");
	for (struct dirent *e; (e = readdir(root));) {
		if (e->d_name[0] == '.' || !strcmp(e->d_name, "proc") || e->d_type != DT_DIR)
			continue;
		struct landlock_path_beneath_attr rule = { .allowed_access = rights };
		rule.parent_fd = openat(dirfd(root), e->d_name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (rule.parent_fd >= 0)
			syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
		close(rule.parent_fd);
	}
	closedir(root);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_landlock_restrict_self, ruleset, 0))
		die("restricting");
	close(ruleset);
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: limit continue|inject|inject-in-two-steps|landlock CMD...\n");
		return 2;
	}
	if (!strcmp(argv[1], "landlock")) {
		restrict_self();
		execvp(argv[2], argv + 2);
		die("executing the command");
	}
	injecting = !strncmp(argv[1], "inject", 6);
	if (!strcmp(argv[1], "inject-in-two-steps"))
		steps = 2;
	return supervise(argv + 2);
}
