/* perf: samples of a busy child's stack contain its canary. */
#include "attack.h"
#include <linux/perf_event.h>
#include <time.h>

#define PAGES 64

static pid_t busy(void)
{
	pid_t p = fork();
	if (p == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		volatile uint64_t mark[8], n = 0;
		for (int i = 0; i < 8; i++)
			mark[i] = CANARY_OLD;
		for (;;)
			n += mark[n & 7];
	}
	return p;
}

int main(void)
{
	struct perf_event_attr a = {
		.type = PERF_TYPE_SOFTWARE, .size = sizeof a, .config = PERF_COUNT_SW_CPU_CLOCK,
		.sample_period = 100000, .sample_type = PERF_SAMPLE_STACK_USER,
		.sample_stack_user = 1024, .exclude_kernel = 1, .exclude_hv = 1,
	};
	pid_t p = busy();
	int fd = (int)syscall(__NR_perf_event_open, &a, p, -1, -1, 0), err = errno;
	if (fd < 0) {
		report("perf-stack-child", REFUSED, err);
	} else {
		size_t len = (1 + PAGES) * 4096;
		char *m = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		struct timespec wait = { 0, 100000000 };
		uint64_t want[2] = { CANARY_OLD, CANARY_OLD };
		nanosleep(&wait, NULL);
		int seen = m != MAP_FAILED && memmem(m + 4096, PAGES * 4096, want, sizeof want) != NULL;
		report("perf-stack-child", seen ? READ_OUT : OPENED, 0);
	}
	kill(p, SIGKILL);
	waitpid(p, NULL, 0);
	return 0;
}
