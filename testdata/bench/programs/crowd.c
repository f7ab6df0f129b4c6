/* Processes that do nothing: something for ps(1) to read.
 *
 *	crowd COUNT         prints "ready" when they are all there; they end when its input does
 *	crowd COUNT leave   ends, and leaves them
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char byte;
	pid_t parent = getpid();
	int leave = argc > 2 && !strcmp(argv[2], "leave");

	if (argc < 2)
		return 2;
	for (int i = atoi(argv[1]); i > 0; i--) {
		pid_t child = fork();
		if (child < 0) {
			perror("crowd: fork");
			return 1;
		}
		if (child == 0) {
			if (!leave)
				prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (!leave && getppid() != parent)
				return 0; /* It has ended before. */
			/* Nobody is to wait for the end of a pipe, or for a lock. */
			closefrom(0);
			for (;;)
				pause();
		}
	}
	if (leave)
		return 0;
	puts("ready");
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		;
	return 0;
}
