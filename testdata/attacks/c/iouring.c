/* iouring: a ring opens this process's memory, so that no open call is made. */
#include "attack.h"
#include <linux/io_uring.h>
#include <linux/openat2.h>

struct ring {
	int fd;
	struct io_uring_params p;
	char *sq, *cq;
	struct io_uring_sqe *sqes;
};

static int ring_init(struct ring *r)
{
	memset(&r->p, 0, sizeof r->p);
	r->fd = (int)syscall(__NR_io_uring_setup, 4, &r->p);
	if (r->fd < 0)
		return -errno;
	size_t sq = r->p.sq_off.array + r->p.sq_entries * sizeof(uint32_t);
	size_t cq = r->p.cq_off.cqes + r->p.cq_entries * sizeof(struct io_uring_cqe);
	int prot = PROT_READ | PROT_WRITE, how = MAP_SHARED | MAP_POPULATE;
	r->sq = mmap(NULL, sq, prot, how, r->fd, IORING_OFF_SQ_RING);
	r->cq = mmap(NULL, cq, prot, how, r->fd, IORING_OFF_CQ_RING);
	r->sqes = mmap(NULL, r->p.sq_entries * sizeof *r->sqes, prot, how, r->fd, IORING_OFF_SQES);
	return 0;
}

static int submit(struct ring *r, struct io_uring_sqe *sqe)
{
	uint32_t *tail = (uint32_t *)(r->sq + r->p.sq_off.tail);
	uint32_t mask = *(uint32_t *)(r->sq + r->p.sq_off.ring_mask);
	uint32_t slot = *tail & mask;
	r->sqes[slot] = *sqe;
	((uint32_t *)(r->sq + r->p.sq_off.array))[slot] = slot;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (syscall(__NR_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
		return -errno;
	uint32_t *head = (uint32_t *)(r->cq + r->p.cq_off.head);
	uint32_t cmask = *(uint32_t *)(r->cq + r->p.cq_off.ring_mask);
	struct io_uring_cqe *cqe = (struct io_uring_cqe *)(r->cq + r->p.cq_off.cqes) + (*head & cmask);
	int res = cqe->res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return res;
}

static void use(const char *name, int fd)
{
	uint64_t v = CANARY_NEW;
	if (fd >= 0 && pwrite(fd, &v, sizeof v, (off_t)(uintptr_t)&canary) < 0)
		perror(name);
	report_own(name, fd >= 0, fd < 0 ? -fd : 0);
}

int main(void)
{
	struct ring r;
	int err = ring_init(&r);
	if (err < 0) {
		report("uring-openat", REFUSED, -err);
		report("uring-openat2", REFUSED, -err);
		return 0;
	}
	struct open_how how = { .flags = O_RDWR };
	struct io_uring_sqe open1 = {
		.opcode = IORING_OP_OPENAT, .fd = AT_FDCWD,
		.addr = (uintptr_t) "/proc/self/mem", .open_flags = O_RDWR,
	};
	struct io_uring_sqe open2 = {
		.opcode = IORING_OP_OPENAT2, .fd = AT_FDCWD, .flags = IOSQE_ASYNC,
		.addr = (uintptr_t) "/proc/self/mem", .len = sizeof how, .off = (uintptr_t)&how,
	};
	use("uring-openat", submit(&r, &open1));
	/* A worker thread of the ring has its own /proc/thread-self, the same /proc/self. */
	use("uring-openat2", submit(&r, &open2));
	return 0;
}
