// Opens a file again and again while a timer's handler, without SA_RESTART, interrupts:
// how many opens fail. Arguments: FILE COUNT.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>
static volatile long ticks;
static void tick(int s) { ticks += s > 0; }
int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	struct sigaction a = {.sa_handler = tick};
	sigaction(SIGALRM, &a, 0);
	struct itimerval t = {{0, 1000}, {0, 1000}};
	setitimer(ITIMER_REAL, &t, 0);
	long failed = 0, count = atol(argv[2]);
	for (long i = 0; i < count; i++) {
		int fd = open(argv[1], O_RDONLY);
		if (fd < 0)
			failed++;
		else
			close(fd);
	}
	printf("%ld of %ld opens failed, %s\n", failed, count, ticks > 100 ? "interrupted" : "not interrupted");
	return 0;
}
