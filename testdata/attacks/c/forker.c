/* Forks on and on, in one of two ways, and is over after 20 seconds whatever happens.
 * It is to be run in a pid namespace of its own, with a limit of processes.
 *
 *   forker chain N   N processes, each of which forks one that goes on, and ends
 *   forker tree  N   every process forks as fast as it can
 *
 * The process that was started ends at once, with status 3. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	time_t end = time(NULL) + 20;
	int chain = !strcmp(argv[1], "chain");
	signal(SIGCHLD, SIG_IGN);
	for (int i = atoi(argv[2]); i > 0; i--)
		if (fork() == 0)
			goto go;
	usleep(200000);
	return 3;
go:
	while (time(NULL) < end) {
		int pid = fork();
		if (pid > 0 && chain)
			_exit(0);
		if (pid < 0)
			usleep(100);
	}
	return 0;
}
