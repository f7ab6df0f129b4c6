/* fds: the descriptors that a program finds open, one per line. Nothing is opened
 * to find out. */
#include "attack.h"

int main(void)
{
	for (int fd = 0; fd < 4096; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			printf("%d\n", fd);
	return 0;
}
