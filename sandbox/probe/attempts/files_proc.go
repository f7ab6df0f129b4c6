package attempts

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

// A procFile is a file below /proc/PID that tells where a process's memory is or
// what is in it.
type procFile struct {
	name    string
	explain string
	// tells judges what was read.
	tells   func(content []byte, v probe.Victim) bool
	targets []probe.Target
}

// procFileAttempts read and write files of /proc/PID other than mem.
func procFileAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, f := range procFiles() {
		for _, target := range f.targets {
			all = append(all, f.attempt(target, "/proc", f.spelling(), nil))
		}
		if len(f.targets) > 1 { // also by the other instance, where it is about others
			for _, target := range []probe.Target{probe.Sibling, probe.Outside} {
				all = append(all, f.attempt(target, "", f.spelling()+"-by-second", prepareSecondProcfs))
			}
		}
	}
	return append(all, procWriteAttempts()...)
}

// spelling is the file's name; a slash would divide the attempt's.
func (f procFile) spelling() string { return strings.ReplaceAll(f.name, "/", ".") }

func (f procFile) attempt(target probe.Target, procfs, spelling string,
	prepare func(*probe.Setup) (func(), error)) probe.Attempt {
	explain := f.explain
	if prepare != nil {
		explain += "; through a second procfs"
	}
	return probe.Attempt{Route: "proc-files", Spelling: spelling, Target: target, Effect: probe.Obtain,
		Explain:      explain,
		Reference:    "proc(5) (/proc/PID/" + f.name + "), ptrace(2) (access mode checking)",
		Permits:      permitsMemory(probe.Obtain),
		ByCapability: true, Setup: prepare,
		Attack: func(s *probe.Env, v probe.Victim) probe.Outcome {
			root := procfs
			if root == "" {
				root = s.Values[secondProcfs]
			}
			return readLayout(v.ProcDir(root)+"/"+f.name, f, v)
		}}
}

// readLayout reads as much of a file as decides, pagemap at the victim's page.
func readLayout(path string, f procFile, v probe.Victim) probe.Outcome {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return probe.Refused("open", err)
	}
	defer unix.Close(fd)
	var content []byte
	buf := make([]byte, 64<<10)
	at := int64(0)
	if f.name == "pagemap" {
		const entry = 8
		buf, at = buf[:entry], int64(v.RW)/int64(unix.Getpagesize())*entry
	}
	for len(content) < 1<<20 {
		n, err := unix.Pread(fd, buf, at+int64(len(content)))
		if err != nil {
			return probe.Refused("read", err)
		}
		content = append(content, buf[:n]...)
		if n == 0 || f.name == "pagemap" {
			break
		}
	}
	if !f.tells(content, v) {
		return probe.Outcome{Step: "read", Detail: fmt.Sprintf("%d bytes that tell nothing", len(content))}
	}
	return probe.Did("read %d bytes of %s", len(content), path)
}

func procFiles() []procFile {
	others := []probe.Target{probe.Sibling, probe.Child, probe.Outside}
	something := func(content []byte, _ probe.Victim) bool { return len(bytes.Trim(content, "0\n")) > 0 }
	return []procFile{
		{"maps", "the memory layout of another process", mapsTell, others},
		{"smaps", "the memory layout of another process, with figures", mapsTell, others},
		{"numa_maps", "the memory layout of another process, by node", something, others},
		{"environ", "the environment of another process, which is part of its memory",
			func(content []byte, _ probe.Victim) bool {
				return bytes.Contains(content, []byte("PATH=")) || bytes.IndexByte(content, '=') > 0
			}, others},
		{"auxv", "the auxiliary vector of another process: where program and vDSO are", something, others},
		{"pagemap", "which page frame a page is in", func(content []byte, _ probe.Victim) bool {
			return len(content) == 8 && binary.NativeEndian.Uint64(content)>>63 == 1 // present
		}, append([]probe.Target{probe.Self}, others...)},
		{"syscall", "registers and stack pointer of another process", something, others},
		{"stack", "the kernel stack of another process", something, []probe.Target{probe.Sibling}},
		{"fdinfo/0", "what a descriptor of another process is", something, others},
	}
}

// mapsTell looks for the victim's page among the ranges.
func mapsTell(content []byte, v probe.Victim) bool {
	for line := range strings.Lines(string(content)) {
		field, _, _ := strings.Cut(line, " ")
		from, to, ok := strings.Cut(field, "-")
		if !ok {
			continue
		}
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 == nil && err2 == nil && start <= v.RW && v.RW < end {
			return true
		}
	}
	return false
}

// A procWrite changes something about a process through a file below /proc/PID.
type procWrite struct {
	name    string
	text    string
	explain string
	// reads is what the file says afterwards; "" where it cannot be read.
	reads   string
	targets []probe.Target
}

func procWriteAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, w := range []procWrite{
		{"clear_refs", "1", "forgetting which pages were used", "", []probe.Target{probe.Self, probe.Sibling,
			probe.Outside}},
		{"coredump_filter", "0x7f", "which memory a core dump holds", "0000007f",
			[]probe.Target{probe.Self, probe.Sibling, probe.Outside}},
		{"oom_score_adj", "777", "whom the kernel kills first", "777", []probe.Target{probe.Sibling, probe.Outside}},
		{"timerslack_ns", "777777", "the timers of another process", "777777", []probe.Target{probe.Sibling}},
		{"sched", "0", "the statistics of another process", "", []probe.Target{probe.Sibling}},
		{"attr.exec", "unconfined", "the label that the next program gets", "", []probe.Target{probe.Self}},
	} {
		for _, target := range w.targets {
			all = append(all, probe.Attempt{Route: "proc-files", Spelling: w.name, Target: target,
				Effect: probe.Disturb, Explain: "changing " + w.explain,
				Reference: "proc(5)", Permits: permitsMemory(probe.Disturb),
				Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome { return w.write(v) }})
		}
	}
	return all
}

// prefix is what the file leaves out of a number that it prints in hexadecimal.
func (w procWrite) prefix() string {
	if strings.HasPrefix(w.text, "0x") {
		return "0x"
	}
	return ""
}

func (w procWrite) write(v probe.Victim) probe.Outcome {
	path := v.ProcDir("/proc") + "/" + strings.ReplaceAll(w.name, ".", "/")
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return probe.Refused("open", err)
	}
	defer unix.Close(fd)
	before, unreadable := os.ReadFile(path)
	if _, err := unix.Write(fd, []byte(w.text)); err != nil {
		return probe.Refused("write", err)
	}
	if w.reads != "" && unreadable == nil {
		// The target may be the launcher, which goes on working.
		defer unix.Write(fd, []byte(w.prefix()+strings.TrimSpace(string(before))))
	}
	if w.reads != "" {
		if now, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(now)) != w.reads {
			return probe.Outcome{Step: "write", Detail: "written, but it did not change"}
		}
	}
	return probe.Did("wrote %q to %s", w.text, path)
}

// procSystemAttempts open files of /proc that belong to the whole system and
// through which its memory is read or programs are run outside.
func procSystemAttempts() []probe.Attempt {
	const kernelDoc = "proc(5), Documentation/admin-guide/sysctl/"
	var all []probe.Attempt
	for _, f := range []struct {
		path, explain string
		flags         int
	}{
		{"kcore", "all memory as a core file", unix.O_RDONLY},
		{"kallsyms", "where the kernel's functions are", unix.O_RDONLY},
		{"kpageflags", "what each page frame is used for", unix.O_RDONLY},
		{"kpagecount", "how often each page frame is mapped", unix.O_RDONLY},
		{"kpagecgroup", "whom each page frame belongs to", unix.O_RDONLY},
		{"kmsg", "the kernel's log, which has addresses", unix.O_RDONLY},
		{"sysrq-trigger", "commands to the kernel; one dumps registers, one kills", unix.O_WRONLY},
		{"sys/kernel/core_pattern", "the program that the kernel runs for a core dump", unix.O_WRONLY},
		{"sys/kernel/modprobe", "the program that the kernel runs to load a module", unix.O_WRONLY},
		{"sys/kernel/ns_last_pid", "the number that the next process gets", unix.O_WRONLY},
		{"sys/kernel/randomize_va_space", "where programs are loaded", unix.O_WRONLY},
		{"sys/kernel/perf_event_paranoid", "who may sample whom", unix.O_WRONLY},
		{"sys/kernel/unprivileged_bpf_disabled", "who may load programs into the kernel", unix.O_WRONLY},
		{"sys/kernel/yama/ptrace_scope", "who may trace whom", unix.O_WRONLY},
		{"sys/vm/unprivileged_userfaultfd", "who may handle kernel faults", unix.O_WRONLY},
		{"sys/vm/drop_caches", "forgetting the page cache", unix.O_WRONLY},
		{"sys/fs/suid_dumpable", "whose core dumps are written", unix.O_WRONLY},
		{"sys/fs/binfmt_misc/register", "programs that the kernel starts for others", unix.O_WRONLY},
	} {
		a := probe.Attempt{Route: "proc-system", Spelling: strings.ReplaceAll(f.path, "/", "."),
			Target: probe.System, Effect: probe.Obtain,
			Explain: "opening /proc/" + f.path + ": " + f.explain, Reference: kernelDoc,
			Permits: permitsMemory(probe.Disturb), Needs: exists("/proc/" + f.path),
			Attack: func(*probe.Env, probe.Victim) probe.Outcome { return openOnly("/proc/"+f.path, f.flags) }}
		if f.flags == unix.O_RDONLY {
			a.Permits, a.ByCapability = permitsMemory(probe.Obtain), true
		}
		all = append(all, a)
	}
	second := probe.Attempt{Route: "proc-system", Spelling: "core_pattern-by-second", Target: probe.System,
		Effect:  probe.Obtain,
		Explain: "opening core_pattern through a second procfs", Reference: kernelDoc,
		Permits: permitsMemory(probe.Disturb), Setup: prepareSecondProcfs,
		Attack: func(s *probe.Env, _ probe.Victim) probe.Outcome {
			return openOnly(s.Values[secondProcfs]+"/sys/kernel/core_pattern", unix.O_WRONLY)
		}}
	return append(all, second)
}

// exists returns a Needs: that there is such a file here.
func exists(path string) func() string {
	return func() string {
		if _, err := os.Lstat(path); err != nil {
			return "there is no " + path + " here"
		}
		return ""
	}
}
