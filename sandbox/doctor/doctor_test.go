package doctor

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/memjail/memjail/sandbox/view"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the expected texts of testdata again")

// answers is a kernel that answers as it is told.
type answers struct {
	abi             int
	abiErr          error
	capability      bool
	errata          int
	errataErr       error
	notif, killable answer
	pidfd           answer
	children        error
	view            error
}

func (a answers) MemoryCapability() (bool, error) { return a.capability, nil }
func (a answers) LandlockABI() (int, error)       { return a.abi, a.abiErr }
func (a answers) LandlockErrata() (int, error)    { return a.errata, a.errataErr }
func (a answers) UserNotif() (bool, error)        { return a.notif.yes, a.notif.err }
func (a answers) WaitKillableRecv() (bool, error) { return a.killable.yes, a.killable.err }
func (a answers) PIDFD() (bool, error)            { return a.pidfd.yes, a.pidfd.err }
func (a answers) TryReadChild() error             { return a.children }
func (a answers) PrivateView() error              { return a.view }

// closed is a file system in which some files may not be read.
type closed struct {
	fs.FS
	files map[string]error
}

func (c closed) Open(name string) (fs.File, error) {
	if err := c.files[name]; err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return c.FS.Open(name)
}

var yes, no = answer{yes: true}, answer{}

const (
	userStatus = "Name:\tmemjail\nUid:\t1000\t1000\t1000\t1000\n" +
		"CapEff:\t0000000000000000\nSeccomp:\t0\nSeccomp_filters:\t0\n"
	rootStatus = "Name:\tmemjail\nUid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\nSeccomp:\t0\nSeccomp_filters:\t0\n"
	coreLimits = "Limit                     Soft Limit           Hard Limit           Units     \n" +
		"Max stack size            8388608              unlimited            bytes     \n" +
		"Max core file size        0                    unlimited            bytes     \n"
	mountTable = "22 27 0:21 / /proc rw,relatime - proc proc rw\n" +
		"23 27 0:22 / /sys rw,relatime shared:2 - sysfs sysfs rw\n" +
		"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
)

// modern are the files of a machine on which all is well; the cases change them.
func modern() map[string]string {
	return map[string]string{
		"proc/sys/kernel/osrelease":                 "7.2.13-amd64\n",
		"proc/self/status":                          userStatus,
		"proc/self/mountinfo":                       mountTable,
		"proc/self/limits":                          coreLimits,
		"proc/self/cgroup":                          "0::/user.slice\n",
		"proc/cmdline":                              "quiet proc_mem.force_override=never\n",
		"proc/sys/kernel/yama/ptrace_scope":         "1\n",
		"proc/sys/vm/unprivileged_userfaultfd":      "0\n",
		"proc/sys/kernel/io_uring_disabled":         "2\n",
		"proc/sys/kernel/perf_event_paranoid":       "3\n",
		"proc/sys/kernel/unprivileged_bpf_disabled": "2\n",
		"proc/sys/dev/tty/legacy_tiocsti":           "0\n",
		"proc/sys/vm/memfd_noexec":                  "0\n",
		"proc/sys/kernel/kptr_restrict":             "1\n",
		"proc/sys/user/max_user_namespaces":         "63000\n",
		"sys/kernel/security/lockdown":              "none [integrity] confidentiality\n",
		"proc/sys/kernel/core_pattern":              "core\n",
		"proc/sys/fs/suid_dumpable":                 "2\n",
	}
}

var modernKernel = answers{abi: 10, errata: 0xf, notif: yes, killable: yes, pidfd: yes}

// with changes files; an empty text removes one.
func with(files map[string]string) map[string]string {
	all := modern()
	for name, text := range files {
		if text == "" {
			delete(all, name)
		} else {
			all[name] = text
		}
	}
	return all
}

func machine(files map[string]string, k Kernel, denied map[string]error) Machine {
	m := fstest.MapFS{}
	for name, text := range files {
		m[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return Machine{Root: closed{m, denied}, Kernel: k, Program: Program{Entry: true}}
}

// The machines that are told whole, in testdata.
func machines() map[string]Machine {
	return map[string]Machine{
		"modern": machine(modern(), modernKernel, nil),
		"debian-12": machine(with(map[string]string{
			"proc/sys/kernel/osrelease":         "6.1.0-56-amd64\n",
			"proc/cmdline":                      "quiet\n",
			"proc/sys/kernel/yama/ptrace_scope": "0\n",
			"proc/sys/kernel/io_uring_disabled": "",
			"proc/sys/dev/tty/legacy_tiocsti":   "",
			"proc/sys/vm/memfd_noexec":          "",
			"proc/sys/kernel/kptr_restrict":     "0\n",
			"proc/self/limits":                  strings.Replace(coreLimits, "0   ", "unlimited", 1),
			"proc/sys/fs/suid_dumpable":         "0\n",
			"sys/kernel/security/lockdown":      "[none] integrity confidentiality\n",
		}), answers{abi: 2, errata: 0xc, notif: yes, killable: yes, pidfd: yes}, nil),
		"ubuntu-24.04": machine(with(map[string]string{
			"proc/sys/kernel/osrelease": "6.8.0-60-generic\n",
			"proc/cmdline":              "ro quiet splash\n",
			"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n",
			"proc/sys/kernel/core_pattern":                          "|/usr/share/apport/apport -p%p\n",
			"sys/kernel/security/lockdown":                          "[none] integrity confidentiality\n",
		}), answers{abi: 4, errata: 0x5, notif: yes, killable: yes, pidfd: yes,
			view: &view.NamespaceError{Step: "writing the user namespace's map of IDs", Err: unix.EACCES}}, nil),
		"debian-11": machine(with(map[string]string{
			"proc/sys/kernel/osrelease":         "5.10.0-46-amd64\n",
			"proc/self/status":                  rootStatus,
			"proc/cmdline":                      "quiet\n",
			"proc/sys/kernel/yama/ptrace_scope": "0\n",
			"proc/sys/kernel/io_uring_disabled": "",
			"proc/sys/dev/tty/legacy_tiocsti":   "",
			"proc/sys/vm/memfd_noexec":          "",
		}), answers{abiErr: unix.ENOSYS, errataErr: unix.ENOSYS, notif: yes, killable: no, pidfd: yes}, nil),
		"container": machine(with(map[string]string{
			"proc/self/status": strings.Replace(rootStatus, "filters:\t0", "filters:\t2",
				1) + "Seccomp:\t2\n",
			".dockerenv":                   " ",
			"sys/kernel/security/lockdown": "",
		}), modernKernel, map[string]error{"proc/sys/kernel/kptr_restrict": fs.ErrPermission}),
	}
}

func TestText(t *testing.T) {
	for name, m := range machines() {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := Text(&out, Examine(m), false); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if out.String() != string(want) {
				t.Errorf("got:\n%swant:\n%s", out.String(), want)
			}
			for line := range strings.Lines(out.String()) {
				// A row is as long as its value; what stands below it is wrapped.
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width && line[0] == ' ' {
					t.Errorf("%d columns: %s", n, line)
				}
			}
		})
	}
}

func TestModernIsOK(t *testing.T) {
	for _, f := range Examine(machine(modern(), modernKernel, nil)) {
		if f.Verdict != OK || f.Fix != "" {
			t.Errorf("%+v", f)
		}
	}
}

// finding returns the one of that id.
func finding(t *testing.T, all []Finding, id string) Finding {
	t.Helper()
	for _, f := range all {
		if f.ID == id {
			return f
		}
	}
	t.Fatalf("no finding %q", id)
	return Finding{}
}

const sysctl = "proc/sys/"

// TestProgram: how memjail itself was built.
func TestProgram(t *testing.T) {
	for _, c := range []struct {
		program Program
		verdict Verdict
	}{
		{Program{Entry: true}, OK}, {Program{}, Warn}, {Program{Dynamic: true}, Bad},
		{Program{Dynamic: true, Entry: true}, Bad},
	} {
		m := machine(modern(), modernKernel, nil)
		m.Program = c.program
		if f := finding(t, Examine(m), "program"); f.Verdict != c.verdict || (f.Fix == "") != (f.Verdict == OK) {
			t.Errorf("%+v: %+v", c.program, f)
		}
	}
}

// TestCoreLimitOfAProgram: what a program stores, the limit does not decide.
func TestCoreLimitOfAProgram(t *testing.T) {
	files := with(map[string]string{sysctl + "kernel/core_pattern": "|/bin/x",
		"proc/self/limits": strings.Replace(coreLimits, "0   ", "unlimited", 1)})
	if f := finding(t, Examine(machine(files, modernKernel, nil)), "core-limit"); f.Verdict != OK {
		t.Errorf("%+v", f)
	}
}

// Each row differs from the machine on which all is well by one thing.
var verdicts = []struct {
	id, file, text string
	value          string
	verdict        Verdict
}{
	{"kernel", sysctl + "kernel/osrelease", "6.11.2", "6.11.2", Warn},
	{"kernel", sysctl + "kernel/osrelease", "6.12", "6.12", OK},
	{"kernel", sysctl + "kernel/osrelease", "odd", "could not tell", Unknown},
	{"kernel", sysctl + "kernel/osrelease", "", "could not tell", Unknown},
	{"sync-wake-up", sysctl + "kernel/osrelease", "6.5.0", "no, by the release", Warn},
	{"sync-wake-up", sysctl + "kernel/osrelease", "6.6.0", "yes, by the release", OK},
	{"quick-answers", sysctl + "kernel/osrelease", "6.17.9", "no, by the release", Warn},
	{"quick-answers", sysctl + "kernel/osrelease", "6.18.0", "yes, by the release", OK},
	{"yama", sysctl + "kernel/yama/ptrace_scope", "", "not there", Warn},
	{"yama", sysctl + "kernel/yama/ptrace_scope", "0", "0", Warn},
	{"yama", sysctl + "kernel/yama/ptrace_scope", "1", "1", OK},
	{"yama", sysctl + "kernel/yama/ptrace_scope", "2", "2", Warn},
	{"yama", sysctl + "kernel/yama/ptrace_scope", "3", "3", Warn},
	{"proc-mem", "proc/cmdline", "x proc_mem.force_override=ptrace", "ptrace", OK},
	{"proc-mem", "proc/cmdline", "proc_mem.force_override=never proc_mem.force_override=always", "always", Warn},
	{"proc-mem", "proc/cmdline", "quiet", "could not tell", Unknown},
	{"userfaultfd", sysctl + "vm/unprivileged_userfaultfd", "1", "1", Warn},
	{"userfaultfd", sysctl + "vm/unprivileged_userfaultfd", "", "not there", OK},
	{"io-uring", sysctl + "kernel/io_uring_disabled", "0", "0", Warn},
	{"io-uring", sysctl + "kernel/io_uring_disabled", "", "not there", Warn},
	{"perf-event", sysctl + "kernel/perf_event_paranoid", "-1", "-1", Warn},
	{"perf-event", sysctl + "kernel/perf_event_paranoid", "1", "1", Warn},
	{"perf-event", sysctl + "kernel/perf_event_paranoid", "2", "2", OK},
	{"bpf", sysctl + "kernel/unprivileged_bpf_disabled", "0", "0", Warn},
	{"tiocsti", sysctl + "dev/tty/legacy_tiocsti", "1", "1", Warn},
	{"tiocsti", sysctl + "dev/tty/legacy_tiocsti", "", "not there", Warn},
	{"kptr-restrict", sysctl + "kernel/kptr_restrict", "0", "0", Warn},
	{"kptr-restrict", sysctl + "kernel/kptr_restrict", "what", "could not tell", Unknown},
	{"user-namespaces", sysctl + "user/max_user_namespaces", "0", "restricted (user.max_user_namespaces=0)", OK},
	{"user-namespaces", sysctl + "kernel/unprivileged_userns_clone", "0",
		"restricted (kernel.unprivileged_userns_clone=0)", OK},
	{"user-namespaces", sysctl + "user/max_user_namespaces", "", "not there", OK},
	{"lockdown", "sys/kernel/security/lockdown", "[none] integrity confidentiality", "none", Warn},
	{"lockdown", "sys/kernel/security/lockdown", "none integrity [confidentiality]", "confidentiality", OK},
	{"lockdown", "sys/kernel/security/lockdown", "", "could not tell", Unknown},
	{"lockdown", "sys/kernel/security/lockdown", "none", "could not tell", Unknown},
	{"core-pattern", sysctl + "kernel/core_pattern", "core.%p", "file: core.%p", OK},
	{"core-pattern", sysctl + "kernel/core_pattern", "|/lib/systemd/systemd-coredump %P %u",
		"program: |/lib/systemd/systemd-coredump %P %u", Warn},
	{"core-pattern", sysctl + "kernel/core_pattern", "|/bin/false", "program: |/bin/false", OK},
	{"core-limit", "proc/self/limits",
		"Max core file size        unlimited            unlimited            bytes", "unlimited", Warn},
	{"core-limit", "proc/self/limits",
		"Max core file size        0                    unlimited            bytes", "0", OK},
	{"core-limit", "proc/self/limits", "Max core file size", "could not tell", Unknown},
	{"core-limit", "proc/self/limits", "", "could not tell", Unknown},
	{"core-pattern", sysctl + "kernel/core_pattern", "@/run/coredump", "socket: @/run/coredump", Warn},
	{"core-pattern", sysctl + "kernel/core_pattern", "\n", "empty", OK},
	{"suid-dumpable", sysctl + "fs/suid_dumpable", "1", "1", Warn},
	{"proc-mounts", "proc/self/mountinfo", mountTable + `40 27 0:21 / /srv/a\040b/proc rw - proc proc rw` +
		"\n", "/srv/a b/proc", Warn},
	{"proc-mounts", "proc/self/mountinfo", mountTable + "40 27 0:21 /77/mem /tmp/x rw - proc proc rw\n",
		"/tmp/x", Warn},
	{"proc-mounts", "proc/self/mountinfo", mountTable + "40 22 0:21 /sys /proc/sys ro - proc proc rw\n", "none", OK},
	{"proc-mounts", "proc/self/mountinfo", "27 1 254:0 / / rw - ext4 /dev/vda rw\nnonsense\n",
		"/proc is no procfs", Bad},
	{"proc-mounts", "proc/self/mountinfo", "", "could not tell", Unknown},
	{"trace-mounts", "proc/self/mountinfo", mountTable + "40 23 0:9 / /sys/kernel/tracing rw - tracefs t rw\n",
		"/sys/kernel/tracing", OK},
	{"trace-mounts", "proc/self/mountinfo", mountTable + "40 23 0:9 / /trace rw - tracefs t rw\n", "/trace", Warn},
	{"trace-mounts", "proc/self/mountinfo", "", "could not tell", Unknown},
	{"privileges", "proc/self/status", rootStatus, "root, 13 capabilities", OK},
	{"privileges", "proc/self/status", userStatus, "ordinary user", OK},
	{"privileges", "proc/self/status", "", "could not tell", Unknown},
	{"filters", "proc/self/status", "Seccomp:\t2\nSeccomp_filters:\t1\n", "1", Unknown},
	{"filters", "proc/self/status", "Seccomp:\t2\n", "some", Unknown},
	{"filters", "proc/self/status", "", "could not tell", Unknown},
	{"container", "run/systemd/container", "lxc\n", "yes (lxc)", OK},
	{"container", "run/.containerenv", " ", "yes (podman)", OK},
	{"container", "proc/self/cgroup", "4:memory:/kubepods/x\n", "yes (kubepods)", OK},
}

func TestVerdicts(t *testing.T) {
	for _, c := range verdicts {
		f := finding(t, Examine(machine(with(map[string]string{c.file: c.text}), modernKernel, nil)), c.id)
		if f.Value != c.value || f.Verdict != c.verdict {
			t.Errorf("%s, %s = %q: got %q %s, want %q %s", c.id, c.file, c.text, f.Value, f.Verdict, c.value, c.verdict)
		}
		if f.Verdict != OK && f.Why == "" || f.Verdict == OK && f.Fix != "" {
			t.Errorf("%s, %s = %q: %+v", c.id, c.file, c.text, f)
		}
	}
}

func TestShape(t *testing.T) {
	eperm := answer{err: unix.EPERM}
	scope := func(text, status string) map[string]string {
		return map[string]string{"proc/sys/kernel/yama/ptrace_scope": text, "proc/self/status": status}
	}
	change := func(f func(*answers)) answers { a := modernKernel; f(&a); return a }
	for _, c := range []struct {
		name    string
		files   map[string]string
		kernel  answers
		value   string
		verdict Verdict
	}{
		{"all is well", nil, modernKernel, ShapeComplete, OK},
		{"ABI 6", nil, change(func(a *answers) { a.abi = 6 }), ShapeComplete, OK},
		{"ABI 5", nil, change(func(a *answers) { a.abi = 5 }), ShapeLess, Warn},
		{"ABI 1", nil, change(func(a *answers) { a.abi = 1 }), ShapeLess, Warn},
		{"no Landlock", nil, change(func(a *answers) { a.abi, a.abiErr = 0, unix.ENOSYS }), ShapeNone, Bad},
		{"Landlock disabled", nil, change(func(a *answers) { a.abi, a.abiErr = 0, unix.EOPNOTSUPP }), ShapeNone, Bad},
		{"Landlock hidden", nil, change(func(a *answers) { a.abi, a.abiErr = 0, unix.EPERM }), ShapeUncertain, Unknown},
		{"no /proc", map[string]string{"proc/self/mountinfo": "27 1 254:0 / / rw - ext4 /dev/vda rw\n"},
			modernKernel, ShapeNone, Bad},
		{"no notification", nil, change(func(a *answers) { a.notif = no }), ShapeNoGrants, Warn},
		{"notification hidden", nil, change(func(a *answers) { a.notif = eperm }), ShapeUncertain, Unknown},
		{"5.18", nil, change(func(a *answers) { a.killable = no }), ShapeNoGrants, Warn},
		{"no pidfd", nil, change(func(a *answers) { a.pidfd = no }), ShapeNoGrants, Warn},
		{"children cannot be read", nil, change(func(a *answers) { a.children = unix.EACCES }), ShapeNoGrants, Warn},
		{"Yama 2, user", scope("2", userStatus), modernKernel, ShapeNoGrants, Warn},
		{"Yama 2, root", scope("2", rootStatus), modernKernel, ShapeComplete, OK},
		{"Yama 3, root", scope("3", rootStatus), modernKernel, ShapeNoGrants, Warn},
		{"filters above", map[string]string{"proc/self/status": "Seccomp:\t2\nSeccomp_filters:\t1\n"},
			modernKernel, ShapeComplete, Unknown},
	} {
		all := Examine(machine(with(c.files), c.kernel, nil))
		f := all[len(all)-1]
		if f.ID != ShapeID || f.Value != c.value || f.Verdict != c.verdict || f.Verdict != OK && f.Why == "" {
			t.Errorf("%s: %+v, want %q %s", c.name, f, c.value, c.verdict)
		}
	}
}

// The configuration is packed on some machines and plain on others; a boot
// parameter wins over it.
func TestForceOverrideFromConfig(t *testing.T) {
	pack := func(text string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	const text = "CONFIG_A=y\n# CONFIG_PROC_MEM_ALWAYS_FORCE is not set\nCONFIG_PROC_MEM_FORCE_PTRACE=y\n"
	for _, c := range []struct {
		files map[string]string
		want  string
	}{
		{map[string]string{"proc/cmdline": "quiet", "proc/config.gz": pack(text)}, "ptrace"},
		{map[string]string{"proc/cmdline": "quiet", "boot/config-7.2.13-amd64": text}, "ptrace"},
		{map[string]string{"proc/cmdline": "proc_mem.force_override=always", "proc/config.gz": pack(text)}, "always"},
		{map[string]string{"proc/cmdline": "quiet", "proc/config.gz": "no gzip"}, "could not tell"},
	} {
		f := finding(t, Examine(machine(with(c.files), modernKernel, nil)), "proc-mem")
		if f.Value != c.want {
			t.Errorf("got %q, want %q", f.Value, c.want)
		}
	}
}

// What a file says must not steer the terminal.
func TestTextIsPrintable(t *testing.T) {
	m := machine(with(map[string]string{
		"proc/sys/kernel/core_pattern": "x\x1b[2J\u202e",
		"proc/self/mountinfo":          mountTable + "40 27 0:21 / /a\x1b]0;x\a rw - proc proc rw\n",
	}), modernKernel, nil)
	var out bytes.Buffer
	if err := Text(&out, Examine(m), false); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out.String(), "\x1b\a\u202e") || !strings.Contains(out.String(), `x\x1b[2J`) {
		t.Errorf("%q", out.String())
	}
	out.Reset()
	if err := Text(&out, Examine(m), true); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "\x1b[33mwarn\x1b[0m") {
		t.Error("no colours")
	}
}

func TestJSON(t *testing.T) {
	var out bytes.Buffer
	all := Examine(machines()["debian-11"])
	if err := JSON(&out, all); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Worst    string
		Findings []struct{ ID, Title, Value, Verdict, Why, Fix string }
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	last := got.Findings[len(got.Findings)-1]
	if got.Worst != "bad" || len(got.Findings) != len(all) || last.ID != ShapeID || last.Value != ShapeNone ||
		last.Verdict != "bad" {
		t.Errorf("%+v", got)
	}
}

// On the machine that runs the test: every fact has its own id, and looking
// leaves no trace in the process that looks.
func TestHere(t *testing.T) {
	state := func() string {
		t.Helper()
		status, err := Here().text("proc/self/status")
		if err != nil {
			t.Skipf("no /proc/self/status: %v", err)
		}
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skipf("no /proc/self/fd: %v", err)
		}
		fields := parseStatus(status)
		return strings.Join([]string{fields["Seccomp"], fields["Seccomp_filters"], fields["NoNewPrivs"],
			fields["CapEff"]}, " ") +
			" " + strings.Repeat("fd ", len(fds))
	}
	before := state()
	all := Examine(Here())
	if after := state(); after != before {
		t.Errorf("before: %s\nafter:  %s", before, after)
	}
	seen := map[string]bool{}
	for _, f := range all {
		if f.ID == "" || f.Title == "" || f.Value == "" || seen[f.ID] {
			t.Errorf("%+v", f)
		}
		seen[f.ID] = true
	}
	if abi, err := (running{}).LandlockABI(); err == nil && abi >= 6 {
		if f := finding(t, all, "landlock"); f.Verdict != OK {
			t.Errorf("%+v", f)
		}
	}
}

func BenchmarkExamine(b *testing.B) {
	for b.Loop() {
		Examine(Here())
	}
}
