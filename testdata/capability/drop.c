/* How a runtime in C drops the memory capability when it starts. */
#include <errno.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

/* 0: dropped. ENOSYS: not installed here. Another errno: see docs/capability.md. */
static int drop_memory_capability(void)
{
	enum { OPTION = 0x4d454d4a, QUERY = 0x100, DROP = 0x101, KEEP = 1 | 2 | 4 | 8 | 64 | 128 };
	struct rlimit one = {1, 1};
	prctl(OPTION, QUERY, 0L, 0L, 0L);
	if (errno == EINVAL)
		return ENOSYS;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L))
		return errno;
	/* A handler of core dumps behind a pipe is started for every limit but 1, and gets what
	 * coredump_filter names. */
	setrlimit(RLIMIT_CORE, &one);
	FILE *filter = fopen("/proc/self/coredump_filter", "w");
	if (filter) {
		fputs("0", filter);
		fclose(filter);
	}
	for (int tries = 0; tries < 1000; tries++) {
		prctl(OPTION, DROP, (long)KEEP, 0L, 0L);
		if (errno != EAGAIN)
			break;
		usleep(1000); /* somebody is looking at this process */
	}
	return errno == EALREADY ? 0 : errno;
}

#ifdef LIBRARY
/* As a library, for LD_PRELOAD: a program starts without the capability, or not at all. */
__attribute__((constructor)) static void at_start(void)
{
	int err = drop_memory_capability();
	if (err && err != ENOSYS) {
		fprintf(stderr, "dropping the memory capability failed: errno %d\n", err);
		_exit(125);
	}
}
#else
int main(void)
{
	int err = drop_memory_capability();
	FILE *mem = fopen("/proc/self/mem", "r+");
	printf("c: %d, memory %s\n", err, mem ? "open" : "closed");
	return 0;
}
#endif
