// Programs with an interpreter of the attacker's choice (PT_INTERP), and the attacks by
// way of them.
#include <elf.h>

static char *copy_of_self(size_t *size)
{
	int fd = open(self, O_RDONLY);
	struct stat st;
	if (fd < 0 || fstat(fd, &st))
		return 0;
	char *b = malloc(st.st_size + 256);
	for (*size = 0; *size < (size_t)st.st_size;) {
		ssize_t n = read(fd, b + *size, st.st_size - *size);
		if (n <= 0)
			return 0;
		*size += n;
	}
	close(fd);
	return b;
}
static int write_program(int fd, const char *interpreter)
{
	size_t size;
	char *b = copy_of_self(&size);
	if (!b || fd < 0)
		return -1;
	Elf64_Ehdr *e = (void *)b;
	Elf64_Phdr *p = (void *)(b + e->e_phoff);
	for (int i = 0; interpreter && i < e->e_phnum; i++)
		if (p[i].p_type == PT_NOTE || p[i].p_type == PT_INTERP) {
			size_t length = strlen(interpreter) + 1;
			p[i].p_type = PT_INTERP, p[i].p_offset = size, p[i].p_filesz = p[i].p_memsz = length;
			memcpy(b + size, interpreter, length);
			size += length;
			interpreter = 0;
		}
	if (interpreter || write(fd, b, size) != (ssize_t)size || fchmod(fd, 0755))
		return -1;
	free(b);
	return 0;
}
static int program_file(const char *path, const char *interpreter)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0755), err = write_program(fd, interpreter);
	close(fd);
	return err;
}

// C9: a memfd as the interpreter of a program that is an ordinary file.
static int interpreter_memfd(void)
{
	char path[64], interpreter[64];
	int fd = memfd_create("interpreter", 0);
	snprintf(interpreter, sizeof interpreter, "/proc/self/fd/%d", fd);
	snprintf(path, sizeof path, "/tmp/program-%d", getpid());
	if (write_program(fd, 0) || program_file(path, interpreter))
		return UNPROVEN;
	if (drops)
		drop_to(NO_MEMFD);
	pid_t pid = fork();
	if (!pid) {
		execl(path, path, "internal", "here", NULL);
		_exit(8);
	}
	return status_of(pid);
}

// C8: a thread executes a program whose interpreter somebody holds a lease on, so that
// the exec waits; meanwhile another thread drops. The drop must say so (EAGAIN), and the
// program that runs at last has the mark.
static char lease_program[64], lease_interpreter[64];
static void *execs_leased(void *p)
{
	execl(lease_program, lease_program, "internal", "mem", NULL);
	answer(UNPROVEN);
	return p;
}
static pid_t hold_lease(int ready, int release)
{
	pid_t pid = fork();
	if (pid)
		return pid;
	signal(SIGIO, SIG_IGN);
	char c = 0;
	int fd = open(lease_interpreter, O_RDONLY);
	if (fd < 0 || fcntl(fd, F_SETLEASE, F_WRLCK))
		c = 'x';
	write(ready, &c, 1);
	read(release, &c, 1);
	fcntl(fd, F_SETLEASE, F_UNLCK);
	_exit(0);
}
static int exec_waits(void)
{
	int ready[2], release[2], told[2];
	char c;
	snprintf(lease_program, sizeof lease_program, "/tmp/program-%d", getpid());
	snprintf(lease_interpreter, sizeof lease_interpreter, "/tmp/interpreter-%d", getpid());
	if (pipe(ready) || pipe(release) || pipe(told) || program_file(lease_interpreter, 0) || program_file(lease_program, lease_interpreter))
		return UNPROVEN;
	pid_t holder = hold_lease(ready[1], release[0]);
	if (read(ready[0], &c, 1) != 1 || c)
		return UNPROVEN;
	pid_t v = fork();
	if (!v) {
		pthread_t t;
		pthread_create(&t, 0, execs_leased, 0);
		sleep(1);
		int e = EAGAIN;
		if (drops) {
			prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
			e = prctl(OPTION, DROP, DEFAULT, 0, 0) ? errno : 0;
		}
		write(told[1], &e, sizeof e);
		for (;;)
			pause();
	}
	int e = 0;
	read(told[0], &e, sizeof e);
	write(release[1], "r", 1);
	int outcome = status_of(v);
	end(holder, 0);
	return e == EAGAIN ? outcome : UNPROVEN;
}

// The directory of a thread that becomes the leader by executing, kept over the exec.
static void *execs_with_directory(void *p)
{
	execl(self, self, "internal", "directory", NULL);
	answer(UNPROVEN);
	return p;
}
static int exec_thread_directory(void)
{
	pid_t v = fork();
	if (!v) {
		char path[64];
		snprintf(path, sizeof path, "/proc/self/task/%d", getpid());
		dup2(open(path, O_RDONLY | O_DIRECTORY), KEPT_DIRECTORY);
		drop();
		pthread_t t;
		pthread_create(&t, 0, execs_with_directory, 0);
		for (;;)
			pause();
	}
	return status_of(v);
}
