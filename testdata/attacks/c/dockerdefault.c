/* dockerdefault CMD...: what Docker 20.10 puts on a container by default, as far as a
 * supervisor notices: no call that reads or writes another process's memory (EPERM), and
 * of the capabilities only those that a container's root has. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const int kept[] = {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FSETID, CAP_FOWNER, CAP_MKNOD, CAP_NET_RAW, CAP_SETGID,
	CAP_SETUID, CAP_SETFCAP, CAP_SETPCAP, CAP_NET_BIND_SERVICE, CAP_SYS_CHROOT, CAP_KILL, CAP_AUDIT_WRITE};

int main(int argc, char **argv)
{
	unsigned long long set = 0;
	for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
		set |= 1ULL << kept[i];
	int refused[] = {SYS_process_vm_readv, SYS_process_vm_writev, SYS_kcmp, SYS_pidfd_getfd, SYS_perf_event_open, SYS_bpf};
	enum { N = sizeof refused / sizeof *refused };
	struct sock_filter code[N + 3] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
	for (int i = 0; i < N; i++)
		code[i + 1] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, refused[i], N - i, 0);
	code[N + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	code[N + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	struct sock_fprog program = {N + 3, code};
	if (argc < 2)
		return 2;
	if (geteuid() != 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return perror("no_new_privs"), 2;
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		return perror("seccomp"), 2;
	if (geteuid() == 0) {
		for (int c = 0; c < 64; c++)
			if (!(set >> c & 1) && prctl(PR_CAPBSET_READ, c, 0, 0, 0) == 1 && prctl(PR_CAPBSET_DROP, c, 0, 0, 0))
				return perror("bounding set"), 2;
		struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
		struct __user_cap_data_struct data[2] = {{set, set, 0}, {set >> 32, set >> 32, 0}};
		if (syscall(SYS_capset, &head, data))
			return perror("capset"), 2;
	}
	execvp(argv[1], argv + 1);
	return perror(argv[1]), 2;
}
