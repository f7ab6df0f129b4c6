/* Has its parent trace it, which knows nothing of that, and goes on with a signal, with
 * execve or with waiting: traceme yes|no NUMBER|exec|wait */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <unistd.h>

static void handle(int number)
{
	(void)number;
	if (write(1, "handled\n", 8) < 0)
		_exit(2);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	if (!strcmp(argv[1], "yes") && ptrace(PTRACE_TRACEME, 0, 0, 0))
		return 5;
	if (!strcmp(argv[2], "exec")) {
		execl("/bin/echo", "echo", "executed", (char *)0);
		return 2;
	}
	if (!strcmp(argv[2], "wait")) {
		if (write(1, "waiting\n", 8) < 0)
			return 2;
		sleep(20);
		return 2;
	}
	signal(SIGCHLD, handle);
	signal(SIGUSR1, handle);
	raise(atoi(argv[2]));
	raise(atoi(argv[2]));
	return 4;
}
