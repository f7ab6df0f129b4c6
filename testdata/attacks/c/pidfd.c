/* pidfd: pidfd_getfd takes a descriptor of shared memory out of a child, a
 * sibling and a process outside (any descriptor: number 0). */
#include "attack.h"

#ifndef __NR_pidfd_open
#define __NR_pidfd_open 434
#endif
#ifndef __NR_pidfd_getfd
#define __NR_pidfd_getfd 438
#endif

struct holder {
	pid_t pid;
	int memfd, ask, answer;
};

/* holder_start makes a child whose canary is a shared page that no other process maps. */
static struct holder holder_start(void)
{
	struct holder h = { 0, 0, -1, -1 };
	int to[2], from[2];
	if (pipe(to) || pipe(from))
		exit(2);
	h.pid = fork();
	if (h.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		int fd = memfd_create("canary", 0);
		uint64_t v = CANARY_OLD;
		char c;
		close(to[1]);
		if (write(fd, &v, sizeof v) != sizeof v || write(from[1], &fd, sizeof fd) != sizeof fd)
			_exit(2);
		volatile uint64_t *m = mmap(NULL, sizeof v, PROT_READ, MAP_SHARED, fd, 0);
		while (read(to[0], &c, 1) == 1) {
			v = *m;
			if (write(from[1], &v, sizeof v) != sizeof v)
				break;
		}
		_exit(0);
	}
	close(to[0]);
	close(from[1]);
	if (read(from[0], &h.memfd, sizeof h.memfd) != sizeof h.memfd)
		exit(2);
	h.ask = to[1];
	h.answer = from[0];
	return h;
}

static void attack(const char *name, struct holder *h)
{
	uint64_t v = CANARY_NEW;
	int pidfd = (int)syscall(__NR_pidfd_open, h->pid, 0);
	int fd = (int)syscall(__NR_pidfd_getfd, pidfd, h->memfd, 0), err = errno;
	if (fd >= 0 && h->ask >= 0 && pwrite(fd, &v, sizeof v, 0) < 0)
		perror(name);
	v = CANARY_OLD;
	if (h->ask >= 0 && (write(h->ask, "?", 1) != 1 || read(h->answer, &v, sizeof v) != sizeof v))
		perror(name);
	if (v != CANARY_OLD)
		report(name, CHANGED, 0);
	else
		report(name, fd >= 0 ? OPENED : REFUSED, err);
	close(fd);
	close(pidfd);
}

int main(int argc, char **argv)
{
	struct holder h = holder_start();
	attack("getfd-child", &h);
	kill(h.pid, SIGKILL);
	waitpid(h.pid, NULL, 0);

	h = holder_start();
	pid_t p = fork();
	if (p == 0) {
		attack("getfd-sibling", &h);
		_exit(0);
	}
	waitpid(p, NULL, 0);
	kill(h.pid, SIGKILL);
	waitpid(h.pid, NULL, 0);

	struct victim out = victim_outside(argc, argv);
	if (out.pid) {
		struct holder o = { out.pid, 0, -1, -1 };
		attack("getfd-outside", &o);
	}
	return 0;
}
