package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// abiFact is something that this package copied by hand from the kernel's headers:
// the C expression and the value it has here.
type abiFact struct {
	expression string
	value      uint64
}

// layout are the sizes and field offsets of every structure that goes to the
// kernel or comes from it.
func layout() []abiFact {
	var facts []abiFact
	structure := func(name string, size uintptr, offsets map[string]uintptr) {
		facts = append(facts, abiFact{fmt.Sprintf("sizeof(%s)", name), uint64(size)})
		for field, offset := range offsets {
			facts = append(facts, abiFact{fmt.Sprintf("offsetof(%s, %s)", name, field), uint64(offset)})
		}
	}
	var (
		data  Data
		notif Notification
		resp  response
		add   addFD
		how   OpenHow
		io    iovec
		head  capHeader
		caps  capData
	)
	structure("struct seccomp_data", unsafe.Sizeof(data), map[string]uintptr{
		"nr": unsafe.Offsetof(data.Number), "arch": unsafe.Offsetof(data.Arch),
		"instruction_pointer": unsafe.Offsetof(data.InstructionPointer), "args": unsafe.Offsetof(data.Args)})
	structure("struct seccomp_notif", unsafe.Sizeof(notif), map[string]uintptr{
		"id": unsafe.Offsetof(notif.ID), "pid": unsafe.Offsetof(notif.PID),
		"flags": unsafe.Offsetof(notif.Flags), "data": unsafe.Offsetof(notif.Data)})
	structure("struct seccomp_notif_resp", unsafe.Sizeof(resp), map[string]uintptr{
		"id": unsafe.Offsetof(resp.id), "val": unsafe.Offsetof(resp.value),
		"error": unsafe.Offsetof(resp.errno), "flags": unsafe.Offsetof(resp.flags)})
	structure("struct seccomp_notif_addfd", unsafe.Sizeof(add), map[string]uintptr{
		"id": unsafe.Offsetof(add.id), "flags": unsafe.Offsetof(add.flags), "srcfd": unsafe.Offsetof(add.srcFD),
		"newfd": unsafe.Offsetof(add.newFD), "newfd_flags": unsafe.Offsetof(add.newFDFlags)})
	structure("struct open_how", unsafe.Sizeof(how), map[string]uintptr{
		"flags": unsafe.Offsetof(how.Flags), "mode": unsafe.Offsetof(how.Mode),
		"resolve": unsafe.Offsetof(how.Resolve)})
	structure("struct iovec", unsafe.Sizeof(io), map[string]uintptr{
		"iov_base": unsafe.Offsetof(io.base), "iov_len": unsafe.Offsetof(io.len)})
	structure("struct __user_cap_header_struct", unsafe.Sizeof(head), map[string]uintptr{
		"version": unsafe.Offsetof(head.version), "pid": unsafe.Offsetof(head.pid)})
	structure("struct __user_cap_data_struct", unsafe.Sizeof(caps), map[string]uintptr{
		"effective": unsafe.Offsetof(caps.effective), "permitted": unsafe.Offsetof(caps.permitted),
		"inheritable": unsafe.Offsetof(caps.inheritable)})
	structure("siginfo_t", siginfoSize, map[string]uintptr{"si_signo": 0, "si_errno": 4, "si_code": 8, "si_pid": 16})
	return facts
}

// constants are the numbers copied by hand, under the names of the headers.
func constants() []abiFact {
	signed := func(n int64) uint64 { return uint64(n) }
	return []abiFact{
		{"SECCOMP_SET_MODE_FILTER", seccompSetModeFilter},
		{"SECCOMP_GET_ACTION_AVAIL", seccompGetActionAvail},
		{"SECCOMP_GET_NOTIF_SIZES", seccompGetNotifSizes},
		{"SECCOMP_RET_USER_NOTIF", seccompRetUserNotif},
		{"SECCOMP_USER_NOTIF_FLAG_CONTINUE", notifFlagContinue},
		{"SECCOMP_FILTER_FLAG_TSYNC", uint64(FilterTSync)},
		{"SECCOMP_FILTER_FLAG_NEW_LISTENER", uint64(FilterNewListener)},
		{"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", uint64(FilterWaitKillableRecv)},
		{"SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP", notifFDSyncWakeUp},
		{"SECCOMP_IOCTL_NOTIF_RECV", ioctlNotifRecv},
		{"SECCOMP_IOCTL_NOTIF_SEND", ioctlNotifSend},
		{"SECCOMP_IOCTL_NOTIF_ID_VALID", ioctlNotifIDValid},
		{"SECCOMP_IOCTL_NOTIF_ADDFD", ioctlNotifAddFD},
		{"SECCOMP_IOCTL_NOTIF_SET_FLAGS", ioctlNotifSetFlags},
		{"_LINUX_CAPABILITY_VERSION_3", capabilityVersion3},
		{"BPF_MAXINSNS", maxFilterInstructions},
		{"SA_SIGINFO", saSiginfo}, {"SA_ONSTACK", saOnStack}, {"SA_RESTART", saRestart},
		{"SI_USER", siUser}, {"SI_QUEUE", signed(siQueue)}, {"SI_TKILL", signed(siTKill)},
		{"(long)SIG_DFL", sigDefault}, {"(long)SIG_IGN", sigIgnore}, {"_NSIG", lastSignal + 1},
		{"RESOLVE_NO_SYMLINKS", unix.RESOLVE_NO_SYMLINKS}, {"OPEN_HOW_SIZE_VER0", OpenHowSize},
	}
}

// later are those that headers may lack which are older than the feature.
var later = map[string]string{
	"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": "(1UL << 5)",
	"SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP":     "(1UL << 0)",
	"SECCOMP_IOCTL_NOTIF_SET_FLAGS":          "SECCOMP_IOW(4, __u64)",
	"OPEN_HOW_SIZE_VER0":                     "24",
}

// headers are those of the kernel for everything but signals, for which the C
// library has structures of its own under the same names.
const headers = `#include <stddef.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <linux/capability.h>
#include <linux/bpf_common.h>
#include <linux/filter.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
`

// TestABIAgainstHeaders asks the machine's C compiler for the same facts.
func TestABIAgainstHeaders(t *testing.T) {
	facts := append(layout(), constants()...)
	var fallback strings.Builder
	for name, value := range later {
		fmt.Fprintf(&fallback, "#ifndef %s\n#define %s %s\n#endif\n", name, name, value)
	}
	askCompiler(t, headers+fallback.String(), facts)
	var action kernelSigaction
	askCompiler(t, "#include <stddef.h>\n#include <asm/signal.h>\n", []abiFact{
		{"sizeof(struct sigaction)", uint64(unsafe.Sizeof(action))},
		{"offsetof(struct sigaction, sa_handler)", uint64(unsafe.Offsetof(action.handler))},
		{"offsetof(struct sigaction, sa_flags)", uint64(unsafe.Offsetof(action.flags))},
		{"offsetof(struct sigaction, sa_restorer)", uint64(unsafe.Offsetof(action.restorer))},
		{"offsetof(struct sigaction, sa_mask)", uint64(unsafe.Offsetof(action.mask))},
		{"sizeof(sigset_t)", uint64(unsafe.Sizeof(SignalSet(0)))},
	})
}

// askCompiler has a C program say what the facts are.
func askCompiler(t *testing.T, headers string, facts []abiFact) {
	t.Helper()
	compiler, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("this machine has no gcc to ask about its headers")
	}
	source := headers + "int printf(const char *, ...);\nint main(void) {\n"
	for _, f := range facts {
		source += fmt.Sprintf("\tprintf(\"%%llu\\n\", (unsigned long long)(%s));\n", f.expression)
	}
	binary := t.TempDir() + "/facts"
	compile := exec.Command(compiler, "-x", "c", "-D_GNU_SOURCE", "-o", binary, "-")
	compile.Stdin = strings.NewReader(source + "}\n")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("compiling: %v\n%s", err, out)
	}
	out, err := exec.Command(binary).Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(out))
	if len(lines) != len(facts) {
		t.Fatalf("%d answers to %d questions", len(lines), len(facts))
	}
	for i, f := range facts {
		if got, err := strconv.ParseUint(lines[i], 10, 64); err != nil || got != f.value {
			t.Errorf("%s is %#x in the headers, %#x here", f.expression, got, f.value)
		}
	}
}

// TestABIAgainstLibrary compares with x/sys, which is generated from newer headers
// than the machine may have.
func TestABIAgainstLibrary(t *testing.T) {
	for _, c := range []struct {
		name      string
		ours, its uint64
	}{
		{"SECCOMP_SET_MODE_FILTER", seccompSetModeFilter, unix.SECCOMP_SET_MODE_FILTER},
		{"SECCOMP_GET_ACTION_AVAIL", seccompGetActionAvail, unix.SECCOMP_GET_ACTION_AVAIL},
		{"SECCOMP_GET_NOTIF_SIZES", seccompGetNotifSizes, unix.SECCOMP_GET_NOTIF_SIZES},
		{"SECCOMP_RET_USER_NOTIF", seccompRetUserNotif, unix.SECCOMP_RET_USER_NOTIF},
		{"SECCOMP_USER_NOTIF_FLAG_CONTINUE", notifFlagContinue, unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE},
		{"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", uint64(FilterWaitKillableRecv),
			unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV},
		{"SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP", notifFDSyncWakeUp, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP},
		{"SECCOMP_IOCTL_NOTIF_RECV", ioctlNotifRecv, unix.SECCOMP_IOCTL_NOTIF_RECV},
		{"SECCOMP_IOCTL_NOTIF_SEND", ioctlNotifSend, unix.SECCOMP_IOCTL_NOTIF_SEND},
		{"SECCOMP_IOCTL_NOTIF_ID_VALID", ioctlNotifIDValid, unix.SECCOMP_IOCTL_NOTIF_ID_VALID},
		{"SECCOMP_IOCTL_NOTIF_ADDFD", ioctlNotifAddFD, unix.SECCOMP_IOCTL_NOTIF_ADDFD},
		{"SECCOMP_IOCTL_NOTIF_SET_FLAGS", ioctlNotifSetFlags, unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS},
		{"LINUX_CAPABILITY_VERSION_3", capabilityVersion3, unix.LINUX_CAPABILITY_VERSION_3},
		{"BPF_MAXINSNS", maxFilterInstructions, unix.BPF_MAXINSNS},
		{"size of struct open_how", uint64(unsafe.Sizeof(OpenHow{})), unix.SizeofOpenHow},
		{"size of struct open_how, by name", OpenHowSize, unix.SizeofOpenHow},
		{"size of struct iovec", uint64(unsafe.Sizeof(iovec{})), uint64(unsafe.Sizeof(unix.Iovec{}))},
		{"size of the capability header", uint64(unsafe.Sizeof(capHeader{})),
			uint64(unsafe.Sizeof(unix.CapUserHeader{}))},
		{"size of the capability data", uint64(unsafe.Sizeof(capData{})), uint64(unsafe.Sizeof(unix.CapUserData{}))},
		{"size of siginfo_t", siginfoSize, uint64(unsafe.Sizeof(unix.Siginfo{}))},
	} {
		if c.ours != c.its {
			t.Errorf("%s is %#x here, %#x in x/sys", c.name, c.ours, c.its)
		}
	}
}

// TestNotifSizes: the running kernel speaks of structures of our sizes.
func TestNotifSizes(t *testing.T) {
	notif, resp, data, err := NotifSizes()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name         string
		kernel, ours uint16
		known        uint16
	}{
		{"struct seccomp_notif", notif, uint16(unsafe.Sizeof(Notification{})), 80},
		{"struct seccomp_notif_resp", resp, uint16(unsafe.Sizeof(response{})), 24},
		{"struct seccomp_data", data, uint16(unsafe.Sizeof(Data{})), 64},
		{"struct seccomp_notif_addfd", 24, uint16(unsafe.Sizeof(addFD{})), 24},
	} {
		if c.kernel != c.ours || c.ours != c.known {
			t.Errorf("%s: %d bytes in this kernel, %d here, %d known", c.name, c.kernel, c.ours, c.known)
		}
	}
}

func TestParseOpenHow(t *testing.T) {
	how := func(size int, words ...uint64) []byte {
		b := make([]byte, size)
		for i, w := range words {
			binary.NativeEndian.PutUint64(b[8*i:], w)
		}
		return b
	}
	for _, test := range []struct {
		name string
		in   []byte
		want OpenHow
		ok   bool
	}{
		{"empty", nil, OpenHow{}, false},
		{"one byte too few", how(24, 1, 2, 3)[:23], OpenHow{}, false},
		{"first version", how(24, 1, 2, 3), OpenHow{Flags: 1, Mode: 2, Resolve: 3}, true},
		{"larger, the rest zero", how(64, 1, 2, 3), OpenHow{Flags: 1, Mode: 2, Resolve: 3}, true},
		{"larger, the rest means something", how(32, 1, 2, 3, 4), OpenHow{}, false},
		{"last byte means something", append(how(39, 1, 2, 3), 1), OpenHow{}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, ok := ParseOpenHow(test.in)
			if ok != test.ok || got != test.want {
				t.Errorf("got %+v, %t; want %+v, %t", got, ok, test.want, test.ok)
			}
		})
	}
}

// TestDeviceOf holds the device against stat(2), and its contract about the NUL.
func TestDeviceOf(t *testing.T) {
	for _, path := range []string{"/", "/proc", "/proc/self/maps", "/dev/null"} {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		if got, err := DeviceOf([]byte(path + "\x00")); err != nil || got != st.Dev {
			t.Errorf("%s: device %#x, %v; stat says %#x", path, got, err, st.Dev)
		}
	}
	for path, want := range map[string]error{"/nonexistent\x00": unix.ENOENT, "/": unix.EINVAL, "": unix.EINVAL} {
		if _, err := DeviceOf([]byte(path)); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", path, err, want)
		}
	}
	dangling := t.TempDir() + "/dangling"
	if err := os.Symlink("nothing", dangling); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct {
		link bool
		err  error
	}{"/nonexistent\x00": {false, unix.ENOENT}, "/\x00": {}, dangling + "\x00": {link: true},
		"/proc/self\x00": {link: true}, "/proc/self/\x00": {},
		"/nonexistent": {false, unix.EINVAL}, "": {false, unix.EINVAL}, "/dev/null/x\x00": {false, unix.ENOTDIR}} {
		if _, link, err := DeviceOfEntry([]byte(path)); link != want.link || err != want.err &&
			!errors.Is(err, want.err) {
			t.Errorf("%q: link %t, %v; want %+v", path, link, err, want)
		}
	}
	path := []byte("/proc\x00")
	if n := testing.AllocsPerRun(100, func() { DeviceOf(path); DeviceOfEntry(path) }); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}
