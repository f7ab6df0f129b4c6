/* Processes that do nothing: something for ps(1) to read.
 *
 *	crowd COUNT
 *
 * It prints "ready" when they are all there; they end when its input does.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char byte;

	if (argc < 2)
		return 2;
	for (int i = atoi(argv[1]); i > 0; i--) {
		pid_t child = fork();
		if (child < 0) {
			perror("crowd: fork");
			return 1;
		}
		if (child == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				pause();
		}
	}
	puts("ready");
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		;
	return 0;
}
