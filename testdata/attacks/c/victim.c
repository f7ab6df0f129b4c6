/* victim: a process outside. Prints "PID ADDRESS", then its canary for every
 * line it reads. A dump of its core holds the text below. */
#include "attack.h"

static volatile char secret[] = "core-canary-5f1d";

int main(void)
{
	secret[0] = 'C'; /* only memory spells it this way, never the file */
	printf("%d %p\n", getpid(), (void *)&canary);
	fflush(stdout);
	char line[64];
	while (fgets(line, sizeof line, stdin)) {
		printf("%#llx\n", (unsigned long long)canary);
		fflush(stdout);
		canary = CANARY_OLD;
	}
	return 0;
}
