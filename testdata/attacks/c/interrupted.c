/* interrupted COUNT: opens a file so often while a timer fires a thousand times a second,
 * whose handler was installed without SA_RESTART, and says how many opens a signal ended. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

static void tick(int number) { (void)number; }

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = tick};
	struct itimerval every = {{0, 1000}, {0, 1000}};
	long interrupted = 0, failed = 0;

	if (argc != 2 || sigaction(SIGALRM, &action, NULL) || setitimer(ITIMER_REAL, &every, NULL))
		return 2;
	for (long left = atol(argv[1]); left > 0; left--) {
		int fd = open("/etc/passwd", O_RDONLY);
		if (fd >= 0)
			close(fd);
		else if (errno == EINTR)
			interrupted++;
		else
			failed++;
	}
	printf("%ld %ld\n", interrupted, failed);
	return 0;
}
