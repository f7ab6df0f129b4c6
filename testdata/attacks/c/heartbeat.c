/*
 * heartbeat FILE [PIDFILE]: a program that must never outlive what holds it.
 *
 * Ten times a second it opens FILE (append), writes a line through that new
 * descriptor, tries /proc/self/mem and opens /proc/self/stat. What it sees goes
 * to standard output, which was open before: one line per beat,
 *
 *   BEAT n file ok|ERRNO mem OPENED|ERRNO stat ok|ERRNO
 *
 * With PIDFILE it becomes a daemon first, and writes its pid there.
 */
#include "attack.h"

static const char *said(int fd, const char *good)
{
	if (fd < 0)
		return strerrorname_np(errno);
	close(fd);
	return good;
}

static void become_daemon(const char *pidfile)
{
	if (fork())
		_exit(0);
	setsid();
	if (fork())
		_exit(0);
	FILE *f = fopen(pidfile, "w");
	if (!f)
		_exit(1);
	fprintf(f, "%d\n", getpid());
	fclose(f);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	if (argc > 2)
		become_daemon(argv[2]);
	for (int n = 0;; n++) {
		int fd = open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0644);
		if (fd >= 0 && write(fd, "beat\n", 5) != 5)
			perror("write");
		printf("BEAT %d file %s", n, said(fd, "ok"));
		printf(" mem %s", said(open("/proc/self/mem", O_RDWR), "OPENED"));
		printf(" stat %s\n", said(open("/proc/self/stat", O_RDONLY), "ok"));
		fflush(stdout);
		usleep(100000);
	}
}
