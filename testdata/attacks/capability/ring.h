// The least of io_uring(7), without liburing, and the attacks by way of it.
#include <linux/io_uring.h>

struct ring {
	int fd;
	unsigned *tail, *mask, *array, *flags, *head, *end, *answers_mask;
	struct io_uring_sqe *entries;
	struct io_uring_cqe *answers;
};

static int make_ring(struct ring *r, unsigned flags)
{
	struct io_uring_params p = {.flags = flags, .sq_thread_idle = 60000};
	r->fd = syscall(SYS_io_uring_setup, 8, &p);
	if (r->fd < 0)
		return -1;
	void *map(size_t size, off_t at) { return mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd, at); }
	char *s = map(p.sq_off.array + p.sq_entries * 4, IORING_OFF_SQ_RING);
	char *c = map(p.cq_off.cqes + p.cq_entries * sizeof *r->answers, IORING_OFF_CQ_RING);
	r->entries = map(p.sq_entries * sizeof *r->entries, IORING_OFF_SQES);
	r->tail = (void *)(s + p.sq_off.tail), r->mask = (void *)(s + p.sq_off.ring_mask), r->array = (void *)(s + p.sq_off.array);
	r->flags = (void *)(s + p.sq_off.flags);
	r->head = (void *)(c + p.cq_off.head), r->end = (void *)(c + p.cq_off.tail), r->answers_mask = (void *)(c + p.cq_off.ring_mask);
	r->answers = (void *)(c + p.cq_off.cqes);
	return 0;
}

// ask_ring has one thing done and returns its result.
static int ask_ring(struct ring *r, struct io_uring_sqe entry)
{
	unsigned tail = *r->tail, i = tail & *r->mask;
	r->entries[i] = entry;
	r->array[i] = i;
	__atomic_store_n(r->tail, tail + 1, __ATOMIC_SEQ_CST);
	unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_SQ_WAKEUP;
	if (syscall(SYS_io_uring_enter, r->fd, 1, 1, flags, 0, 0) < 0)
		return -errno;
	while (__atomic_load_n(r->end, __ATOMIC_SEQ_CST) == *r->head)
		usleep(1000);
	int result = r->answers[*r->head & *r->answers_mask].res;
	__atomic_store_n(r->head, *r->head + 1, __ATOMIC_SEQ_CST);
	return result;
}
static struct io_uring_sqe open_mem(unsigned flags)
{
	return (struct io_uring_sqe){.opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (uintptr_t) "/proc/self/mem", .open_flags = O_RDWR, .flags = flags};
}
static int write_mem(int fd);
static void drop(void);

// Whoever does the work, the process's thread, a worker or the polling thread: the mark
// is the process's.
static int ring_opens(unsigned setup, unsigned flags, int before)
{
	struct ring r;
	if (!before)
		drop();
	if (make_ring(&r, setup))
		return UNPROVEN;
	if (before)
		drop();
	return write_mem(ask_ring(&r, open_mem(flags)));
}
static int ring_inline(void) { return ring_opens(0, 0, 0); }
static int ring_worker(void) { return ring_opens(0, IOSQE_ASYNC, 0); }
static int ring_polled(void) { return ring_opens(IORING_SETUP_SQPOLL, 0, 0); }
static int ring_polled_worker(void) { return ring_opens(IORING_SETUP_SQPOLL, IOSQE_ASYNC, 0); }
static int ring_before(void) { return ring_opens(0, IOSQE_ASYNC, 1); }
static int ring_polled_before(void) { return ring_opens(IORING_SETUP_SQPOLL, 0, 1); }

// A ring whose polling thread is an unmarked parent's opens and writes the parent's
// memory for a marked child: no descriptor passes to the child, only slots are used.
static int ring_inherited(void)
{
	static volatile uint64_t mine = 1, value = 77;
	struct ring r;
	int slots[1] = {-1};
	if (make_ring(&r, IORING_SETUP_SQPOLL) || syscall(SYS_io_uring_register, r.fd, IORING_REGISTER_FILES, slots, 1))
		return UNPROVEN;
	pid_t pid = fork();
	if (!pid) {
		drop();
		struct io_uring_sqe open = open_mem(0);
		open.file_index = 1;
		if (ask_ring(&r, open) >= 0)
			ask_ring(&r, (struct io_uring_sqe){.opcode = IORING_OP_WRITE, .flags = IOSQE_FIXED_FILE, .fd = 0,
				.addr = (uintptr_t)&value, .len = 8, .off = (uintptr_t)&mine});
		_exit(0);
	}
	waitpid(pid, 0, 0);
	return mine == 77;
}
