/* Tries accesses without doing anything with them, one for each line of its input:
 *
 *	read PATH	open for reading; a directory is listed
 *	write PATH	open for writing; in a directory, or where nothing is, a file is made and removed
 *	execute PATH	ask execveat(2) whether the file may be run (AT_EXECVE_CHECK, Linux 6.14)
 *	connect PORT	connect to the TCP port of 127.0.0.1
 *	bind PORT	bind a TCP socket to it
 *	call NUMBER	make the system call with arguments that no call takes
 *
 * It prints the errno of each, or 0.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef AT_EXECVE_CHECK
#define AT_EXECVE_CHECK 0x10000
#endif

static int try_read(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return errno;
	if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
		DIR *d = fdopendir(fd);
		if (!d)
			return errno;
		closedir(d);
		return 0;
	}
	close(fd);
	return 0;
}

static int try_write(const char *path)
{
	char made[4096];
	struct stat st;
	int fd;

	snprintf(made, sizeof made, "%s", path);
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
		snprintf(made, sizeof made, "%s/made-by-try", path);
	} else if (access(path, F_OK) == 0 || errno != ENOENT) {
		fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		if (fd < 0)
			return errno;
		close(fd);
		return 0;
	}
	fd = open(made, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return errno;
	close(fd);
	unlink(made);
	return 0;
}

static int try_execute(const char *path)
{
	char *none[] = { NULL };

	return syscall(SYS_execveat, AT_FDCWD, path, none, none, AT_EXECVE_CHECK) ? errno : 0;
}

static int try_port(const char *what, int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), failed, one = 1;

	if (fd < 0)
		return errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (!strcmp(what, "bind"))
		failed = bind(fd, (struct sockaddr *)&address, sizeof address);
	else
		failed = connect(fd, (struct sockaddr *)&address, sizeof address);
	failed = failed ? errno : 0;
	close(fd);
	return failed;
}

int main(void)
{
	char line[4200];

	while (fgets(line, sizeof line, stdin)) {
		char *what = strtok(line, " "), *object = strtok(NULL, "\n");
		int result = EINVAL;

		if (!what || !object)
			return 2;
		if (!strcmp(what, "read"))
			result = try_read(object);
		else if (!strcmp(what, "write"))
			result = try_write(object);
		else if (!strcmp(what, "execute"))
			result = try_execute(object);
		else if (!strcmp(what, "connect") || !strcmp(what, "bind"))
			result = try_port(what, atoi(object));
		else if (!strcmp(what, "call"))
			result = syscall(atol(object), -1L, -1L, -1L, -1L, -1L, -1L) < 0 ? errno : 0;
		printf("%d\n", result);
	}
	return 0;
}
