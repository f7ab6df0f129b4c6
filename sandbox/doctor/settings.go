package doctor

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// setting is a number in /proc/sys with a least value that is safe.
type setting struct {
	id, name string // name as sysctl(8) writes it
	min, max int    // the values that are ok
	why      string // of the others
	fix      string
	absent   string // what it means when the kernel does not have it; empty: nothing, ok
}

var settings = []setting{
	{id: "userfaultfd", name: "vm.unprivileged_userfaultfd", min: 0, max: 0,
		why: "Any process can intercept another's page faults and fill the pages. Refused inside.",
		fix: "sysctl vm.unprivileged_userfaultfd=0"},
	{id: "io-uring", name: "kernel.io_uring_disabled", min: 1, max: 2,
		why:    "A ring that two processes share gives access to memory and bypasses filters. Refused inside.",
		fix:    "sysctl kernel.io_uring_disabled=2 (1: allowed for one group), if nothing needs it",
		absent: "The kernel cannot disable io_uring (6.6 can). Refused inside."},
	{id: "perf-event", name: "kernel.perf_event_paranoid", min: 2, max: 4,
		why: "Any user may measure the kernel and other processes. Refused inside.",
		fix: "sysctl kernel.perf_event_paranoid=2"},
	{id: "bpf", name: "kernel.unprivileged_bpf_disabled", min: 1, max: 2,
		why: "Any user may load programs into the kernel, which can read its memory by side channels. Refused inside.",
		fix: "sysctl kernel.unprivileged_bpf_disabled=2"},
	{id: "tiocsti", name: "dev.tty.legacy_tiocsti", min: 0, max: 0,
		why: "A process can type into its terminal, and so into the shell that started it. Refused inside.",
		fix: "sysctl dev.tty.legacy_tiocsti=0",
		absent: "The kernel cannot switch TIOCSTI off (6.2 can): a process can type into its terminal. " +
			"Refused inside."},
	{id: "memfd-noexec", name: "vm.memfd_noexec", min: 0, max: 2},
	{id: "kptr-restrict", name: "kernel.kptr_restrict", min: 1, max: 2,
		why: "Files of /proc and /sys show addresses of the kernel, which an attack on it needs.",
		fix: "sysctl kernel.kptr_restrict=1"},
}

func sysctlPath(name string) string { return "proc/sys/" + strings.ReplaceAll(name, ".", "/") }

const notThere = "not there"

func (f *facts) setting(s setting) Finding {
	g := Finding{ID: s.id, Title: s.name}
	text, err := f.text(sysctlPath(s.name))
	if errors.Is(err, fs.ErrNotExist) {
		g.Value, g.Why = notThere, s.absent
		if s.absent != "" {
			g.Verdict = Warn
		}
		return g
	}
	n, nerr := strconv.Atoi(text)
	if err != nil || nerr != nil {
		return unreadable(g, err, text)
	}
	g.Value = text
	if n < s.min || n > s.max {
		g.Verdict, g.Why, g.Fix = Warn, s.why, s.fix
	}
	return g
}

// unreadable makes a finding of a file that says nothing usable.
func unreadable(g Finding, err error, text string) Finding {
	g.Value, g.Verdict = "could not tell", Unknown
	g.Why = fmt.Sprintf("Reading it failed: %v.", err)
	if err == nil {
		g.Why = fmt.Sprintf("Its value is not understood: %q.", text)
	}
	return g
}

const yamaPath = "proc/sys/kernel/yama/ptrace_scope"

func (f *facts) yama() Finding {
	g := Finding{ID: "yama", Title: "kernel.yama.ptrace_scope", Fix: "sysctl kernel.yama.ptrace_scope=1"}
	text, err := f.text(yamaPath)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		g.Value, g.Verdict = notThere, Warn
		g.Why = "Outside, every process can read and write the memory of its user's other processes. Closed inside."
		g.Fix = "a kernel with Yama (lsm=...,yama) and kernel.yama.ptrace_scope=1"
	case err != nil:
		return unreadable(g, err, text)
	case text == "0":
		g.Value, g.Verdict = text, Warn
		g.Why = "Outside, every process can read and write the memory of its user's other processes. Closed inside."
	case text == "1":
		g.Value, g.Fix = text, ""
	case f.mayRead() == "":
		g.Value, g.Fix = text, ""
	default:
		g.Value, g.Verdict, g.Why = text, Warn, f.mayRead()
	}
	return g
}

// mayRead says why Yama keeps a supervisor from reading the memory of what it
// supervises, or nothing. A supervisor under "run" is an ancestor, which scope 1
// allows; scope 2 wants CAP_SYS_PTRACE; scope 3 allows nobody.
func (f *facts) mayRead() string {
	const consequence = " So a supervisor cannot grant anything: all of /proc is closed inside, even " +
		"its harmless files."
	switch text, err := f.text(yamaPath); {
	case err != nil:
		return ""
	case text == "2" && !f.holds("CAP_SYS_PTRACE"):
		return "Reading another process's memory needs CAP_SYS_PTRACE, which this process does not have." + consequence
	case text == "3":
		return "No process may read another's memory until the next boot." + consequence
	}
	return ""
}

// forceOverride is about writing through /proc/PID/mem to pages that are
// read-only: a boot parameter wins over how the kernel was built (6.12).
func (f *facts) forceOverride() Finding {
	const parameter = "proc_mem.force_override"
	g := Finding{ID: "proc-mem", Title: parameter}
	if f.dated && !f.version.atLeast(6, 12) {
		g.Value, g.Verdict, g.Fix = notThere, Warn, "Linux 6.12 or later, booted with "+parameter+"=never"
		g.Why = "Even read-only pages and code can be written through /proc/PID/mem. Closed inside."
		return g
	}
	g.Value = f.bootParameter(parameter)
	if g.Value == "" {
		g.Value = f.builtForce()
	}
	switch g.Value {
	case "never", "ptrace":
	case "always":
		g.Verdict, g.Fix = Warn, "boot with "+parameter+"=never (or ptrace, for debuggers)"
		g.Why = "Even read-only pages and code can be written through /proc/PID/mem. Closed inside."
	default:
		g.Value, g.Verdict = "could not tell", Unknown
		g.Why = "Neither the boot parameters nor the kernel's configuration show it."
	}
	return g
}

// bootParameter is the last value that the boot parameters give to name.
func (f *facts) bootParameter(name string) (value string) {
	text, err := f.text("proc/cmdline")
	if err != nil {
		return ""
	}
	for _, word := range strings.Fields(text) {
		if v, ok := strings.CutPrefix(word, name+"="); ok {
			value = v
		}
	}
	return value
}

// builtForce is the value that the kernel was built with, or "".
func (f *facts) builtForce() string {
	words := map[string]string{
		"CONFIG_PROC_MEM_ALWAYS_FORCE=y": "always",
		"CONFIG_PROC_MEM_FORCE_PTRACE=y": "ptrace",
		"CONFIG_PROC_MEM_NO_FORCE=y":     "never",
	}
	r, err := f.config()
	if err != nil {
		return ""
	}
	defer r.Close()
	for lines := bufio.NewScanner(r); lines.Scan(); {
		if word, ok := words[strings.TrimSpace(lines.Text())]; ok {
			return word
		}
	}
	return ""
}

// config opens the configuration that the kernel was built with.
func (f *facts) config() (io.ReadCloser, error) {
	if r, err := f.Root.Open("boot/config-" + f.release); err == nil {
		return r, nil
	}
	packed, err := f.Root.Open("proc/config.gz")
	if err != nil {
		return nil, err
	}
	r, err := gzip.NewReader(packed)
	if err != nil {
		packed.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{r, packed}, nil
}

// userNamespaces asks the three places where their making can be restricted:
// the limit of the kernel itself, Debian's switch and AppArmor's.
func (f *facts) userNamespaces() Finding {
	g := Finding{ID: "user-namespaces", Title: "new user namespaces", Value: "anybody"}
	for _, s := range []struct{ name, closed string }{
		{"user.max_user_namespaces", "0"},
		{"kernel.unprivileged_userns_clone", "0"},
		{"kernel.apparmor_restrict_unprivileged_userns", "1"},
	} {
		if text, err := f.text(sysctlPath(s.name)); err == nil && text == s.closed {
			g.Value = fmt.Sprintf("restricted (%s=%s)", s.name, text)
			return g
		}
	}
	if _, err := f.text(sysctlPath("user.max_user_namespaces")); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			return unreadable(g, err, "")
		}
		g.Value = notThere
		return g
	}
	g.Why = "They open much of the kernel to every user. Refused inside, unless the policy has namespaces = \"user\"."
	return g
}

// privateViews reports whether paths.view = "private" starts for this user.
func (f *facts) privateViews() Finding {
	g := Finding{ID: "private-views", Title: "private views of files", Value: "possible"}
	if err := f.Kernel.PrivateView(); err != nil {
		g.Value = "not possible for this user"
		g.Why = "Policies with paths.view, paths.tmp or [home] do not start: " + err.Error() + "."
	}
	return g
}

func (f *facts) lockdown() Finding {
	g := Finding{ID: "lockdown", Title: "kernel lockdown"}
	text, err := f.text("sys/kernel/security/lockdown")
	if errors.Is(err, fs.ErrNotExist) {
		g.Value, g.Verdict = "could not tell", Unknown
		g.Why = "/sys/kernel/security/lockdown is not there: no lockdown, or securityfs is not mounted."
		return g
	}
	_, rest, ok := strings.Cut(text, "[")
	mode, _, ok2 := strings.Cut(rest, "]")
	if err != nil || !ok || !ok2 {
		return unreadable(g, err, text)
	}
	g.Value = mode
	if mode == "none" {
		g.Verdict, g.Fix = Warn, "boot with lockdown=integrity"
		g.Why = "Root can change the running kernel. Root inside cannot: its capabilities for that are dropped."
	}
	return g
}

func (f *facts) corePattern() Finding {
	g := Finding{ID: "core-pattern", Title: "kernel.core_pattern"}
	text, err := f.text(sysctlPath("kernel.core_pattern"))
	if err != nil {
		return unreadable(g, err, text)
	}
	kind := "file"
	switch {
	case strings.HasPrefix(text, "|"):
		kind = "program"
		if program, _, _ := strings.Cut(text[1:], " "); !slices.Contains([]string{"false", "true"},
			path.Base(program)) {
			g.Verdict, g.Why = Warn, coreWhy
			g.Fix = "a program that stores nothing: systemd-coredump with Storage=none in " +
				"coredump.conf, or sysctl kernel.core_pattern=|/bin/false"
		}
	case strings.HasPrefix(text, "@"):
		kind = "socket"
		g.Verdict, g.Fix = Warn, "a core_pattern that names a file or a program"
		g.Why = "A dump that goes to a socket ignores the limit on its size. Inside, dumps contain no " +
			"memory, but they are still made. " + coreWhy
	}
	g.Value = kind + ": " + text
	if text == "" {
		g.Value = "empty"
	}
	return g
}

// coreWhy is what dumps of processes outside are to a sandbox.
const coreWhy = "A process outside that crashes leaves its memory where its user may read it, and a " +
	"sandboxed program can make one crash: " +
	"it truncates a file that the process has mapped (SIGBUS). Path rules that let no such file be written prevent it."

// coreLimit is the limit under which memjail itself was started, which is most likely
// that of other processes of the same session.
func (f *facts) coreLimit() Finding {
	g := Finding{ID: "core-limit", Title: "RLIMIT_CORE here"}
	text, err := f.text("proc/self/limits")
	if err != nil {
		return unreadable(g, err, text)
	}
	for line := range strings.Lines(text) {
		values, ok := strings.CutPrefix(line, "Max core file size")
		if fields := strings.Fields(values); ok && len(fields) >= 2 {
			g.Value = fields[0]
		}
	}
	switch g.Value {
	case "":
		return unreadable(g, nil, text)
	case "0":
	default:
		pattern, err := f.text(sysctlPath("kernel.core_pattern"))
		if err == nil && pattern != "" && !strings.ContainsAny(pattern[:1], "|@") {
			g.Verdict, g.Why, g.Fix = Warn, coreWhy, "ulimit -S -c 0 for the session, LimitCORE=0 for services"
		}
	}
	return g
}

func (f *facts) suidDumpable() Finding {
	g := Finding{ID: "suid-dumpable", Title: "fs.suid_dumpable"}
	text, err := f.text(sysctlPath("fs.suid_dumpable"))
	if err != nil {
		return unreadable(g, err, text)
	}
	g.Value = text
	switch text {
	case "0":
	case "1":
		g.Verdict, g.Fix = Warn, "sysctl fs.suid_dumpable=0"
		g.Why = "Programs that changed their user can be traced by that user, who can also read their dumps."
	case "2": // the kernel itself wants a pipe or an absolute path then
	default:
		return unreadable(g, nil, text)
	}
	return g
}
