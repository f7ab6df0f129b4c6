/*
 * checkcontinue CMD ARGS: the control of the race. A supervisor of the kind that
 * does not hold: it reads the path of every open, looks where it leads, from the
 * directory of the call and through links, answers EACCES when that is a mem file
 * and lets the kernel continue otherwise, with nothing behind it. The kernel looks a
 * second time, and by then the path may say, or mean, something else.
 */
#include "attack.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <limits.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define NR offsetof(struct seccomp_data, nr)
#define JUMP(nr, yes) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), (yes), 0)

static int install(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NR),
#ifdef __NR_open
		JUMP(__NR_open, 3),
#else
		JUMP(__NR_openat, 3),
#endif
		JUMP(__NR_openat, 2),
		JUMP(__NR_openat2, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
	};
	struct sock_fprog prog = { sizeof code / sizeof *code, code };
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return (int)syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER,
			    SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog);
}

static void send_fd(int sock, int fd)
{
	char byte = 0, ctl[CMSG_SPACE(sizeof fd)] = { 0 };
	struct iovec io = { &byte, 1 };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof ctl };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	sendmsg(sock, &m, 0);
}

static int recv_fd(int sock)
{
	int fd = -1;
	char byte, ctl[CMSG_SPACE(sizeof fd)];
	struct iovec io = { &byte, 1 };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof ctl };
	if (recvmsg(sock, &m, 0) == 1 && CMSG_FIRSTHDR(&m))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
	return fd;
}

static int names_memory(const struct seccomp_notif *n)
{
	char path[256] = "";
	int first = 1;
#ifdef __NR_open
	first = n->data.nr == __NR_open ? 0 : 1;
#endif
	uint64_t at = n->data.args[first];
	/* Up to the end of a page at most: the next may not be mapped. */
	size_t room = 4096 - (at & 4095);
	struct iovec in = { path, room < sizeof path ? room : sizeof path - 1 };
	struct iovec far = { (void *)(uintptr_t)at, in.iov_len };
	if (process_vm_readv((pid_t)n->pid, &in, 1, &far, 1, 0) < 0)
		return 1;
	path[sizeof path - 1] = 0;
	char full[512], real[PATH_MAX];
	snprintf(full, sizeof full, "%s", path);
	if (path[0] != '/' && (first == 0 || (int)n->data.args[0] == AT_FDCWD))
		snprintf(full, sizeof full, "/proc/%d/cwd/%s", (int)n->pid, path);
	else if (path[0] != '/')
		snprintf(full, sizeof full, "/proc/%d/fd/%d/%s", (int)n->pid, (int)n->data.args[0], path);
	if (!realpath(full, real))
		return 0;
	size_t len = strlen(real);
	return strncmp(real, "/proc/", 6) == 0 && len > 4 && strcmp(real + len - 4, "/mem") == 0;
}

static void serve(int listener)
{
	struct seccomp_notif n;
	for (;;) {
		memset(&n, 0, sizeof n);
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &n)) {
			if (errno == EINTR || errno == ENOENT)
				continue;
			return;
		}
		struct seccomp_notif_resp r = { .id = n.id };
		if (names_memory(&n))
			r.error = -EACCES;
		else
			r.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &r);
	}
}

int main(int argc, char **argv)
{
	int pair[2];
	if (argc < 2 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return 2;
	pid_t p = fork();
	if (p == 0) {
		int listener = install();
		if (listener < 0)
			_exit(3);
		send_fd(pair[1], listener);
		close(listener);
		execvp(argv[1], argv + 1);
		_exit(127);
	}
	close(pair[1]);
	int listener = recv_fd(pair[0]);
	pid_t server = fork();
	if (server == 0) {
		serve(listener);
		_exit(0);
	}
	close(listener);
	int status = 0;
	waitpid(p, &status, 0);
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
