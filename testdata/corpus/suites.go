package main

// suite is a project's test suite: suites/NAME.sh prepares and runs it.
type suite struct {
	name string
	only string // the one account that it runs as, if there is one
	read format // what it prints
}

var suites = []suite{
	{name: "go", read: goEvents},
	{name: "cpython", read: junit},
	{name: "psutil", read: junit},
	{name: "nix", read: libtest},
	{name: "procfs", read: libtest},
	{name: "git", read: tap},
	{name: "busybox", read: busyboxLines},
	{name: "redis", read: redisLines},
}

// reason is why tests come out otherwise inside.
type reason struct {
	tests string // a pattern for their names
	why   string // with the page that says so
}

// known are the reasons for differences, by suite.
var known = map[string][]reason{
	"nix": {
		{`test_vmsplice$`, "vmsplice is refused with ENOSYS while memory may not be read (docs/threat-model.md)"},
		{`test_mq::`, "message queues of an ordinary user where /dev/mqueue is not mounted (README.md, " +
			"What CMD notices)"},
		{`test_acct$`, "acct(2) fails with EACCES in the Landlock domain, whatever the file, under every policy"},
		{`test_af_alg_aead$`, "the test is left out under a seccomp filter, and fails without one: this kernel has no AF_ALG"},
		{`test_kmod::`, "CAP_SYS_MODULE is dropped, and without it the tests end early (docs/policy.md)"},
	},
	"psutil": {
		{`test_rlimit_set$|TestProcess test_(kill|terminate|send_signal|halfway_terminated_process)$|` +
			`test_wait_(exited|timeout_nonblocking)$`,
			"limits of another process: EPERM, also where it has ended (docs/threat-model.md, prlimit64)"},
		{`smaps|pmap|weird_environ|proc_environ|test_open_files|TestFetchAllProcesses test_all$`,
			"files of another process behind a ptrace check (docs/policy.md, procfs.processes)"},
		{`test_num_ctx_switches$`, "an open of /proc waits for the supervisor, and counts as a context switch " +
			"(docs/performance.md)"},
		{`test_children_duplicates$`, "the processes of memjail are in the list, and the test is left out by what is there"},
	},
	"procfs": {
		{`test_keys$`, "/proc/keys (docs/differences.md)"},
		{`test_task_runsinglethread$`, "/proc/self/task/TID/syscall (docs/differences.md)"},
		{`test_proc_pagemap$`, "/proc/self/pagemap (docs/differences.md)"},
		{`process::tests::test_all$`, "environ of a process outside (docs/policy.md, procfs.processes)"},
	},
}
