/* setmm: PR_SET_MM_MAP moves the argument block onto the canary; then
 * /proc/self/cmdline shows it. */
#include "attack.h"
#include <linux/prctl.h>

/* The kernel wants the whole layout; what is not ours to choose is read from stat. */
static int layout(struct prctl_mm_map *m)
{
	char buf[2048];
	unsigned long f[64];
	FILE *s = fopen("/proc/self/stat", "r");
	if (!s)
		return -1;
	size_t n = fread(buf, 1, sizeof buf - 1, s);
	fclose(s);
	buf[n] = 0;
	char *p = strrchr(buf, ')') + 4; /* field 4 */
	for (int i = 4; i <= 51; i++)
		f[i] = strtoul(p, &p, 10);
	*m = (struct prctl_mm_map){
		.start_code = f[26], .end_code = f[27], .start_data = f[45], .end_data = f[46],
		.start_brk = f[47], .brk = (uintptr_t)sbrk(0), .start_stack = f[28],
		.arg_start = f[48], .arg_end = f[49], .env_start = f[50], .env_end = f[51],
		.exe_fd = (uint32_t)-1,
	};
	return 0;
}

int main(void)
{
	struct prctl_mm_map m;
	if (layout(&m)) {
		perror("stat");
		memset(&m, 0, sizeof m); /* the call is still made: it must be refused, not only fail */
	}
	/* The kernel shows the argument block of anonymous memory only. */
	uint64_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	page[0] = CANARY_OLD;
	m.arg_start = (uintptr_t)page;
	m.arg_end = m.arg_start + 2 * sizeof *page;
	if (prctl(PR_SET_MM, PR_SET_MM_MAP, &m, sizeof m, 0)) {
		report("set-mm-map", REFUSED, errno);
		return 0;
	}
	uint64_t got = 0;
	int fd = open("/proc/self/cmdline", O_RDONLY);
	ssize_t n = read(fd, &got, sizeof got);
	report("set-mm-map", n == sizeof got && got == CANARY_OLD ? READ_OUT : OPENED, 0);
	return 0;
}
