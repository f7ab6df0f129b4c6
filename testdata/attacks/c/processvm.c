/* processvm: process_vm_readv and process_vm_writev on this process, a child, a
 * sibling, the parent and a process outside. */
#include "attack.h"

static void attack(const char *who, struct victim *v)
{
	char name[64];
	uint64_t got = 0, value = CANARY_NEW;
	struct iovec far = { (void *)(uintptr_t)v->addr, sizeof got };
	struct iovec in = { &got, sizeof got }, out = { &value, sizeof value };

	snprintf(name, sizeof name, "%s-readv", who);
	ssize_t n = process_vm_readv(v->pid, &in, 1, &far, 1, 0);
	int err = errno;
	if (n < 0)
		report(name, REFUSED, err);
	else
		report(name, got == CANARY_OLD ? READ_OUT : OPENED, 0);

	snprintf(name, sizeof name, "%s-writev", who);
	n = process_vm_writev(v->pid, &out, 1, &far, 1, 0);
	err = errno;
	report_victim(name, v, n > 0, err);
}

int main(int argc, char **argv)
{
	uint64_t got = 0, value = CANARY_NEW;
	struct iovec far = { (void *)&canary, sizeof got };
	struct iovec in = { &got, sizeof got }, out = { &value, sizeof value };
	ssize_t n = process_vm_readv(getpid(), &in, 1, &far, 1, 0);
	int err = errno;
	report("self-readv", n > 0 && got == CANARY_OLD ? READ_OUT : REFUSED, err);
	n = process_vm_writev(getpid(), &out, 1, &far, 1, 0);
	err = errno;
	report_own("self-writev", n > 0, err);
	each_victim(argc, argv, attack);
	return 0;
}
