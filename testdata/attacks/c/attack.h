/*
 * What the attack programs share: the canary, the report line, and victims.
 *
 * Every attempt prints exactly one line:
 *
 *   ATTEMPT name: CHANGED          the victim's canary holds the new value
 *   ATTEMPT name: READ             the canary's value came out
 *   ATTEMPT name: OPENED           access was given (a descriptor, an attach)
 *   ATTEMPT name: refused ERRNO    no access, and the canary is as it was
 *   ATTEMPT name: unavailable WHY  this machine or user cannot try it at all
 *
 * An attempt is judged by its effect on the canary wherever there is one, so
 * a call that merely claims success (or failure) does not decide the line.
 */
#ifndef ATTACK_H
#define ATTACK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define CANARY_OLD 0x1122334455667788ull
#define CANARY_NEW 0x0bad0bad0bad0badull

static volatile uint64_t canary = CANARY_OLD;

enum outcome { CHANGED, READ_OUT, OPENED, REFUSED };

static void report(const char *name, enum outcome o, int err)
{
	switch (o) {
	case CHANGED: printf("ATTEMPT %s: CHANGED\n", name); break;
	case READ_OUT: printf("ATTEMPT %s: READ\n", name); break;
	case OPENED: printf("ATTEMPT %s: OPENED\n", name); break;
	default: {
		const char *e = err ? strerrorname_np(err) : "NOTHING";
		printf("ATTEMPT %s: refused %s\n", name, e ? e : "UNKNOWN");
	}
	}
	fflush(stdout);
}

static inline void unavailable(const char *name, const char *why)
{
	printf("ATTEMPT %s: unavailable %s\n", name, why);
	fflush(stdout);
}

/* report_own judges an attempt to change this process's own canary. */
static inline void report_own(const char *name, int got_access, int err)
{
	if (canary != CANARY_OLD) {
		canary = CANARY_OLD;
		report(name, CHANGED, 0);
	} else if (got_access) {
		report(name, OPENED, 0);
	} else {
		report(name, REFUSED, err);
	}
}

/* A victim is another process holding a canary, asked for it over pipes. */
struct victim {
	pid_t pid;        /* 0: none */
	uint64_t addr;    /* where its canary stands */
	int ask, answer;  /* -1 for a process outside, which only the test asks */
};

static void victim_loop(int in, int out)
{
	char c;
	while (read(in, &c, 1) == 1) {
		uint64_t v = canary;
		canary = CANARY_OLD;
		if (write(out, &v, sizeof v) != sizeof v)
			break;
	}
	_exit(0);
}

/* victim_start makes a child with its own copy of the canary. */
static inline struct victim victim_start(void)
{
	struct victim v = { 0, (uint64_t)(uintptr_t)&canary, -1, -1 };
	int to[2], from[2];
	if (pipe(to) || pipe(from)) {
		perror("pipe");
		exit(2);
	}
	v.pid = fork();
	if (v.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(to[1]);
		close(from[0]);
		victim_loop(to[0], from[1]);
	}
	close(to[0]);
	close(from[1]);
	v.ask = to[1];
	v.answer = from[0];
	return v;
}

static inline void victim_stop(struct victim *v)
{
	if (v->ask < 0)
		return;
	close(v->ask);
	close(v->answer);
	kill(v->pid, SIGKILL);
	waitpid(v->pid, NULL, 0);
}

/* report_victim judges an attempt to change v's canary. A process outside is
 * asked by the test; here the most that can be said about it is OPENED. */
static inline void report_victim(const char *name, struct victim *v, int got_access, int err)
{
	uint64_t now = CANARY_OLD;
	if (v->ask >= 0) {
		if (write(v->ask, "?", 1) != 1 || read(v->answer, &now, sizeof now) != sizeof now) {
			printf("ATTEMPT %s: unavailable the victim died\n", name);
			fflush(stdout);
			return;
		}
	}
	if (now != CANARY_OLD)
		report(name, CHANGED, 0);
	else if (got_access)
		report(name, OPENED, 0);
	else
		report(name, REFUSED, err);
}

/* victim_outside takes "PID ADDRESS" from the command line, if given. */
static inline struct victim victim_outside(int argc, char **argv)
{
	struct victim v = { 0, 0, -1, -1 };
	if (argc >= 3) {
		v.pid = (pid_t)strtol(argv[1], NULL, 10);
		v.addr = strtoull(argv[2], NULL, 0);
	}
	return v;
}

/*
 * each_victim runs attack(prefix, victim) on this program's child, on a
 * sibling (two children of one parent), on its parent, and, when the command
 * line names one, on a process outside the sandbox.
 */
static inline void each_victim(int argc, char **argv, void (*attack)(const char *, struct victim *))
{
	struct victim v = victim_start();
	attack("child", &v);
	fflush(stdout);
	pid_t p = fork();
	if (p == 0) {
		attack("sibling", &v);
		fflush(stdout);
		_exit(0);
	}
	waitpid(p, NULL, 0);
	victim_stop(&v);

	/* The attacker is the child of its victim. */
	int to[2], from[2];
	if (pipe(to) || pipe(from)) {
		perror("pipe");
		exit(2);
	}
	pid_t parent = getpid();
	p = fork();
	if (p == 0) {
		close(to[0]);
		close(from[1]);
		struct victim up = { parent, (uint64_t)(uintptr_t)&canary, to[1], from[0] };
		attack("parent", &up);
		fflush(stdout);
		_exit(0);
	}
	close(to[1]);
	close(from[0]);
	char c;
	while (read(to[0], &c, 1) == 1) {
		uint64_t now = canary;
		canary = CANARY_OLD;
		if (write(from[1], &now, sizeof now) != sizeof now)
			break;
	}
	close(to[0]);
	close(from[1]);
	waitpid(p, NULL, 0);

	struct victim out = victim_outside(argc, argv);
	if (out.pid)
		attack("outside", &out);
}

#endif
