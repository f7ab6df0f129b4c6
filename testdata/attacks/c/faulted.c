/* faulted [FILE]: one line about what a command has, however its start went:
 *
 *   ran mem=ERRNO vm=ERRNO value=old stat=ok file=ok child=old
 *
 * mem and vm are attempts to write its own constant, through /proc/self/mem and by
 * process_vm_writev(2); they say OPENED where they got through. child is a child's attempt
 * on its parent. With FILE a child is left behind that writes its line there later. */
#include "attack.h"
#include <sys/uio.h>
#include <sys/wait.h>

static uint64_t new = CANARY_NEW;

static const char *by_mem(pid_t pid)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/mem", pid);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return strerrorname_np(errno);
	if (pwrite(fd, &new, sizeof new, (off_t)(uintptr_t)&canary) < 0)
		perror("pwrite");
	close(fd);
	return "OPENED";
}

static const char *by_call(pid_t pid)
{
	struct iovec from = { &new, sizeof new }, to = { (void *)&canary, sizeof new };
	return process_vm_writev(pid, &from, 1, &to, 1, 0) < 0 ? strerrorname_np(errno) : "OPENED";
}

static const char *opens(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return strerrorname_np(errno);
	char text[16];
	ssize_t n = read(fd, text, sizeof text);
	close(fd);
	return fd > 2 && n > 0 ? "ok" : "WRONG";
}

static const char *value(void) { return canary == CANARY_OLD ? "old" : "CHANGED"; }

static const char *by_child(void)
{
	pid_t parent = getpid(), child = fork();
	if (child == 0) {
		by_mem(parent);
		by_call(parent);
		_exit(0);
	}
	if (child < 0)
		return strerrorname_np(errno);
	waitpid(child, NULL, 0);
	return value();
}

static void say(FILE *to)
{
	const char *mem = by_mem(getpid()), *vm = by_call(getpid());
	fprintf(to, "ran mem=%s vm=%s value=%s stat=%s", mem, vm, value(), opens("/proc/self/stat"));
	fprintf(to, " file=%s child=%s\n", opens("/etc/passwd"), by_child());
	fflush(to);
}

int main(int argc, char **argv)
{
	say(stdout);
	if (argc > 1 && fork() == 0) {
		usleep(300000);
		FILE *f = fopen(argv[1], "w");
		if (f)
			say(f);
		_exit(f ? 0 : 1);
	}
	return 0;
}
