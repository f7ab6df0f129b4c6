/* saved FILE: a program that is saved, edited and brought back. Ten times a second it writes
 * "PID VALUE" to FILE, for half a minute. */
#include "attack.h"

static volatile char value[] = "canary-old-value";

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	value[0] = 'C'; /* only memory spells it this way, never the program's file */
	for (int n = 0; n < 300; n++) {
		FILE *f = fopen(argv[1], "w");
		if (f) {
			fprintf(f, "%d %s\n", getpid(), (const char *)value);
			fclose(f);
		}
		usleep(100000);
	}
	return 0;
}
