/* The parts of the kernel's structures that capability.bpf.c reads. Their offsets in the
 * running kernel are found by name when the programs are loaded (CO-RE), so only names and
 * types matter here, and no kernel's own header is needed. */
#ifndef MEMJAIL_KERNEL_H
#define MEMJAIL_KERNEL_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;

enum { BPF_MAP_TYPE_HASH = 1, BPF_MAP_TYPE_ARRAY = 2, BPF_F_NO_PREALLOC = 1, BPF_ANY = 0, BPF_NOEXIST = 1 };

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct hlist_node { struct hlist_node *next; };
struct hlist_head { struct hlist_node *first; };
struct list_head { struct list_head *next; };
struct qstr { const unsigned char *name; };

typedef struct { __u64 val; } kernel_cap_t; /* two __u32 before Linux 6.3 */
typedef struct { __u32 val; } kuid_t;
typedef struct { __u32 val; } kgid_t;
struct user_namespace { int level; };
struct cred {
	kuid_t euid;
	kgid_t egid;
	kernel_cap_t cap_permitted, cap_effective;
	struct user_namespace *user_ns;
};

typedef struct { int counter; } atomic_t;
typedef struct { __s64 counter; } atomic_long_t;
struct mutex { atomic_long_t owner; };
struct rw_semaphore { atomic_long_t count; };
struct rt_mutex_base { void *owner; };
struct mutex___rt { struct rt_mutex_base rtmutex; }; /* PREEMPT_RT */
struct rwbase_rt { atomic_t readers; };
struct rw_semaphore___rt { struct rwbase_rt rwbase; };

struct perf_event_attr { __u32 type; __u64 sample_period; };
struct pmu { void *setup_aux; };
struct perf_event { struct list_head event_entry; struct pmu *pmu; struct perf_event_attr attr; };
struct perf_event_context { struct list_head event_list; };

struct core_state;
struct signal_struct {
	struct list_head thread_head;
	struct hlist_head multiprocess;
	struct core_state *core_state; /* since Linux 5.16 */
	struct mutex cred_guard_mutex;
	struct rw_semaphore exec_update_lock;
};
struct mm_struct { atomic_t mm_users; };
struct files_struct { atomic_t count; };
struct task_struct {
	unsigned int ptrace;
	struct mm_struct *mm;
	struct files_struct *files;
	struct task_struct *real_parent;
	struct list_head ptraced, thread_node;
	unsigned long atomic_flags;
	struct task_struct *group_leader;
	struct hlist_node pid_links[4];
	const struct cred *cred;
	struct signal_struct *signal;
	struct perf_event_context *perf_event_ctxp;
};
struct task_struct___before_6_2 { struct perf_event_context *perf_event_ctxp[2]; };
struct pid { struct hlist_head tasks[4]; };

struct super_block { unsigned long s_flags, s_magic; struct dentry *s_root; };
struct inode { unsigned short i_mode; __u32 i_rdev; struct super_block *i_sb; };
struct proc_inode { struct pid *pid; struct inode vfs_inode; };
struct dentry { struct dentry *d_parent; struct qstr d_name; struct inode *d_inode; };
struct vfsmount { struct super_block *mnt_sb; };
struct path { struct dentry *dentry; };
struct file { unsigned int f_mode, f_flags; struct inode *f_inode; struct path f_path; };
struct linux_binprm { struct cred *cred; };
struct rlimit { unsigned long rlim_cur, rlim_max; };
union bpf_attr;

#pragma clang attribute pop
#endif
