/* The memory capability in the kernel: BPF LSM programs.
 *
 * Every process can reach memory through files, ptrace and the like, until it drops the
 * capability to do so by prctl(2). From then on it is *marked*, for life, and so are its
 * descendants. These programs decide what a marked process is refused, and what others are
 * refused that want its memory. They decide on the object that the kernel has reached.
 *
 * Rules for every change:
 * - A mark must never be missed. So it is kept in a hash map by the task's address: before
 *   Linux 6.2 the kernel's task storage may answer "busy", which looks like "no mark".
 * - An entry in the map is a mark, whatever its value. Its rights only get fewer.
 * - In doubt, refuse. If a mark cannot be stored, the fork fails.
 * - No program sleeps. None reads the result of the programs before it, whose position
 *   differs between kernels: if one of them refuses, the chain ends anyway.
 * - The numbers of prctl and of rights are those of the Go package capability, the file
 *   systems those of package specialfs; a test compares them. */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

enum { EPERM = 1, EAGAIN = 11, ENOMEM = 12, EACCES = 13, EBUSY = 16, EEXIST = 17, EINVAL = 22, ENODATA = 61, EALREADY = 114 };

/* prctl(PR_MEMORY_CAPABILITY, OP_QUERY, 0, 0, 0)
 *       (PR_MEMORY_CAPABILITY, OP_DROP or OP_DROP_AND_EXEC, rights, token, 0)
 *       (PR_MEMORY_CAPABILITY, OP_SUPERVISE, 0, token, 0)
 *       (PR_MEMORY_CAPABILITY, OP_PAUSE, milliseconds, 0, 0)
 * A program on this hook can only answer with an errno, so EALREADY means: in force.
 * OP_DROP_AND_EXEC is for a process that shares its address space or its descriptors until
 * it executes a program, such as the child of a vfork(2). An unmarked process that knows the token of a
 * drop may read and write the processes that made it: a supervisor reads the paths of the
 * sandbox's calls. OP_PAUSE keeps processes from dropping the capability for a time, so that
 * root can count those that have, and uninstall it. */
enum {
	PR_SET_MM = 35, PR_MEMORY_CAPABILITY = 0x4d454d4a,
	OP_QUERY = 0x100, OP_DROP = 0x101, OP_SUPERVISE = 0x102, OP_DROP_AND_EXEC = 0x103, OP_PAUSE = 0x104,
	MAX_PAUSE = 60000, /* milliseconds */
};

/* What a marked process keeps. */
enum {
	KEEP_WRITE_COMM = 1,
	KEEP_WRITE_OOM_SCORE_ADJ = 2,
	KEEP_READ_PROCESS = 4, /* files of processes, as the table says */
	KEEP_READ_SYSTEM = 8,  /* files about the system */
	KEEP_READ_SANDBOX = 16, /* a process's own files, also of those that descend from the same drop */
	KEEP_CORE_DUMP = 32,
	KEEP_EXEC_MEMFD = 64,
	KEEP_WRITE_ID_MAPS = 128, /* uid_map, gid_map and setgroups, its own and its children's */
	KEEP_ALL = 255,
	GAIN_BY_EXEC = 256, /* set-uid programs work: dropped by the system's administrator */
};

enum { FMODE_READ = 1, FMODE_WRITE = 2, FMODE_EXEC = 0x20, O_ACCMODE = 3 };
enum { S_IFMT = 0170000, S_IFDIR = 0040000, S_IFCHR = 0020000 };
enum { PTRACE_MODE_ATTACH = 2, PTRACE_MODE_REALCREDS = 16 };
enum { CAP_SYS_PTRACE = 19, CAP_SYS_ADMIN = 21, CAP_SYS_RESOURCE = 24 };
enum { RLIMIT_CORE = 4, PFA_NO_NEW_PRIVS = 1 };
enum { PERF_TYPE_BREAKPOINT = 5, MAX_EVENTS = 32, MAX_THREADS = 1 << 16 };
#define SB_NOUSER (1UL << 31)
enum {
	PROC = 0x9fa0, TRACEFS = 0x74726163, DEBUGFS = 0x64626720, CONFIGFS = 0x62656570, BPFFS = 0xcafe4a11,
	SECURITYFS = 0x73636673, BINFMT_MISC = 0x42494e4d, XENFS = 0xabba1974, SPUFS = 0x23c9b64e, HUGETLBFS = 0x958458f6, ANON_INODES = 0x09041934,
};

/* Settings of the installation. */
volatile const __u32 outside_all = 0;    /* outsiders may not even read /proc/PID/fd, maps, ... */
volatile const __u32 administrator = 1;  /* CAP_SYS_PTRACE of the initial user namespace may, unmarked */

/* Marks by the address of the task, supervisors by that of the process's leader. The loader
 * gives these maps room for every task that the kernel can have, so nobody can fill them. */
struct mark { __u32 rights, version; __u64 group, token; };
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 15);
	__type(key, __u64);
	__type(value, struct mark);
} marks SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 15);
	__type(key, __u64);
	__type(value, __u64);
} supervisors SEC(".maps");

/* How many marks there are, and until when no process can drop the capability. fence counts
 * drops; it is there for the barrier that counting is. */
struct state { __u64 marks, paused_until, fence; };
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct state);
} state SEC(".maps");

/* The table of supervisor/decide: what of procfs may be opened. */
struct name { char s[32]; };
struct file_key { __u32 system; struct name first, second; };
struct grant { __u8 depths, any, ptrace, write; };
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct file_key);
	__type(value, struct grant);
} grants SEC(".maps");

/* verdict returns the answer of a program. Without the barrier the compiler calculates it
 * from the condition, in a way that the verifier does not follow. */
static __always_inline int verdict(int refuse, int err)
{
	barrier_var(refuse);
	return refuse ? -err : 0;
}

/* ---- marks ---- */

/* effective reports whether a task is marked. Its rights are those that both the thread and
 * the process have. */
static __always_inline int effective(__u64 task, __u64 leader, struct mark *out)
{
	struct mark *own = bpf_map_lookup_elem(&marks, &task), *process = bpf_map_lookup_elem(&marks, &leader);
	__u32 found = 0;
	*out = (struct mark){.rights = ~0U};
	if (own) {
		out->rights &= own->rights;
		out->group = own->group;
		out->token = own->token;
		found = 1;
	}
	barrier_var(found); /* or the compiler ors two pointers, which the verifier refuses */
	if (process) {
		out->rights &= process->rights;
		if (found && out->group != process->group)
			out->rights &= ~KEEP_READ_SANDBOX;
		out->group = process->group;
		out->token = process->token;
		found = 1;
	}
	return found;
}

static __always_inline int marked(struct task_struct *t, struct mark *out)
{
	return effective((__u64)t, (__u64)t->group_leader, out);
}

static __always_inline struct state *the_state(void)
{
	__u32 key = 0;
	return bpf_map_lookup_elem(&state, &key);
}

static __always_inline void count_marks(__s64 difference)
{
	struct state *s = the_state();
	if (s)
		__sync_fetch_and_add(&s->marks, difference);
}

/* mark changes an existing mark in place and never replaces it: a reader on another
 * processor must not see the mark of another task. */
static __always_inline int mark(__u64 task, const struct mark *m)
{
	struct mark new = {.rights = m->rights, .version = 1, .group = m->group, .token = m->token};
	int err = bpf_map_update_elem(&marks, &task, &new, BPF_NOEXIST);
	if (!err)
		count_marks(1);
	if (err != -EEXIST)
		return err;
	struct mark *old = bpf_map_lookup_elem(&marks, &task);
	if (!old)
		return -EAGAIN;
	__sync_fetch_and_and(&old->rights, m->rights);
	old->group = m->group; /* the token stays: nobody gets rid of his supervisor */
	return 0;
}

/* remove removes what the maps have about a task. A look comes first, because it takes no
 * lock. */
static __always_inline void remove(__u64 task)
{
	if (bpf_map_lookup_elem(&marks, &task) && !bpf_map_delete_elem(&marks, &task))
		count_marks(-1);
	if (bpf_map_lookup_elem(&supervisors, &task))
		bpf_map_delete_elem(&supervisors, &task);
}

/* There may be an entry of an earlier task at the address of the new one: task_free may run
 * in an interrupt that finds the map busy. */
SEC("lsm/task_alloc")
int BPF_PROG(inherit, struct task_struct *task)
{
	struct mark m;
	remove((__u64)task);
	return verdict(marked(bpf_get_current_task_btf(), &m) && mark((__u64)task, &m), EAGAIN);
}

SEC("lsm/task_free")
int BPF_PROG(forget, struct task_struct *task)
{
	remove((__u64)task);
	return 0;
}

static __always_inline int capable(const struct cred *cred, int capability)
{
	__u64 held = 0;
	bpf_probe_read_kernel(&held, sizeof held, &cred->cap_effective);
	return held >> capability & 1;
}

/* in_charge reports whether a capability counts for the whole system. In a user namespace of
 * his own every user has all of them. */
static __always_inline int in_charge(const struct cred *cred, int capability)
{
	return cred->user_ns->level == 0 && capable(cred, capability);
}

/* ---- what began before the drop ---- */

/* An exec in progress, or an attach: it may have looked before the mark was there. */
static __always_inline int exec_in_progress(struct signal_struct *signal)
{
	if (bpf_core_field_exists(struct mutex, owner))
		return BPF_CORE_READ(signal, cred_guard_mutex.owner.counter) != 0;
	struct mutex___rt *m = (void *)signal + bpf_core_field_offset(struct signal_struct, cred_guard_mutex);
	return BPF_CORE_READ(m, rtmutex.owner) != 0;
}

/* Somebody is opening a perf event of the process, its memory, or one of its descriptors. */
static __always_inline int access_in_progress(struct signal_struct *signal)
{
	if (bpf_core_field_exists(struct rw_semaphore, count))
		return BPF_CORE_READ(signal, exec_update_lock.count.counter) != 0;
	struct rw_semaphore___rt *s = (void *)signal + bpf_core_field_offset(struct signal_struct, exec_update_lock);
	return BPF_CORE_READ(s, rwbase.readers.counter) != (int)(1U << 31); /* READER_BIAS: nobody */
}

static __always_inline int traces(struct task_struct *t)
{
	return BPF_CORE_READ(t, ptraced.next) != (void *)t + bpf_core_field_offset(struct task_struct, ptraced);
}

/* records reports whether one of some perf events may record registers, memory or branches:
 * whatever samples, watches an address, or belongs to a PMU that fills a buffer. Pure counters
 * do not. */
static __always_inline int records(struct perf_event_context *events)
{
	if (!events)
		return 0;
	void *head = (void *)events + bpf_core_field_offset(struct perf_event_context, event_list);
	void *node = BPF_CORE_READ(events, event_list.next);
	for (int i = 0; i < MAX_EVENTS; i++) {
		if (node == head)
			return 0;
		struct perf_event *e = node - bpf_core_field_offset(struct perf_event, event_entry);
		if (BPF_CORE_READ(e, attr.sample_period) || BPF_CORE_READ(e, attr.type) == PERF_TYPE_BREAKPOINT ||
		    BPF_CORE_READ(e, pmu, setup_aux))
			return 1;
		node = BPF_CORE_READ(e, event_entry.next);
	}
	return 1; /* more than this looks at */
}

static __always_inline int recorded(struct task_struct *t)
{
	if (bpf_core_field_exists(t->perf_event_ctxp))
		return records(BPF_CORE_READ(t, perf_event_ctxp));
	struct task_struct___before_6_2 *before = (void *)t;
	return records(BPF_CORE_READ(before, perf_event_ctxp[0])) || records(BPF_CORE_READ(before, perf_event_ctxp[1]));
}

/* look is the state of a walk through the threads of a process. */
struct look {
	void *node, *head; /* the next one in signal->thread_head, and the end */
	struct mm_struct *mm;
	struct files_struct *files;
	int users;   /* of the address space, besides the threads */
	int sharers; /* of the descriptors, besides the threads */
	int refused;
};

static long look_at_thread(__u32 index, struct look *l)
{
	if (l->node == l->head)
		return 1;
	struct task_struct *t = l->node - bpf_core_field_offset(struct task_struct, thread_node);
	if (BPF_CORE_READ(t, ptrace) || traces(t) || recorded(t)) {
		l->refused = 1;
		return 1;
	}
	l->users -= BPF_CORE_READ(t, mm) == l->mm;
	struct files_struct *files = BPF_CORE_READ(t, files);
	if (files == l->files)
		l->sharers--;
	else if (files && BPF_CORE_READ(files, count.counter) > 1)
		l->sharers = MAX_THREADS; /* a thread with descriptors of its own shares them with somebody */
	l->node = BPF_CORE_READ(t, thread_node.next);
	return 0;
}

/* left_over returns the reason why a process that has just been marked may still be
 * reached, or reach others, by what began before: EBUSY, a thread traces, is traced or is
 * recorded; EAGAIN, it may pass. */
static __always_inline int left_over(struct task_struct *t, int executes)
{
	struct signal_struct *signal = t->signal;
	struct look l = {
		.node = BPF_CORE_READ(signal, thread_head.next),
		.head = (void *)signal + bpf_core_field_offset(struct signal_struct, thread_head),
		.mm = t->mm,
		.files = BPF_CORE_READ(t, files),
		.users = BPF_CORE_READ(t, mm, mm_users.counter),
		.sharers = BPF_CORE_READ(t, files, count.counter),
	};
	if (exec_in_progress(signal) || access_in_progress(signal) || BPF_CORE_READ(signal, multiprocess.first))
		return EAGAIN; /* or a fork, whose child may have no mark */
	bpf_loop(MAX_THREADS, look_at_thread, &l, 0);
	if (l.refused)
		return EBUSY;
	return l.node != l.head || ((l.users > 0 || l.sharers > 0) && !executes) ? EAGAIN : 0;
}

/* ---- prctl ---- */

/* new_group returns a number that no other drop has, of this generation or an earlier one.
 * It is random, and not the time: two drops at the same moment must not share a group. */
static __always_inline __u64 new_group(void)
{
	__u64 high = bpf_get_prandom_u32();
	return high << 32 | bpf_get_prandom_u32();
}

/* pause_drops answers OP_PAUSE. */
static __always_inline int pause_drops(struct task_struct *t, unsigned long milliseconds)
{
	struct state *s = the_state();
	struct mark m;
	if (!s || milliseconds > MAX_PAUSE)
		return -EINVAL;
	if (marked(t, &m) || !in_charge(t->cred, CAP_SYS_ADMIN))
		return -EPERM;
	s->paused_until = bpf_ktime_get_ns() + milliseconds * 1000000;
	return -EALREADY;
}

/* supervise answers OP_SUPERVISE. */
static __always_inline int supervise(struct task_struct *t, __u64 token)
{
	__u64 key = (__u64)t->group_leader;
	struct mark m;
	if (marked(t, &m))
		return -EPERM;
	return bpf_map_update_elem(&supervisors, &key, &token, BPF_ANY) ? -ENOMEM : -EALREADY;
}

/* drop answers OP_DROP and OP_DROP_AND_EXEC. */
static __always_inline int drop(struct task_struct *t, unsigned long rights, __u64 token, int executes)
{
	struct mark before, m = {.rights = rights, .group = new_group(), .token = token};
	struct state *s = the_state();
	if (!s)
		return -EINVAL;
	/* As for seccomp and Landlock: nobody can weaken a set-uid program that he starts. */
	if (!(t->atomic_flags & PFA_NO_NEW_PRIVS) && !capable(t->cred, CAP_SYS_ADMIN))
		return -EPERM;
	if (in_charge(t->cred, CAP_SYS_ADMIN))
		m.rights |= GAIN_BY_EXEC;
	if (marked(t, &before))
		m.token = before.token; /* also for a thread that has no mark of its own yet */
	else if (bpf_ktime_get_ns() < s->paused_until)
		return -EAGAIN;
	if (mark((__u64)t->group_leader, &m) || mark((__u64)t, &m))
		return -ENOMEM;
	/* First mark, then look, with a barrier in between: what the look misses has seen the
	 * mark. */
	__u64 fenced = __sync_fetch_and_add(&s->fence, 1);
	asm volatile("" ::"r"(fenced));
	return -(left_over(t, executes) ?: EALREADY);
}

SEC("lsm/task_prctl")
int BPF_PROG(control, int option, unsigned long operation, unsigned long a3, unsigned long token, unsigned long a5)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct mark m;
	if (option == PR_SET_MM) /* changes which memory the kernel shows as environ and cmdline */
		return verdict(marked(t, &m), EPERM);
	if (option != PR_MEMORY_CAPABILITY)
		return 0;
	if (operation == OP_QUERY && !a3 && !token && !a5)
		return marked(t, &m) ? -EALREADY : -ENODATA;
	if (operation == OP_SUPERVISE && !a3 && token && !a5)
		return supervise(t, token);
	if (operation == OP_PAUSE && !token && !a5)
		return pause_drops(t, a3);
	if ((operation == OP_DROP || operation == OP_DROP_AND_EXEC) && !(a3 & ~KEEP_ALL) && !a5)
		return drop(t, a3, token, operation == OP_DROP_AND_EXEC);
	return -EINVAL;
}

static __always_inline int gains(struct cred *new, const struct cred *old)
{
	__u64 will = 0, has = 0;
	bpf_probe_read_kernel(&will, sizeof will, &new->cap_permitted);
	bpf_probe_read_kernel(&has, sizeof has, &old->cap_permitted);
	return new->euid.val != old->euid.val || new->egid.val != old->egid.val || (will & ~has);
}

/* This hook is called after the interpreter was opened and before the other threads end.
 * The thread that executes becomes the leader, so it needs the mark itself. */
SEC("lsm/bprm_creds_from_file")
int BPF_PROG(execute, struct linux_binprm *bprm)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct mark m;
	if (!marked(t, &m))
		return 0;
	if (!(m.rights & GAIN_BY_EXEC) && !(t->atomic_flags & PFA_NO_NEW_PRIVS) && gains(bprm->cred, t->cred))
		return -EPERM;
	return verdict(mark((__u64)t, &m), EAGAIN);
}

/* ---- files ---- */

/* same compares n characters with a literal. */
static __always_inline int same(const char *a, const char *b, int n)
{
#pragma unroll
	for (int i = 0; i < n; i++)
		if (a[i] != b[i])
			return 0;
	return 1;
}

static __always_inline void name_of(struct dentry *d, struct name *n)
{
	__builtin_memset(n, 0, sizeof *n);
	bpf_probe_read_kernel_str(n->s, sizeof n->s, d->d_name.name);
}

/* owner_of reports whether a directory of procfs belongs to a process, and finds its task;
 * 0: it has ended. */
static __always_inline int owner_of(struct inode *dir, __u64 *task)
{
	struct proc_inode *p = (void *)dir - bpf_core_field_offset(struct proc_inode, vfs_inode);
	struct pid *pid = BPF_CORE_READ(p, pid);
	if (!pid)
		return 0;
	struct hlist_node *first = BPF_CORE_READ(pid, tasks[0].first);
	*task = first ? (__u64)first - bpf_core_field_offset(struct task_struct, pid_links[0]) : 0;
	return 1;
}

static __always_inline struct grant *grant_for(struct file_key *key, struct dentry *second)
{
	struct grant *g = bpf_map_lookup_elem(&grants, key);
	if (g || !second)
		return g;
	name_of(second, &key->second); /* rows with two names, such as bus/input/ */
	return bpf_map_lookup_elem(&grants, key);
}

/* child_of reports whether a process is a child of the current one. */
static __always_inline int child_of(struct task_struct *owner, struct task_struct *current)
{
	return BPF_CORE_READ(owner, real_parent, signal) == current->signal;
}

/* same_drop reports whether a process descends from the drop that made a mark. */
static __always_inline int same_drop(struct task_struct *owner, const struct mark *m)
{
	struct mark other = {};
	return effective((__u64)owner, (__u64)BPF_CORE_READ(owner, group_leader), &other) && other.group == m->group;
}

/* closed reports whether a file of procfs is refused. */
static __always_inline int closed(struct file *file, const struct mark *m)
{
	struct dentry *d = file->f_path.dentry, *root = file->f_inode->i_sb->s_root;
	struct dentry *first = 0, *second = 0, *third = 0, *fourth = 0;
	int depth = 0;
#pragma unroll
	for (int i = 0; i < 8; i++) {
		if (d == root)
			break;
		fourth = third, third = second, second = first, first = d;
		d = d->d_parent;
		depth++;
	}
	if (d != root || !first)
		return 1; /* deeper than any row, or detached */
	struct file_key key = {};
	__u64 task = 0;
	int process = owner_of(first->d_inode, &task);
	if (!process) {
		key.system = 1;
		name_of(first, &key.first);
	} else if (!second) {
		return 1;
	} else {
		depth--;
		name_of(second, &key.first);
		if (fourth && same(key.first.s, "task", 5)) {
			depth -= 2; /* task/TID/NAME */
			name_of(fourth, &key.first);
			third = 0;
		}
		second = third;
	}
	struct grant *g = grant_for(&key, second);
	if (!g || !(g->depths >> (depth & 7) & 1) || depth > 7)
		return 1;
	struct task_struct *current = bpf_get_current_task_btf(), *owner = (void *)task;
	int mine = task && BPF_CORE_READ(owner, signal) == current->signal;
	if ((file->f_mode & FMODE_WRITE) || (file->f_flags & O_ACCMODE) == O_ACCMODE) {
		if (!(g->write & m->rights))
			return 1;
		return !mine && !(task && g->write == KEEP_WRITE_ID_MAPS && child_of(owner, current));
	}
	if (!(m->rights & (process ? KEEP_READ_PROCESS : KEEP_READ_SYSTEM)))
		return 1;
	if (!process || mine || g->any)
		return 0;
	return !(task && g->ptrace && (m->rights & KEEP_READ_SANDBOX) && same_drop(owner, m));
}

static __always_inline int closed_file_system(unsigned long magic)
{
	return magic == TRACEFS || magic == DEBUGFS || magic == CONFIGFS || magic == BPFFS || magic == SECURITYFS ||
	       magic == BINFMT_MISC || magic == XENFS || magic == SPUFS;
}

static __always_inline int memory_device(struct inode *inode) /* mem, kmem, port */
{
	__u32 device = inode->i_rdev;
	return (inode->i_mode & S_IFMT) == S_IFCHR && (device == (1 << 20 | 1) || device == (1 << 20 | 2) || device == (1 << 20 | 4));
}

static __always_inline int may_look(struct task_struct *current, int current_marked)
{
	return !current_marked && administrator && in_charge(current->cred, CAP_SYS_PTRACE);
}

/* closed_to_all reports whether no process may write a file of procfs: the switch that turns
 * all BPF LSM programs off, and coredump_filter of a process that may not dump core. */
static __always_inline int closed_to_all(struct task_struct *t, struct file *file)
{
	struct dentry *d = file->f_path.dentry, *parent = d->d_parent;
	struct mark mine, theirs;
	struct name n;
	__u64 task = 0;
	name_of(d, &n);
	if (same(n.s, "ftrace_enabled", 15))
		return 1;
	if (!same(n.s, "coredump_filter", 16) || !owner_of(parent->d_inode, &task) || !task)
		return 0;
	struct task_struct *owner = (void *)task;
	return effective(task, (__u64)BPF_CORE_READ(owner, group_leader), &theirs) && !(theirs.rights & KEEP_CORE_DUMP) &&
	       !may_look(t, marked(t, &mine));
}

/* dumps reports whether a process is dumping core without the right to. */
static __always_inline int dumps(struct task_struct *t)
{
	struct mark m;
	if (!bpf_core_field_exists(struct signal_struct, core_state) || !t->signal->core_state)
		return 0;
	return marked(t, &m) && !(m.rights & KEEP_CORE_DUMP);
}

SEC("lsm/file_open")
int BPF_PROG(opened, struct file *file)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct inode *inode = file->f_inode;
	struct super_block *sb = inode->i_sb;
	unsigned long magic = sb->s_magic;
	struct mark m;
	if (magic == PROC) {
		if ((file->f_mode & FMODE_WRITE) && closed_to_all(t, file))
			return -EPERM;
		if ((inode->i_mode & S_IFMT) == S_IFDIR || !marked(t, &m))
			return 0;
		return verdict(closed(file, &m), EACCES);
	}
	if (closed_file_system(magic))
		return verdict((inode->i_mode & S_IFMT) != S_IFDIR && marked(t, &m), EACCES);
	if (memory_device(inode))
		return verdict(marked(t, &m), EACCES);
	if ((file->f_flags & FMODE_EXEC) && ((sb->s_flags & SB_NOUSER) || magic == HUGETLBFS)) /* a memfd, as program or interpreter */
		return verdict(marked(t, &m) && !(m.rights & KEEP_EXEC_MEMFD), EACCES);
	return verdict(dumps(t), EPERM); /* the core file */
}

static __always_inline int anonymous_memory(struct file *file)
{
	struct name n;
	name_of(file->f_path.dentry, &n);
	return same(n.s, "[userfaultfd]", 14) || same(n.s, "[perf_event]", 13) || same(n.s, "[io_uring]", 11);
}

/* A descriptor that another process passes (SCM_RIGHTS, pidfd_getfd, a seccomp
 * supervisor). */
SEC("lsm/file_receive")
int BPF_PROG(received, struct file *file)
{
	struct inode *inode = file->f_inode;
	unsigned long magic = inode->i_sb->s_magic;
	struct mark m;
	if ((inode->i_mode & S_IFMT) == S_IFDIR)
		return 0;
	if (magic != PROC && magic != ANON_INODES && !closed_file_system(magic) && !memory_device(inode))
		return 0;
	if (!marked(bpf_get_current_task_btf(), &m))
		return 0;
	if (magic == ANON_INODES)
		return verdict(anonymous_memory(file), EACCES);
	return verdict(magic != PROC || closed(file, &m), EACCES);
}

/* ---- other processes ---- */

static __always_inline int supervises(struct task_struct *t, __u64 token)
{
	__u64 key = (__u64)t->group_leader, *known = bpf_map_lookup_elem(&supervisors, &key);
	return known && token && *known == token;
}

/* The kernel does not ask for threads of one process. */
SEC("lsm/ptrace_access_check")
int BPF_PROG(access, struct task_struct *child, unsigned int mode)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct mark mine = {}, theirs = {};
	int inside = marked(t, &mine), target = marked(child, &theirs);
	if (!inside && (!target || supervises(t, theirs.token)))
		return 0;
	/* READ by real credentials is what perf, kcmp, move_pages and get_robust_list ask. */
	if (mode & (PTRACE_MODE_ATTACH | PTRACE_MODE_REALCREDS))
		return verdict(!may_look(t, inside), EACCES);
	if (inside)
		return verdict(!target || mine.group != theirs.group, EACCES);
	return verdict(outside_all && !may_look(t, inside), EACCES);
}

SEC("lsm/ptrace_traceme")
int BPF_PROG(traceme, struct task_struct *parent)
{
	struct mark m;
	return verdict(marked(bpf_get_current_task_btf(), &m) || marked(parent, &m), EPERM);
}

/* ---- optional programs, loaded one by one ---- */

/* A task that has ended may stay in memory as long as somebody refers to it, for instance by
 * a perf event or a ring of io_uring. Nobody reaches memory by way of it any more, so it needs
 * no mark: else a user could keep the marks of tasks that have ended until there is no room
 * for others. forget comes too late for that, and is still needed for forks that fail. */
SEC("tp_btf/sched_process_free")
int BPF_PROG(ended, struct task_struct *task)
{
	remove((__u64)task);
	return 0;
}

/* RLIMIT_CORE: a process without the right to core dumps may lower its own to 1 or 0. For
 * others, 0 is no way either, since it starts a core handler behind a pipe, and 1 does not. */
SEC("lsm/task_setrlimit")
int BPF_PROG(limit, struct task_struct *task, unsigned int resource, struct rlimit *new)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct mark m, mine;
	if (resource != RLIMIT_CORE || !marked(task, &m) || (m.rights & KEEP_CORE_DUMP) ||
	    (new->rlim_cur <= 1 && task->signal == t->signal))
		return 0;
	return verdict(marked(t, &mine) || !in_charge(t->cred, CAP_SYS_RESOURCE), EPERM);
}

/* A core handler at a socket (Linux 6.16), to which RLIMIT_CORE does not apply. */
SEC("lsm/unix_stream_connect")
int dump_socket(void *ctx) { return verdict(dumps(bpf_get_current_task_btf()), EPERM); }

static __always_inline int refuse_marked(int err)
{
	struct mark m;
	return verdict(marked(bpf_get_current_task_btf(), &m), err);
}

SEC("lsm/perf_event_open")
int perf(void *ctx) { return refuse_marked(EACCES); }

SEC("lsm/bpf")
int bpf_call(void *ctx) { return refuse_marked(EPERM); }

SEC("lsm/inode_init_security_anon")
int BPF_PROG(anonymous, struct inode *inode, const struct qstr *name)
{
	struct name n = {};
	bpf_probe_read_kernel_str(n.s, sizeof n.s, name->name);
	return same(n.s, "[userfaultfd]", 14) ? refuse_marked(EPERM) : 0;
}

/* The pins hold the programs: a marked process may not remove or move them. */
SEC("lsm/inode_unlink")
int BPF_PROG(unlink, struct inode *dir) { return dir->i_sb->s_magic == BPFFS ? refuse_marked(EPERM) : 0; }

SEC("lsm/inode_rmdir")
int BPF_PROG(rmdir, struct inode *dir) { return dir->i_sb->s_magic == BPFFS ? refuse_marked(EPERM) : 0; }

SEC("lsm/inode_rename")
int BPF_PROG(rename, struct inode *dir) { return dir->i_sb->s_magic == BPFFS ? refuse_marked(EPERM) : 0; }

SEC("lsm/sb_umount")
int BPF_PROG(umount, struct vfsmount *mount) { return mount->mnt_sb->s_magic == BPFFS ? refuse_marked(EPERM) : 0; }
