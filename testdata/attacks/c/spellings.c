/*
 * Opens memory and harmless files by random spellings, in random states, and says what came
 * of each.
 *
 *   spellings SEED COUNT DIR [DEPTH]
 *
 * All choices come from SEED, none from what an open gives: so two runs in the same DIR make
 * the same attempts, and their lines can be compared. A line is
 *
 *   NUMBER ATTEMPT | ok WHAT        a descriptor, and what it is open on
 *   NUMBER ATTEMPT | errno NAME
 *   NUMBER ATTEMPT | CHANGED WHAT   it was memory, and the canary held the new value
 *
 * Numbers of processes are P, T and C (itself, the thread, a child that waits) and N (any
 * other), DIR is D.
 * The threads have a working directory each; the first one's stays. Everything is printed at the end, each thread's
 * and child's lines together.
 */
#include "attack.h"
#include <linux/openat2.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* PROCFS is a descriptor of /proc, which stays after a chroot. */
enum { MAX_FDS = 6, LONGEST = 1024, PROCFS = 90 };

struct run {
	uint64_t random;
	long count, number, depth;
	FILE *out;
	int dirs[MAX_FDS]; /* descriptors of directories, of O_PATH or not */
	int stays; /* no chdir: other threads go through this one's working directory */
};

static const char *dir;
static pid_t child;

static unsigned choose(struct run *r, unsigned n)
{
	r->random ^= r->random << 13, r->random ^= r->random >> 7, r->random ^= r->random << 17;
	return (r->random >> 20) % n;
}

#define ONE_OF(r, list) list[choose(r, sizeof list / sizeof *list)]

/* normal writes a path without the numbers that differ from run to run. */
static void normal(FILE *out, const char *path)
{
	struct { long number; char letter; } known[] = {{getpid(), 'P'}, {gettid(), 'T'}, {child, 'C'}};
	for (const char *p = path; *p;) {
		size_t n = strlen(dir);
		if (!strncmp(p, dir, n)) {
			fputc('D', out);
			p += n;
			continue;
		}
		n = strspn(p, "0123456789");
		if (n && (p == path || p[-1] == '/')) {
			char letter = p == path || (p - path >= 6 && (!strncmp(p - 6, "/proc/", 6) || !strncmp(p - 6, "/task/", 6))) ? 'N' : 0;
			for (int i = 2; i >= 0; i--)
				if (atol(p) == known[i].number)
					letter = known[i].letter;
			if (letter)
				fputc(letter, out);
			else
				fwrite(p, 1, n, out);
			p += n;
			continue;
		}
		fputc(*p++, out);
	}
}

static void noise(struct run *r, char *path)
{
	static const char *const between[] = {"/", "/", "/", "/", "//", "/./", "/.//"};
	strcat(path, ONE_OF(r, between));
}

/* directory appends a spelling of a directory of procfs. */
static void process(struct run *r, char *path)
{
	char text[64];
	switch (choose(r, 8)) {
	case 0: case 1: strcat(path, "self"); break;
	case 2: strcat(path, "thread-self"); break;
	case 3: sprintf(text, "self/task/%d", gettid()); strcat(path, text); break;
	case 4: sprintf(text, "%d", getpid()); strcat(path, text); break;
	case 5: sprintf(text, "%d/task/%d", getpid(), gettid()); strcat(path, text); break;
	case 6: sprintf(text, "self/../%d", getpid()); strcat(path, text); break;
	case 7: sprintf(text, "self/task/../../self"); strcat(path, text); break;
	}
}

/* spell writes a path, which starts from the root, the working directory or a descriptor. */
static void spell(struct run *r, char *path, int *at)
{
	static const char *const files[] = {"mem", "mem", "mem", "mem", "stat", "status", "comm", "maps", "cwd/f",
		"root/proc/self/mem", "root/proc/version", "cwd/tomem", "fd/../mem", "task/../comm", "net/../mem"};
	static const char *const links[] = {"tomem", "m2", "toself/mem", "toproc/self/mem", "toproc/thread-self/comm", "far",
		"totask/../mem", "f", "tof", "tostat", "nothing", "d/up", "d/../f", "fifo", "loop", "toroot/proc/self/mem", "tocwd/f",
		"d", "tofd/0", "f/x", "f/"};
	static const char *const system[] = {"version", "cpuinfo", "sys/kernel/ostype", "self", "nothing", "filesystems",
		"sys/../version", "mounts", "net/dev"};
	char *start = path;
	*path = 0, *at = AT_FDCWD;
	switch (choose(r, 9)) {
	case 0: /* by a descriptor */
		*at = r->dirs[choose(r, MAX_FDS)];
		if (choose(r, 2))
			strcat(path, "./");
		break;
	case 1: /* from the working directory */
		break;
	case 2: /* by the descriptor's link */
		sprintf(path, "/%s/%d", choose(r, 2) ? "proc/self/fd" : "dev/fd", r->dirs[choose(r, MAX_FDS)]);
		noise(r, path);
		break;
	case 3:
		sprintf(path, "%s", dir);
		noise(r, path);
		strcat(path, ONE_OF(r, links));
		return;
	case 4: /* a child's: never granted */
		sprintf(path, "/proc/%d/%s", child, choose(r, 2) ? "mem" : "task/../mem");
		return;
	case 5:
		strcpy(path, "/proc/");
		strcat(path, ONE_OF(r, system));
		return;
	case 6:
		strcpy(path, choose(r, 2) ? "/../proc" : "/proc/self/root/proc");
		noise(r, path);
		break;
	default:
		strcpy(path, "/proc");
		noise(r, path);
	}
	if (path == start || !strcmp(path, "./") ? choose(r, 2) : !choose(r, 12)) {
		strcat(path, ONE_OF(r, links));
		return;
	}
	if (choose(r, 8)) {
		process(r, path);
		noise(r, path);
	}
	strcat(path, ONE_OF(r, files));
}

/* content says what is read: all of an ordinary file, of procfs what a process knows. */
static void content(struct run *r, int fd, const char *path, const struct stat *st)
{
	char text[4096];
	if (!S_ISREG(st->st_mode)) {
		fprintf(r->out, " kind %o", st->st_mode & S_IFMT);
		return;
	}
	ssize_t n = read(fd, text, sizeof text - 1);
	if (n < 0) {
		fprintf(r->out, " read %s", strerrorname_np(errno));
		return;
	}
	text[n] = 0;
	const char *name = strrchr(path, '/');
	if (!strcmp(name, "/stat") && strncmp(path, "/proc/stat", 10))
		normal(r->out, " "), text[strspn(text, "0123456789")] = 0, normal(r->out, text);
	else if (!strcmp(name, "/comm") || !strcmp(name, "/f") || !strcmp(name, "/version") || !strcmp(name, "/ostype"))
		text[strcspn(text, "\n")] = 0, fprintf(r->out, " \"%s\"", text);
	else
		fprintf(r->out, " %s", n > 0 ? "text" : "empty");
}

/* result says what an open came to. Memory is written: the canary decides. */
static void result(struct run *r, int fd, int error, int path_only)
{
	char link[64], path[LONGEST] = "";
	struct stat st;
	fputs(" | ", r->out);
	if (fd < 0) {
		fprintf(r->out, "errno %s\n", strerrorname_np(error));
		return;
	}
	sprintf(link, "self/fd/%d", fd);
	int known = readlinkat(PROCFS, link, path, sizeof path - 1) > 0 && !fstat(fd, &st);
	size_t n = strlen(path), deleted = strlen(" (deleted)");
	/* Of a name below /proc/net the kernel sometimes says so. */
	if (n > deleted && !strcmp(path + n - deleted, " (deleted)"))
		path[n -= deleted] = 0;
	if (known && n > 4 && !strcmp(path + n - 4, "/mem") && !path_only) {
		/* Each thread has its own, so that two do not write the same. */
		uint64_t mine = CANARY_OLD, new = CANARY_NEW, seen = 0;
		volatile uint64_t *target = &mine;
		char own[64];
		sprintf(own, "/proc/%d/", getpid());
		int ours = !strncmp(path, own, strlen(own)) || strstr(path, "/task/");
		(void)!pwrite(fd, &new, sizeof new, (off_t)(uintptr_t)target);
		(void)!pread(fd, &seen, sizeof seen, (off_t)(uintptr_t)&canary);
		fputs(*target == CANARY_NEW && ours ? "CHANGED " : seen == CANARY_OLD ? "READ " : "OPENED ", r->out);
		normal(r->out, path);
		fputc('\n', r->out);
		return;
	}
	fputs("ok ", r->out);
	normal(r->out, path);
	if (known && !path_only)
		content(r, fd, path, &st);
	fputc('\n', r->out);
}

/* attempt makes one. */
static void attempt(struct run *r)
{
	static const int flags[] = {O_RDONLY, O_RDONLY, O_RDWR, O_WRONLY, O_PATH, O_RDONLY | O_NOFOLLOW, O_RDWR | O_NOFOLLOW,
		O_PATH | O_NOFOLLOW, O_RDONLY | O_DIRECTORY, O_RDWR | O_CREAT, O_RDONLY | O_NOCTTY};
	static const uint64_t resolve[] = {0, 0, RESOLVE_NO_SYMLINKS, RESOLVE_NO_MAGICLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT,
		RESOLVE_NO_XDEV};
	char path[LONGEST], link[64];
	int at, fd = -1, how = ONE_OF(r, flags), error;
	spell(r, path, &at);
	struct open_how open2 = {.flags = how | O_NONBLOCK, .resolve = ONE_OF(r, resolve),
		.mode = how & O_CREAT ? 0600 : 0};
	unsigned by = choose(r, 5);
	if (how & O_CREAT) /* only of what is there, so that nothing is made */
		open2.flags = how = O_RDWR, open2.mode = 0;
	if (how & O_PATH)
		open2.flags &= ~O_NONBLOCK;
	errno = 0;
	switch (by) {
	case 0: fd = openat(at, path, how | O_NONBLOCK, 0600); break;
	case 1: fd = syscall(SYS_openat2, at, path, &open2, sizeof open2); break;
	case 2: /* first as a name, then again */
		fd = openat(at, path, O_PATH);
		if (fd >= 0) {
			int name = fd;
			sprintf(link, "/proc/%s/fd/%d", choose(r, 2) ? "self" : "thread-self", name);
			fd = open(link, (how & ~(O_PATH | O_NOFOLLOW)) | O_NONBLOCK);
			error = errno;
			close(name);
			errno = error;
		} else
			choose(r, 2);
		how &= ~O_PATH;
		break;
	case 3: fd = at == AT_FDCWD ? open(path, how | O_NONBLOCK, 0600) : openat(at, path, how | O_NONBLOCK); break;
	case 4: { /* by handle: never of procfs, and inside never */
		struct { struct file_handle h; char room[MAX_HANDLE_SZ]; } handle = {.h.handle_bytes = MAX_HANDLE_SZ};
		int mount;
		if (name_to_handle_at(at, path, &handle.h, &mount, AT_SYMLINK_FOLLOW) == 0)
			fd = open_by_handle_at(at, &handle.h, O_RDONLY | O_NONBLOCK);
		how = 0;
		break;
	}
	}
	error = errno;
	fprintf(r->out, "%ld by %u flags %o resolve %llx at %d ", r->number, by, how,
		by == 1 ? (unsigned long long)open2.resolve : 0, at);
	normal(r->out, path);
	result(r, fd, error, (how & O_PATH) != 0);
	if (fd >= 0)
		close(fd);
}

/* move changes the working directory or a descriptor that paths start from. */
static void move(struct run *r)
{
	char path[LONGEST];
	static const char *const places[] = {"/proc/self", "/proc", "/proc/thread-self/task", "D", "D/toproc", "D/d", "D/toself",
		"/", "/proc/self/cwd", "/proc/self/fd", "/dev", "/proc/sys/kernel"};
	const char *place = ONE_OF(r, places);
	unsigned slot = choose(r, MAX_FDS), how = choose(r, 2) && !r->stays;
	snprintf(path, sizeof path, "%s%s", *place == 'D' ? dir : place, *place == 'D' ? place + 1 : "");
	int fd = open(path, O_DIRECTORY | O_PATH); /* rules about paths do not refuse that */
	fprintf(r->out, "%ld %s %s | %s\n", r->number, how ? "chdir" : "hold", place, fd < 0 ? strerrorname_np(errno) : "ok");
	if (how) {
		(void)!fchdir(fd);
		if (fd >= 0)
			close(fd);
		return;
	}
	if (fd >= 0)
		dup3(fd, r->dirs[slot], 0), close(fd);
}

static void all(struct run *r);

/* descend goes on in a child: after a fork, another exec of this program, or a chroot. */
static void descend(struct run *r, unsigned how)
{
	int pipes[2];
	char seed[32], count[32], depth[32], self[] = "/proc/self/exe", chunk[4096];
	uint64_t next = (uint64_t)choose(r, 1 << 30) + 1;
	if (pipe(pipes))
		return;
	fflush(r->out);
	pid_t pid = fork();
	if (pid == 0) {
		dup2(pipes[1], 1);
		close(pipes[0]), close(pipes[1]);
		if (how == 1) {
			sprintf(seed, "%llu", (unsigned long long)next), sprintf(count, "%ld", r->count / 4);
			sprintf(depth, "%ld", r->depth + 1);
			char *argv[] = {self, seed, count, (char *)dir, depth, NULL};
			execv(self, argv);
			_exit(1);
		}
		struct run sub = {.random = next, .count = r->count / 4, .depth = r->depth + 1, .out = stdout};
		memcpy(sub.dirs, r->dirs, sizeof sub.dirs);
		if (how == 2)
			(void)!chroot(dir);
		all(&sub);
		fflush(stdout);
		_exit(0);
	}
	close(pipes[1]);
	for (ssize_t n; (n = read(pipes[0], chunk, sizeof chunk)) > 0;)
		fwrite(chunk, 1, n, r->out);
	close(pipes[0]);
	waitpid(pid, NULL, 0);
}

static void all(struct run *r)
{
	for (r->number = 0; r->number < r->count; r->number++) {
		unsigned what = choose(r, 40);
		if (what < 4)
			move(r);
		else if (what == 4 && r->depth < 2)
			descend(r, choose(r, 3));
		else
			attempt(r);
	}
}

/* hold makes the descriptors of a thread, with numbers that do not depend on the others. */
static void hold(struct run *r, int first)
{
	for (int i = 0; i < MAX_FDS; i++) {
		int fd = open(i % 2 ? "/proc/self" : dir, O_DIRECTORY | (i > 2 ? O_PATH : O_RDONLY));
		r->dirs[i] = dup3(fd, first + i, 0);
		close(fd);
	}
}

static void *thread(void *argument)
{
	struct run *r = argument;
	unshare(CLONE_FS);
	all(r);
	return NULL;
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	dir = argv[3];
	dup3(open("/proc", O_PATH), PROCFS, 0);
	int gate[2];
	if (pipe(gate))
		return 2;
	child = fork();
	if (child == 0) { /* waits until its parent has ended */
		char c;
		close(gate[1]);
		close(1);
		_exit(read(gate[0], &c, 1) != 0);
	}
	prctl(PR_SET_NAME, "spellings");
	struct run runs[2];
	char *text[2];
	size_t length[2];
	for (int i = 0; i < 2; i++) {
		runs[i] = (struct run){.random = strtoull(argv[1], NULL, 10) * 0x9e3779b97f4a7c15 + i + 1,
			.count = atol(argv[2]), .depth = argc > 4 ? atol(argv[4]) : 0, .out = open_memstream(&text[i], &length[i])};
		runs[i].stays = i == 0;
		hold(&runs[i], 100 + 10 * i);
	}
	pthread_t other;
	if (pthread_create(&other, NULL, thread, &runs[1]))
		return 2;
	thread(&runs[0]);
	pthread_join(other, NULL);
	for (int i = 0; i < 2; i++) {
		fclose(runs[i].out);
		printf("--- thread %d\n%s", i, text[i]);
	}
	printf("CANARY %s\n", canary == CANARY_OLD ? "as it was" : "CHANGED");
	close(gate[1]);
	waitpid(child, NULL, 0);
	return 0;
}
