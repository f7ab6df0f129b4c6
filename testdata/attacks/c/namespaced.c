// namespaced WHO: opens files of another process of its user root as WHO: "root", "user" (uid
// 1000), or "namespace", the same in a user namespace of its own, in which it has every
// capability. Prints one line for each file.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv) {
	static const char *files[] = {"environ", "maps", "auxv"};
	pid_t victim = fork();
	if (victim == 0) {
		pause();
		_exit(1);
	}
	if (argc < 2)
		return 2;
	if (strcmp(argv[1], "root") != 0 && (setgroups(0, 0) || setgid(1000) || setuid(1000)))
		return 2;
	if (strcmp(argv[1], "namespace") == 0 && unshare(CLONE_NEWUSER))
		return 2;
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
		char name[64], byte;
		snprintf(name, sizeof name, "/proc/%d/%s", victim, files[i]);
		int fd = open(name, O_RDONLY);
		printf("%s: %s\n", files[i], fd >= 0 && read(fd, &byte, 1) == 1 ? "read" : strerror(errno));
	}
	fflush(stdout);
	kill(victim, SIGKILL);
	return 0;
}
