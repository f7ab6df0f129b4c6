/* A program that changes a variable of its own without assigning to it: the
 * variable is constant for the compiler, and the file /proc/self/mem is the
 * memory of the process. Exit status: 0 changed, 1 refused and unchanged. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static volatile int balance = 42;

int main(void)
{
	int forged = 1337;

	printf("  C:      the variable holds %d\n", balance);
	int fd = open("/proc/self/mem", O_RDWR);
	if (fd < 0)
		printf("          opening /proc/self/mem: %s\n", strerror(errno));
	else if (pwrite(fd, &forged, sizeof forged, (off_t)&balance) == sizeof forged)
		printf("          wrote %d into /proc/self/mem\n", forged);
	else
		printf("          writing to /proc/self/mem: %s\n", strerror(errno));
	printf("          the variable holds %d\n", balance);
	return balance == 42;
}
