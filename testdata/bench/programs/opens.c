/* Opens and closes files, and prints how long that took.
 *
 *	opens COUNT PROCESSES THREADS FILE...
 *
 * Every thread of every process opens the files in turn, COUNT times in all. The
 * output is one line: the nanoseconds from the first one's start to the last one's end,
 * and the number of opens of all together. With the FILE "-" it calls getppid(2)
 * instead, which nobody mediates. A file that does not exist is as good as another. A "%d"
 * in its name stands for how many there were before, so that each is another one; those may
 * be refused, too.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long count;
static int threads, nfiles;
static char **files;
static struct {
	pthread_barrier_t barrier;
	long long start; /* of the first thread: who waits for all may be the last to run */
} *shared;

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void *work(void *unused)
{
	(void)unused;
	pthread_barrier_wait(&shared->barrier);
	long long mine = now(), none = 0;
	__atomic_compare_exchange_n(&shared->start, &none, mine, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	for (long i = 0; i < count; i++) {
		const char *file = files[i % nfiles];
		char name[300];
		if (file[0] == '-') {
			syscall(SYS_getppid);
			continue;
		}
		int numbered = strstr(file, "%d") != NULL;
		if (numbered) {
			int before = strstr(file, "%d") - file;
			snprintf(name, sizeof name, "%.*s%ld%s", before, file, i, file + before + 2);
			file = name;
		}
		int fd = syscall(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC, 0);
		if (fd < 0 && (errno == ENOENT || (numbered && errno == EACCES)))
			continue;
		if (fd < 0) {
			fprintf(stderr, "opens: %s: %s\n", file, strerror(errno));
			_exit(1);
		}
		close(fd);
	}
	return NULL;
}

static int process(void)
{
	pthread_t t[64];

	for (int i = 1; i < threads; i++)
		if (pthread_create(&t[i], NULL, work, NULL))
			_exit(1);
	work(NULL);
	for (int i = 1; i < threads; i++)
		pthread_join(t[i], NULL);
	_exit(0);
}

int main(int argc, char **argv)
{
	if (argc < 5 || atoi(argv[3]) > 64) {
		fprintf(stderr, "usage: opens COUNT PROCESSES THREADS FILE...\n");
		return 2;
	}
	count = atol(argv[1]);
	int processes = atoi(argv[2]), failed = 0;
	threads = atoi(argv[3]);
	files = argv + 4;
	nfiles = argc - 4;

	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_barrierattr_t attributes;
	pthread_barrierattr_init(&attributes);
	pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&shared->barrier, &attributes, processes * threads);
	for (int i = 0; i < processes; i++)
		if (fork() == 0)
			process();
	for (int i = 0; i < processes; i++) {
		int status;
		if (wait(&status) < 0 || status != 0)
			failed = 1;
	}
	printf("%lld %ld\n", now() - shared->start, count * processes * threads);
	return failed;
}
