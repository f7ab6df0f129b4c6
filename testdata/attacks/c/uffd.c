/* uffd: userfaultfd fills a page that this process may only read. */
#include "attack.h"
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

static void fill(const char *name, int fd, int err)
{
	if (fd < 0) {
		report(name, REFUSED, err);
		return;
	}
	struct uffdio_api api = { .api = UFFD_API };
	volatile uint64_t *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t *src = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	src[0] = CANARY_NEW;
	struct uffdio_register reg = {
		.range = { (uintptr_t)page, 4096 }, .mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_copy copy = { .dst = (uintptr_t)page, .src = (uintptr_t)src, .len = 4096 };
	if (ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg) || ioctl(fd, UFFDIO_COPY, &copy)) {
		report(name, OPENED, 0);
		return;
	}
	report(name, page[0] == CANARY_NEW ? CHANGED : OPENED, 0);
	close(fd);
}

int main(void)
{
	int fd = (int)syscall(__NR_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	fill("uffd-user-mode", fd, errno);

	int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), err = errno;
	if (dev < 0 && (err == ENOENT || (err == EACCES && getuid() != 0))) {
		unavailable("uffd-device", "no device node for this user");
		return 0;
	}
	fd = dev < 0 ? -1 : ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC);
	fill("uffd-device", fd, dev < 0 ? err : errno);
	return 0;
}
