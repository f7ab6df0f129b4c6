/* mounts: a procfs of one's own, mounted, detached, or copied from the one there. */
#include "attack.h"
#include <linux/mount.h>
#include <sched.h>
#include <sys/mount.h>

#ifndef __NR_open_tree
#define __NR_open_tree 428
#define __NR_fsopen 430
#define __NR_fsconfig 431
#define __NR_fsmount 432
#endif

static void use(const char *name, int fd, int err)
{
	uint64_t v = CANARY_NEW;
	if (fd >= 0 && pwrite(fd, &v, sizeof v, (off_t)(uintptr_t)&canary) < 0)
		perror(name);
	report_own(name, fd >= 0, err);
	if (fd >= 0)
		close(fd);
}

static void through(const char *name, int dir, int err)
{
	int fd = -1;
	if (dir >= 0) {
		fd = openat(dir, "self/mem", O_RDWR);
		err = errno;
		close(dir);
	}
	use(name, fd, err);
}

int main(void)
{
	char path[] = "/tmp/memjail-proc-XXXXXX", mem[64];
	int root = getuid() == 0;
	int rc = unshare(root ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID);
	int err = errno;
	if (!root) {
		report("user-namespace", rc ? REFUSED : OPENED, err);
		return 0;
	}
	report("mount-namespace", rc ? REFUSED : OPENED, err);
	mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);

	if (!mkdtemp(path))
		return 2;
	rc = mount("proc", path, "proc", 0, NULL);
	err = errno;
	snprintf(mem, sizeof mem, "%s/self/mem", path);
	int fd = rc ? -1 : open(mem, O_RDWR);
	use("mount-proc", fd, err);
	umount2(path, MNT_DETACH);
	rmdir(path);

	int fs = (int)syscall(__NR_fsopen, "proc", 0), m = -1;
	err = errno;
	if (fs >= 0 && syscall(__NR_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0) {
		m = (int)syscall(__NR_fsmount, fs, 0, 0);
		err = errno;
	}
	through("fsmount-proc", m, err);

	m = (int)syscall(__NR_open_tree, AT_FDCWD, "/proc", OPEN_TREE_CLONE);
	through("open-tree-clone", m, errno);
	return 0;
}
