#!/bin/sh
# A day's work in small: an editor's pipe, a compiler, version control, an
# interpreter that starts children, a look at the processes. Prints the same
# wherever it runs.
set -eu
export GIT_AUTHOR_NAME=demo GIT_AUTHOR_EMAIL=demo@example.org
export GIT_COMMITTER_NAME=demo GIT_COMMITTER_EMAIL=demo@example.org
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1

git init -q -b main .
cat >primes.c <<'C'
#include <stdio.h>
int main(void)
{
	int found = 0;
	for (int n = 2; found < 1000; n++) {
		int prime = 1;
		for (int d = 2; prime && d * d <= n; d++)
			prime = n % d != 0;
		if (prime && ++found == 1000)
			printf("%d\n", n);
	}
	return 0;
}
C
git add primes.c
git commit -q -m 'The thousandth prime'
gcc -O2 -o primes primes.c
echo "gcc and the program it made: $(./primes)"
echo "git log: $(git log --format=%s)"
python3 - <<'PYTHON'
import multiprocessing
with multiprocessing.get_context("fork").Pool(2) as pool:
    print("python3 and two children:", sum(pool.map(abs, range(-100, 100))))
PYTHON
sort primes.c | tee sorted | wc -l | tr -d ' ' | sed 's/^/a pipeline: lines sorted: /'
echo "ps about this shell: $(ps -o comm= -p $$)"
test "$(grep -c '^processor' /proc/cpuinfo)" -gt 0 && echo "/proc/cpuinfo: readable"
grep -q '\[stack\]' /proc/self/maps && echo "/proc/self/maps: readable"
