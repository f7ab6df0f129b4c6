// A race for the metadata of a file outside: one thread changes what a name, a
// descriptor or a buffer stands for, another one makes the call. It runs in a directory
// of its own and is given a file that it may read at most. What counts is the file's
// mode afterwards, and whether a memfd that was sealed against it can be executed.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

static const char *secret;
static char path[4096];
static char attribute[32];
static volatile int stop, turn;
static int inside_fd, secret_fd = -1, flipped = 700;

enum way { BY_LINK, BY_BUFFER, BY_DESCRIPTOR, BY_ATTRIBUTE };

static void *flip(void *arg)
{
	enum way way = (enum way)(long)arg;

	for (unsigned i = 0; !stop; i++) {
		switch (way) {
		case BY_LINK:
			symlink(i & 1 ? secret : "own", "next");
			rename("next", "link");
			break;
		case BY_BUFFER: // the longer one after the shorter, byte by byte as memory goes
			memcpy(path, i & 1 ? secret : "own", i & 1 ? strlen(secret) + 1 : 4);
			break;
		case BY_DESCRIPTOR:
			dup2(i & 1 ? secret_fd : inside_fd, flipped);
			break;
		case BY_ATTRIBUTE:
			strcpy(attribute, i & 1 ? "system.posix_acl_access" : "user.abcdefghijklmnopqr");
			break;
		}
	}
	return NULL;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	static const unsigned char acl[28] = {2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 4, 0, 5, 0, 255, 255, 255, 255, 32, 0, 5, 0, 255, 255, 255, 255};
	static const char *names[] = {"link", "buffer", "descriptor", "attribute"};
	struct stat st;

	if (argc < 3)
		return 2;
	secret = argv[1];
	inside_fd = open("own", O_CREAT | O_RDWR, 0600);
	secret_fd = open(secret, O_RDONLY);
	for (enum way way = BY_LINK; way <= BY_ATTRIBUTE; way++) {
		pthread_t other;
		unsigned long tries = 0, made = 0, lost = 0;
		int memfd = memfd_create("data", MFD_CLOEXEC | MFD_NOEXEC_SEAL);

		if (way == BY_DESCRIPTOR && secret_fd < 0) {
			printf("RACE %s not possible\n", names[way]);
			continue;
		}
		stop = 0;
		pthread_create(&other, NULL, flip, (void *)(long)way);
		for (double end = now() + atof(argv[2]); now() < end; tries++) {
			int failed = 1;

			switch (way) {
			case BY_LINK:
				failed = chmod("link", 0640);
				break;
			case BY_BUFFER:
				failed = chmod(path, 0640);
				break;
			case BY_DESCRIPTOR:
				failed = fchmod(flipped, 0640);
				break;
			case BY_ATTRIBUTE:
				failed = fsetxattr(memfd, attribute, acl, sizeof acl, 0);
				break;
			}
			if (failed)
				lost++;
			else
				made++;
			if (stat(secret, &st) == 0 && (st.st_mode & 0777) == 0640)
				break;
			if (fstat(memfd, &st) == 0 && st.st_mode & 0111)
				break;
		}
		stop = 1;
		pthread_join(other, NULL);
		int changed = (stat(secret, &st) == 0 && (st.st_mode & 0777) == 0640) || (fstat(memfd, &st) == 0 && st.st_mode & 0111);

		printf("RACE %s tries %lu made %lu refused %lu changed %d\n", names[way], tries, made, lost, changed);
		chmod(secret, 0600);
		close(memfd);
	}
	return 0;
}
