/* open: this process's own memory through /proc, by every spelling of the path
 * and every call that opens one. */
#include "attack.h"
#include <linux/openat2.h>
#include <pthread.h>

#ifndef __NR_open_tree
#define __NR_open_tree 428
#endif

static void use(const char *name, int fd)
{
	int err = errno;
	if (fd >= 0) {
		uint64_t v = CANARY_NEW;
		if (pwrite(fd, &v, sizeof v, (off_t)(uintptr_t)&canary) < 0)
			perror(name);
		close(fd);
	}
	report_own(name, fd >= 0, err);
}

static void use_read(const char *name, int fd)
{
	int err = errno;
	uint64_t v = 0;
	if (fd < 0) {
		report(name, REFUSED, err);
		return;
	}
	if (pread(fd, &v, sizeof v, (off_t)(uintptr_t)&canary) == sizeof v && v == CANARY_OLD)
		report(name, READ_OUT, 0);
	else
		report(name, OPENED, 0);
	close(fd);
}

static int open_how(int dir, const char *path, uint64_t flags, uint64_t resolve)
{
	struct open_how how = { .flags = flags, .resolve = resolve };
	return (int)syscall(__NR_openat2, dir, path, &how, sizeof how);
}

static void calls(void)
{
#ifdef __NR_open
	use("open-rdwr", (int)syscall(__NR_open, "/proc/self/mem", O_RDWR));
	use("creat", (int)syscall(__NR_creat, "/proc/self/mem", 0600));
#endif
	use("openat-rdwr", (int)syscall(__NR_openat, AT_FDCWD, "/proc/self/mem", O_RDWR));
	use("openat-wronly", open("/proc/self/mem", O_WRONLY));
	use("openat-trunc", open("/proc/self/mem", O_WRONLY | O_CREAT | O_TRUNC, 0600));
	use("openat-append-nonblock", open("/proc/self/mem", O_RDWR | O_NONBLOCK | O_CLOEXEC));
	use_read("openat-rdonly", open("/proc/self/mem", O_RDONLY));
	use("openat2-rdwr", open_how(AT_FDCWD, "/proc/self/mem", O_RDWR, 0));
	use_read("openat2-rdonly", open_how(AT_FDCWD, "/proc/self/mem", O_RDONLY, 0));
}

static void spellings(void)
{
	char path[128];
	use("thread-self", open("/proc/thread-self/mem", O_RDWR));
	snprintf(path, sizeof path, "/proc/self/task/%d/mem", (int)gettid());
	use("task-tid", open(path, O_RDWR));
	snprintf(path, sizeof path, "/proc/%d/mem", getpid());
	use("pid", open(path, O_RDWR));
	use("dotdot", open("/proc/self/../self/./mem", O_RDWR));
	use("slashes", open("//proc///self//mem", O_RDWR));
	use("root-link", open("/proc/self/root/proc/self/mem", O_RDWR));
	snprintf(path, sizeof path, "/tmp/memjail-link-%d", getpid());
	if (symlink("/proc/self/mem", path) == 0) {
		use("symlink", open(path, O_RDWR));
		char second[160];
		snprintf(second, sizeof second, "%s-2", path);
		if (symlink(path, second) == 0) {
			use("symlink-chain", open(second, O_RDWR));
			unlink(second);
		}
		unlink(path);
	}
}

static void directories(void)
{
	int dir = open("/proc/self", O_PATH | O_DIRECTORY);
	use("dirfd-opath", openat(dir, "mem", O_RDWR));
	use("dirfd-beneath", open_how(dir, "mem", O_RDWR, RESOLVE_BENEATH));
	close(dir);
	dir = open("/proc/self", O_RDONLY | O_DIRECTORY);
	use("dirfd-real", openat(dir, "mem", O_RDWR));
	close(dir);
	dir = open("/proc", O_PATH);
	use("dirfd-in-root", open_how(dir, "/self/mem", O_RDWR, RESOLVE_IN_ROOT));
	close(dir);
	dir = open(".", O_PATH);
	if (chdir("/proc/self") == 0) {
		use("cwd", open("mem", O_RDWR));
		use("cwd-link", open("/proc/self/cwd/mem", O_RDWR));
	}
	if (fchdir(dir))
		perror("fchdir");
	close(dir);
}

static void reopens(void)
{
	char path[64];
	int fd = open("/proc/self/mem", O_PATH);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	use("opath-reopen", open(path, O_RDWR));
	snprintf(path, sizeof path, "/dev/fd/%d", fd);
	use("opath-dev-fd", open(path, O_RDWR));
	close(fd);
	fd = (int)syscall(__NR_open_tree, AT_FDCWD, "/proc/self/mem", 0);
	if (fd < 0) {
		report("open-tree-reopen", REFUSED, errno);
		return;
	}
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	use("open-tree-reopen", open(path, O_RDWR));
	close(fd);
}

static void *thread(void *arg)
{
	char path[64];
	(void)arg;
	snprintf(path, sizeof path, "/proc/%d/mem", (int)gettid());
	use("thread-tid", open(path, O_RDWR));
	use("thread-thread-self", open("/proc/thread-self/mem", O_RDWR));
	return NULL;
}

int main(void)
{
	pthread_t t;
	calls();
	spellings();
	directories();
	reopens();
	pthread_create(&t, NULL, thread, NULL);
	pthread_join(t, NULL);
	return 0;
}
