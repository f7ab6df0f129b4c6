// What began before the drop and reaches memory after it: perf events, tracers of single
// threads, address spaces that processes share, forks in progress, tokens of supervisors.

// A perf event that somebody else has attached samples the stack, which has a secret on it.
enum { RING_PAGES = 17 };
static char secret[64];
static int tell_thread[2], start_thread[2], start[2], tell_answer[2];
static void *spin(void *p)
{
	volatile char copy[1024]; // its end lies above the stack pointer, not in the red zone
	for (int i = 0; i < 64; i++)
		copy[960 + i] = secret[i];
	for (;;)
		copy[64]++;
	return p;
}
static void *thread_waits(void *f) // tells its number, and runs f when asked
{
	pid_t me = syscall(SYS_gettid);
	char c;
	write(tell_thread[1], &me, sizeof me);
	read(start_thread[0], &c, 1);
	return ((void *(*)(void *))f)(0);
}
static int perf_event(pid_t thread, int samples, int inherit)
{
	struct perf_event_attr a = {.type = PERF_TYPE_SOFTWARE, .size = sizeof a, .config = PERF_COUNT_SW_TASK_CLOCK,
		.exclude_kernel = 1, .exclude_hv = 1, .exclude_callchain_user = 1, .inherit = inherit};
	if (samples)
		a.sample_type = PERF_SAMPLE_STACK_USER, a.sample_stack_user = 4096, a.sample_period = 1000000;
	return syscall(SYS_perf_event_open, &a, thread, -1, -1, 0);
}
// with_thread starts a process that waits for start, drops, and tells the answer. Its other
// thread, or itself, is told to be the victim.
static pid_t with_thread(void *(*f)(void *), int thread, pid_t *of)
{
	pipe(tell_thread), pipe(start_thread), pipe(start), pipe(tell_answer);
	pid_t v = fork();
	if (!v) {
		char c;
		pthread_t t;
		pid_t me = getpid();
		if (thread)
			pthread_create(&t, 0, thread_waits, f);
		else
			write(tell_thread[1], &me, sizeof me);
		read(start[0], &c, 1);
		int e = drop_to(DEFAULT);
		write(tell_answer[1], &e, sizeof e);
		write(start_thread[1], "s", 1);
		if (thread)
			for (;;)
				pause();
		f(0);
	}
	read(tell_thread[0], of, sizeof *of);
	return v;
}
static int answered(void)
{
	int e = 0;
	write(start[1], "s", 1);
	read(tell_answer[0], &e, sizeof e);
	return e;
}
static int recorded(int thread)
{
	pid_t of;
	snprintf(secret, sizeof secret, "secret-%d-%d", getpid(), 4711 * getpid());
	pid_t v = with_thread(spin, thread, &of);
	char *ring = mmap(0, RING_PAGES * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, perf_event(of, 1, 0), 0);
	if (ring == MAP_FAILED)
		return end(v, UNPROVEN);
	int e = answered();
	sleep(1);
	return end(v, e == EALREADY && memmem(ring + 4096, (RING_PAGES - 1) * 4096, secret, strlen(secret)));
}
static int recorded_before(void) { return recorded(0); }
static int recorded_thread_before(void) { return recorded(1); }
static int counted_before(void) // counts only: must stay open
{
	if (perf_event(0, 0, 0) < 0)
		return UNPROVEN;
	int e = drop_to(DEFAULT);
	if (e != EALREADY)
		printf("(%s) ", strerror(e));
	return e == EALREADY;
}

// A tracer of a thread that is neither the leader nor the one that drops.
static void *waits(void *p)
{
	for (;;)
		pause();
	return p;
}
static int traced_thread_before(void)
{
	pid_t of, v = with_thread(waits, 1, &of);
	if (ptrace(PTRACE_SEIZE, of, 0, 0))
		return end(v, UNPROVEN);
	int e = answered();
	kill(v, SIGKILL);
	waitpid(of, 0, __WALL); // the thread is its tracer's to reap
	return end(v, e == EALREADY);
}

// A process that has shared the address space since before the drop, and has no mark.
static int shared_go[2];
static int writes_shared(void)
{
	char c;
	read(shared_go[0], &c, 1);
	return self_mem();
}
static int shared_before(void)
{
	pipe(shared_go);
	pid_t v = clone(cloned, stack + sizeof stack, CLONE_VM | SIGCHLD, writes_shared);
	int e = drop_to(DEFAULT);
	write(shared_go[1], "g", 1);
	int outcome = status_of(v);
	return e == EALREADY ? outcome : CLOSED;
}
// A process that has shared the table of descriptors since before the drop, has no mark, and
// opens its own memory: whoever shares the table could write it.
static int table_go[2], table_tell[2];
static int opens_shared(void)
{
	char c;
	read(table_go[0], &c, 1);
	int fd = open("/proc/self/mem", O_RDWR);
	write(table_tell[1], &fd, sizeof fd);
	read(table_go[0], &c, 1);
	return word == 77;
}
static int shares_table(int (*drops_it)(void))
{
	int fd = -1, e;
	uint64_t x = 77;
	pipe(table_go), pipe(table_tell);
	pid_t v = clone(cloned, stack + sizeof stack, CLONE_FILES | SIGCHLD, opens_shared);
	if ((e = drops_it()) != EALREADY)
		return end(v, CLOSED);
	write(table_go[1], "g", 1);
	read(table_tell[0], &fd, sizeof fd);
	pwrite(fd, &x, sizeof x, (off_t)(uintptr_t)&word);
	write(table_go[1], "g", 1);
	return status_of(v);
}
static int drops_here(void) { return drop_to(DEFAULT); }
static int shared_table_before(void) { return shares_table(drops_here); }
// The table that is shared is that of another thread than the one that drops.
static int drop_asked[2];
static int drops_there(void)
{
	write(drop_asked[1], "d", 1);
	return answered();
}
static void *shares_in_thread(void *p)
{
	if (unshare(CLONE_FILES) == 0)
		outcome = shares_table(drops_there);
	return p;
}
static int shared_table_of_thread(void)
{
	pthread_t t;
	char c;
	outcome = UNPROVEN;
	pipe(drop_asked), pipe(start), pipe(tell_answer);
	pthread_create(&t, 0, shares_in_thread, 0);
	read(drop_asked[0], &c, 1);
	int e = drop_to(DEFAULT);
	write(tell_answer[1], &e, sizeof e);
	pthread_join(t, 0);
	return outcome;
}

// kept leaves processes that have dropped the capability in the kernel's memory: they have
// ended, and this one holds rings of io_uring that refer to them. The command that follows
// counts the marks. The control are processes that live.
static int kept_end;
static int drops_and_ends(void)
{
	struct io_uring_params p = {.flags = IORING_SETUP_SINGLE_ISSUER};
	if (syscall(SYS_io_uring_setup, 1, &p) < 0 || unshare(CLONE_FILES))
		return UNPROVEN;
	drop();
	while (!kept_end)
		pause();
	return OPEN;
}
static int kept(int count, int living, const char *command)
{
	static pid_t children[1000];
	int n = 0;
	kept_end = !living;
	for (int i = 0; i < count && i < 1000; i++) {
		children[i] = clone(cloned, stack + sizeof stack, CLONE_FILES | SIGCHLD, drops_and_ends);
		n += living ? children[i] > 0 : status_of(children[i]) == OPEN;
	}
	sleep(2);
	printf("%d have dropped it, ", n);
	fflush(stdout);
	system(command);
	for (int i = 0; living && i < count; i++)
		end(children[i], 0);
	return 0;
}

// A child that shares memory with its parent until it executes a program, and says so in
// the drop: it must stay possible.
static int drops_and_execs(void)
{
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (drops && (prctl(OPTION, DROP_AND_EXEC, DEFAULT, 0, 0) == 0 || errno != EALREADY))
		return CLOSED;
	if (drops && self_mem() == OPEN)
		return UNPROVEN;
	return run_self("here");
}
static int shared_until_exec(void) { return status_of(clone(cloned, stack + sizeof stack, CLONE_VM | SIGCHLD, drops_and_execs)); }

// A fork that waits in the kernel, after it was decided that the child has no mark: a
// userfaultfd makes it wait for its reader. The drop must say so (EAGAIN).
static void *forks(void *p) { return outcome = in_child(self_mem), p; }
static int fork_waits(void)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_EVENT_FORK};
	char *area = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_register range = {.range = {(uintptr_t)area, 4096}, .mode = UFFDIO_REGISTER_MODE_MISSING};
	int uffd = syscall(SYS_userfaultfd, 0);
	int go[2];
	pthread_t t;
	pipe(go);
	if (!fork()) { // has dropped nothing, so it may receive the child's userfaultfd
		struct uffd_msg event;
		char c;
		read(go[0], &c, 1);
		_exit(read(uffd, &event, sizeof event) != sizeof event);
	}
	if (ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &range))
		return UNPROVEN;
	pthread_create(&t, 0, forks, 0);
	sleep(1);
	int e = EALREADY;
	if (drops) {
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		e = prctl(OPTION, DROP, DEFAULT, 0, 0) ? errno : 0;
	}
	write(go[1], "g", 1);
	pthread_join(t, 0);
	if (e == EAGAIN) {
		e = drop_to(DEFAULT);
		if (e != EALREADY)
			printf("(%s) ", strerror(e));
		return e == EALREADY ? CLOSED : UNPROVEN;
	}
	return outcome;
}

// A thread from before the drop that drops with a token of its own, and then executes a
// program: it must not get another supervisor that way.
static int thread_ready[2];
static void *replaces_token(void *p)
{
	pthread_barrier_wait(&barrier);
	if (drops)
		prctl(OPTION, DROP, DEFAULT, 4712, 0);
	dup2(thread_ready[1], KEPT_MEM);
	run_self("wait");
	return p;
}
static int token_of_thread(void)
{
	char c;
	pipe(thread_ready);
	pid_t v = fork();
	if (!v) {
		pthread_t t;
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		pthread_barrier_init(&barrier, 0, 2);
		pthread_create(&t, 0, replaces_token, 0);
		if (drops)
			prctl(OPTION, DROP, DEFAULT, 4711, 0);
		pthread_barrier_wait(&barrier);
		for (;;)
			pause();
	}
	read(thread_ready[0], &c, 1);
	if (drops)
		prctl(OPTION, SUPERVISE, 0, 4712, 0);
	return end(v, pid_file(v, "mem", O_RDWR) >= 0);
}

// watch executes a command with a perf event attached, which its children inherit.
static int watch(int samples, char **command)
{
	int go[2], status;
	char c;
	pipe(go);
	pid_t pid = fork();
	if (!pid) {
		read(go[0], &c, 1);
		close(go[0]), close(go[1]);
		execvp(command[0], command);
		_exit(3);
	}
	if (perf_event(pid, samples, 1) < 0)
		return perror("perf_event_open"), 3;
	write(go[1], "g", 1);
	waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}
