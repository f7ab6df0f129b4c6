/*
 * leaders OPENS SECONDS: processes whose threads open their own memory and harmless files of
 * procfs while the leader of their group exits, or another thread executes this program again
 * and becomes the leader, under its number. It prints
 *
 *   RACE opens N harmless N refused N torn N memory N changed N
 *   LEADERS exits N execs N
 *
 * "harmless" counts files that say what they have to say about this process, "torn" opens
 * that failed because the process was ending or its leader was gone, "memory" opens of a mem
 * file, and of another process's file under this one's name.
 */
#include "attack.h"
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define THREADS 3
#define EXECS 8 /* until a process ends */

struct counts {
	atomic_ulong opens, plain, refused, torn, got, changed, exits, execs;
};

static struct counts *counts;
static char marker[32]; /* of this process, in its environment */
static int pause_us;

static void examine(int fd, int kind)
{
	char text[4096] = "";
	uint64_t v = CANARY_NEW;
	if (kind == 0) {
		counts->got++;
		if (pwrite(fd, &v, sizeof v, (off_t)(uintptr_t)&canary) == sizeof v && canary == CANARY_NEW)
			counts->changed++;
		canary = CANARY_OLD;
		return;
	}
	ssize_t n = read(fd, text, sizeof text - 1);
	const char *want = kind == 1 ? "exe\n" : marker; /* as this was executed */;
	if (n <= 0)
		counts->torn++;
	else if (memmem(text, (size_t)n, want, strlen(want)))
		counts->plain++;
	else
		counts->got++;
}

static void *opener(void *arg)
{
	unsigned turn = (unsigned)(uintptr_t)arg;
	char leader[32], *names[] = { "/proc/self/mem", "/proc/self/comm", "/proc/self/environ", "/proc/thread-self/mem",
		"/proc/thread-self/comm", leader };
	int kinds[] = { 0, 1, 2, 0, 1, 0 };
	snprintf(leader, sizeof leader, "/proc/%d/mem", getpid());
	for (;; turn++) {
		int i = (int)(turn % 6), fd = open(names[i], kinds[i] ? O_RDONLY : O_RDWR);
		counts->opens++;
		if (fd >= 0) {
			examine(fd, kinds[i]);
			close(fd);
		} else if (kinds[i] == 0 && (errno == EACCES || errno == EPERM)) {
			counts->refused++;
		} else {
			counts->torn++;
		}
	}
	return NULL;
}

static void *end(void *arg)
{
	usleep((useconds_t)pause_us);
	if (!arg)
		_exit(0);
	counts->execs++;
	char **argv = arg;
	execv("/proc/self/exe", argv);
	_exit(9);
}

/* role is a process: after NTH executions it ends. */
static int role(char **argv)
{
	int nth = atoi(argv[3]);
	pthread_t t;
	char number[12], *again[] = { argv[0], argv[1], argv[2], number, NULL };
	snprintf(number, sizeof number, "%d", nth + 1);
	snprintf(marker, sizeof marker, "MARKER=%s", getenv("MARKER"));
	pause_us = 200 + (getpid() * 7 + nth * 131) % 1500;
	for (int i = 0; i < THREADS; i++)
		pthread_create(&t, NULL, opener, (void *)(uintptr_t)i);
	if (nth >= EXECS) {
		usleep((useconds_t)pause_us);
		_exit(0);
	}
	pthread_create(&t, NULL, end, again);
	if (nth % 2) {
		counts->exits++;
		syscall(__NR_exit, 0); /* the leader alone */
	}
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	int file = argc > 3 ? atoi(argv[2]) : fileno(tmpfile());
	if (argc == 3 && ftruncate(file, sizeof *counts))
		return 2;
	counts = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (counts == MAP_FAILED)
		return 2;
	if (argc > 3)
		return role(argv);
	unsigned long limit = strtoul(argv[1], NULL, 10);
	time_t until = time(NULL) + atoi(argv[2]);
	for (unsigned long n = 0; counts->opens < limit && time(NULL) < until; n++) {
		pid_t p = fork();
		if (p == 0) {
			char fd[12], mark[32];
			snprintf(fd, sizeof fd, "%d", file);
			snprintf(mark, sizeof mark, "%lu.", n);
			setenv("MARKER", mark, 1);
			execl("/proc/self/exe", argv[0], argv[1], fd, "0", NULL);
			_exit(9);
		}
		waitpid(p, NULL, 0);
	}
	printf("RACE opens %lu harmless %lu refused %lu torn %lu memory %lu changed %lu\n", counts->opens, counts->plain,
	       counts->refused, counts->torn, counts->got, counts->changed);
	printf("LEADERS exits %lu execs %lu\n", counts->exits, counts->execs);
	return 0;
}
