/*
 * coredump: make a process dump its core into this directory and read it there.
 * Three ways: the victim raises its own limit, a sibling raises the child's by
 * prlimit, and the same on a process outside whose working directory is ours.
 */
#include "attack.h"
#include <dirent.h>
#include <sys/resource.h>

/* Only memory spells it with a capital: the program file does not hold the text. */
static char secret[] = "core-canary-5f1d";

/* find_core looks for a core file here that holds the secret, and removes it. */
static int find_core(void)
{
	int found = 0;
	DIR *d = opendir(".");
	for (struct dirent *e; d && (e = readdir(d));) {
		if (strncmp(e->d_name, "core", 4))
			continue;
		found = 1;
		int fd = open(e->d_name, O_RDONLY);
		off_t n = lseek(fd, 0, SEEK_END);
		char *m = mmap(NULL, (size_t)n, PROT_READ, MAP_PRIVATE, fd, 0);
		if (m != MAP_FAILED && memmem(m, (size_t)n, secret, sizeof secret - 1))
			found = 2;
		close(fd);
		unlink(e->d_name);
	}
	if (d)
		closedir(d);
	return found;
}

static void judge(const char *name, int err)
{
	int found = find_core();
	if (found)
		report(name, found == 2 ? READ_OUT : OPENED, 0);
	else
		report(name, REFUSED, err ? err : ENOENT);
}

static const struct rlimit big = { RLIM_INFINITY, RLIM_INFINITY };

static void own(void)
{
	pid_t p = fork();
	if (p == 0) {
		struct rlimit l;
		getrlimit(RLIMIT_CORE, &l);
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_CORE, &l);
		setrlimit(RLIMIT_CORE, &big);
		raise(SIGQUIT);
		_exit(0);
	}
	waitpid(p, NULL, 0);
	judge("core-own-limit", 0);
}

static int raise_and_quit(pid_t pid)
{
	struct rlimit l = big;
	int err = 0;
	if (prlimit(pid, RLIMIT_CORE, &l, NULL))
		err = errno;
	if (kill(pid, SIGQUIT) && !err)
		err = errno;
	return err;
}

static void other(void)
{
	pid_t v = fork();
	if (v == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	int result[2], err = EIO;
	if (pipe(result))
		exit(2);
	pid_t a = fork();
	if (a == 0) {
		err = raise_and_quit(v);
		_exit(write(result[1], &err, sizeof err) != sizeof err);
	}
	if (read(result[0], &err, sizeof err) != sizeof err)
		perror("read");
	waitpid(a, NULL, 0);
	/* SIGQUIT ends it, dump or no dump, unless the signal itself was refused. */
	for (int i = 0; i < 50 && waitpid(v, NULL, WNOHANG) == 0; i++) {
		usleep(10000);
		if (i == 48)
			kill(v, SIGKILL);
	}
	judge("core-sibling-prlimit", err);
}

int main(int argc, char **argv)
{
	secret[0] = 'C';
	prctl(PR_SET_DUMPABLE, 1);
	own();
	other();
	struct victim out = victim_outside(argc, argv);
	if (out.pid) {
		int err = raise_and_quit(out.pid);
		/* Nobody here can wait for it; a refused call needs no waiting. */
		usleep(err ? 50000 : 500000);
		judge("core-outside", err);
	}
	return 0;
}
