/* ptrace: TRACEME, ATTACH and SEIZE, each followed by a POKE. */
#include "attack.h"
#include <sys/ptrace.h>

/* settle waits for the ptrace stop of a process that need not be our child. */
static int settle(pid_t pid)
{
	int status;
	return waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status) ? 0 : -1;
}

static void attack(const char *who, struct victim *v)
{
	char name[64];
	snprintf(name, sizeof name, "%s-attach", who);
	long rc = ptrace(PTRACE_ATTACH, v->pid, 0, 0);
	int err = errno;
	if (rc == 0) {
		settle(v->pid);
		ptrace(PTRACE_POKEDATA, v->pid, v->addr, CANARY_NEW);
		ptrace(PTRACE_DETACH, v->pid, 0, 0);
	}
	report_victim(name, v, rc == 0, err);

	snprintf(name, sizeof name, "%s-seize", who);
	rc = ptrace(PTRACE_SEIZE, v->pid, 0, 0);
	err = errno;
	if (rc == 0) {
		ptrace(PTRACE_INTERRUPT, v->pid, 0, 0);
		settle(v->pid);
		ptrace(PTRACE_POKEDATA, v->pid, v->addr, CANARY_NEW);
		ptrace(PTRACE_DETACH, v->pid, 0, 0);
	}
	report_victim(name, v, rc == 0, err);
}

static void traceme(void)
{
	int result[2];
	uint64_t said[2] = { 0, 0 };
	if (pipe(result))
		exit(2);
	pid_t p = fork();
	if (p == 0) {
		long rc = ptrace(PTRACE_TRACEME, 0, 0, 0);
		said[0] = rc == 0 ? 0 : (uint64_t)errno;
		if (rc == 0)
			raise(SIGSTOP);
		said[1] = canary;
		_exit(write(result[1], said, sizeof said) != sizeof said);
	}
	close(result[1]);
	int status;
	if (waitpid(p, &status, WUNTRACED) == p && WIFSTOPPED(status)) {
		ptrace(PTRACE_POKEDATA, p, &canary, CANARY_NEW);
		ptrace(PTRACE_DETACH, p, 0, 0);
		waitpid(p, &status, 0);
	}
	if (read(result[0], said, sizeof said) != sizeof said)
		said[0] = EIO;
	close(result[0]);
	if (said[1] == CANARY_NEW)
		report("traceme", CHANGED, 0);
	else if (said[0] == 0)
		report("traceme", OPENED, 0);
	else
		report("traceme", REFUSED, (int)said[0]);
}

int main(int argc, char **argv)
{
	traceme();
	each_victim(argc, argv, attack);
	return 0;
}
