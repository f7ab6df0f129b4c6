/* Counts opens that fail with EINTR while a timer fires.
 *
 *	interrupted COUNT HERTZ FILE
 *
 * The handler is installed without SA_RESTART. The output is the number of failures.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static void ignore(int unused)
{
	(void)unused;
}

int main(int argc, char **argv)
{
	if (argc != 4 || atol(argv[2]) < 1)
		return 2;
	struct sigaction action = { .sa_handler = ignore };
	struct timeval period = { .tv_usec = 1000000 / atol(argv[2]) };
	struct itimerval timer = { period, period };
	long failed = 0;

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	for (long i = atol(argv[1]); i > 0; i--) {
		int fd = open(argv[3], O_RDONLY | O_CLOEXEC);
		if (fd >= 0) {
			close(fd);
		} else if (errno == EINTR) {
			failed++;
		} else {
			fprintf(stderr, "interrupted: %s: %s\n", argv[3], strerror(errno));
			return 1;
		}
	}
	printf("%ld\n", failed);
	return 0;
}
