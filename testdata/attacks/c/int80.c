/*
 * int80: the 32-bit entry of a 64-bit program. Everything the calls point to
 * must lie below 4 GiB, the canary included. On another processor the program
 * has nothing to try.
 */
#include "attack.h"
#include <setjmp.h>
#include <sys/ptrace.h>

#if defined(__x86_64__)

struct low {
	volatile uint64_t target; /* in a child: its copy */
	uint64_t value, got;
	uint32_t local[2], remote[2]; /* struct iovec of a 32-bit program */
	uint64_t how[3];              /* struct open_how */
	char path[32];
};

static struct low *low;
static sigjmp_buf no_entry;

/* The sixth argument travels in ebp, so rbp is saved by hand, below the red zone. */
static long int80(long nr, long a, long b, long c, long d, long e, long f)
{
	long ret;
	__asm__ volatile("sub $128, %%rsp\n\tpush %%rbp\n\tmov %[f], %%rbp\n\tint $0x80\n\t"
			 "pop %%rbp\n\tadd $128, %%rsp"
			 : "=a"(ret)
			 : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e), [f] "r"(f)
			 : "memory", "cc", "r8", "r9", "r10", "r11");
	return (int)ret;
}

static void on_fault(int sig)
{
	siglongjmp(no_entry, sig);
}

static long addr(const volatile void *p)
{
	return (long)(uintptr_t)p;
}

static void own_mem(const char *name, long fd)
{
	int err = fd < 0 ? (int)-fd : 0;
	if (fd >= 0) {
		uint64_t v = CANARY_NEW;
		if (pwrite((int)fd, &v, sizeof v, (off_t)(uintptr_t)&canary) < 0)
			perror(name);
		close((int)fd);
	}
	report_own(name, fd >= 0, err);
}

static void opens(void)
{
	strcpy(low->path, "/proc/self/mem");
	own_mem("int80-open", int80(5, addr(low->path), O_RDWR, 0, 0, 0, 0));
	own_mem("int80-creat", int80(8, addr(low->path), 0600, 0, 0, 0, 0));
	own_mem("int80-openat", int80(295, AT_FDCWD, addr(low->path), O_RDWR, 0, 0, 0));
	low->how[0] = O_RDWR;
	own_mem("int80-openat2", int80(437, AT_FDCWD, addr(low->path), addr(low->how), sizeof low->how, 0, 0));
}

/* judge lets the child end: its exit status says whether its canary changed. */
static void judge(const char *name, pid_t child, int go, long rc)
{
	int status = 0;
	close(go);
	waitpid(child, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
		report(name, CHANGED, 0);
	else if (rc >= 0)
		report(name, OPENED, 0);
	else
		report(name, REFUSED, (int)-rc);
}

/* low_child waits until its pipe closes, then says whether its low canary changed. */
static pid_t low_child(int *go)
{
	int p[2];
	if (pipe(p))
		exit(2);
	pid_t child = fork();
	if (child == 0) {
		char c;
		close(p[1]);
		while (read(p[0], &c, 1) < 0 && errno == EINTR)
			;
		_exit(low->target != CANARY_OLD);
	}
	close(p[0]);
	*go = p[1];
	return child;
}

static void vm(void)
{
	int go;
	pid_t child = low_child(&go);
	low->value = CANARY_NEW;
	low->local[0] = (uint32_t)addr(&low->value);
	low->local[1] = sizeof low->value;
	low->remote[0] = (uint32_t)addr(&low->target);
	low->remote[1] = sizeof low->target;
	judge("int80-process-vm-writev", child, go,
	      int80(348, child, addr(low->local), 1, addr(low->remote), 1, 0));

	child = low_child(&go);
	low->got = 0;
	low->local[0] = (uint32_t)addr(&low->got);
	long rc = int80(347, child, addr(low->local), 1, addr(low->remote), 1, 0);
	if (low->got == CANARY_OLD)
		report("int80-process-vm-readv", READ_OUT, 0);
	else
		report("int80-process-vm-readv", rc < 0 ? REFUSED : OPENED, (int)-rc);
	close(go);
	waitpid(child, NULL, 0);
}

static void trace(void)
{
	int go, status;
	pid_t child = low_child(&go);
	long rc = int80(26, PTRACE_ATTACH, child, 0, 0, 0, 0);
	if (rc >= 0) {
		waitpid(child, &status, 0);
		int80(26, PTRACE_POKEDATA, child, addr(&low->target), 0x0bad0bad, 0, 0);
		int80(26, PTRACE_DETACH, child, 0, 0, 0, 0);
	}
	judge("int80-ptrace-attach", child, go, rc);
}

int main(void)
{
	low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	if (low == MAP_FAILED) {
		unavailable("int80-open", "no memory below 4 GiB");
		return 0;
	}
	low->target = CANARY_OLD;
	signal(SIGSEGV, on_fault);
	if (sigsetjmp(no_entry, 1)) {
		unavailable("int80-open", "no 32-bit entry");
		return 0;
	}
	opens();
	vm();
	trace();
	return 0;
}

#else

int main(void)
{
	unavailable("int80-open", "not an x86-64 processor");
	return 0;
}

#endif
