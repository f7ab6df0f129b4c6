/* others: /proc/PID/mem of a child, a sibling, the parent and a process outside. */
#include "attack.h"

static void attack(const char *who, struct victim *v)
{
	char path[64], name[64];
	uint64_t value = CANARY_NEW;
	snprintf(path, sizeof path, "/proc/%d/mem", v->pid);

	snprintf(name, sizeof name, "%s-read", who);
	int fd = open(path, O_RDONLY), err = errno;
	if (fd < 0)
		report(name, REFUSED, err);
	else {
		uint64_t got = 0;
		ssize_t n = pread(fd, &got, sizeof got, (off_t)v->addr);
		report(name, n == sizeof got && got == CANARY_OLD ? READ_OUT : OPENED, 0);
		close(fd);
	}

	snprintf(name, sizeof name, "%s-write", who);
	fd = open(path, O_RDWR);
	err = errno;
	if (fd >= 0) {
		if (pwrite(fd, &value, sizeof value, (off_t)v->addr) < 0)
			perror(name);
		close(fd);
	}
	report_victim(name, v, fd >= 0, err);

	snprintf(path, sizeof path, "/proc/%d/task/%d/mem", v->pid, v->pid);
	snprintf(name, sizeof name, "%s-task-write", who);
	fd = open(path, O_WRONLY);
	err = errno;
	if (fd >= 0) {
		if (pwrite(fd, &value, sizeof value, (off_t)v->addr) < 0)
			perror(name);
		close(fd);
	}
	report_victim(name, v, fd >= 0, err);
}

int main(int argc, char **argv)
{
	each_victim(argc, argv, attack);
	return 0;
}
