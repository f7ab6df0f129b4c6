package sandbox

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
)

func TestMetadata(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"control", "inside"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	names := []string{"chmod", "fchmod", "fchmodat2", "chown", "utimes", "setxattr", "setflags", "write"}
	on := func(name string) (list []string) {
		for _, n := range names {
			list = append(list, n+"="+filepath.Join(dir, name))
		}
		return list
	}
	needSandbox(t)
	before, err := os.Stat(filepath.Join(dir, "inside"))
	if err != nil {
		t.Fatal(err)
	}
	control := outcomes(t, nil, on("control")...)
	denied := policy.Policy{Paths: policy.Paths{Metadata: policy.MetadataDeny}}
	inside := outcomes(t, &launchOptions{Policy: denied}, on("inside")...)
	for _, name := range names {
		switch {
		case control[name] == "ENOTSUP" || control[name] == "EOPNOTSUPP" || control[name] == "ENOTTY":
			t.Logf("%s is not supported by this file system", name)
		case control[name] != "ok":
			t.Errorf("%s without a sandbox is %q, which proves nothing", name, control[name])
		case name == "write" && inside[name] != "ok", name != "write" && inside[name] != "EPERM":
			t.Errorf("%s inside is %q", name, inside[name])
		}
	}
	if after, err := os.Stat(filepath.Join(dir, "inside")); err != nil || after.Mode() != before.Mode() ||
		after.ModTime().Year() < 2000 {
		t.Errorf("the file's mode and time are %v %v, %v", after.Mode(), after.ModTime(), err)
	}
}

func TestSyscalls(t *testing.T) {
	list := map[string]string{"getpriority": "EPERM"}
	attempts := []string{"getpriority"}
	if runtime.GOARCH == "amd64" {
		list["getppid-32"] = "ok"
		attempts = append(attempts, "getppid-32")
	}
	if os.Getuid() == 0 {
		list["sethostname"] = "EPERM"
		attempts = append(attempts, "sethostname")
	}
	// Some are calls that a start itself makes.
	p := policy.Policy{Syscalls: policy.Syscalls{Deny: []string{"getpid", "getpriority",
		"landlock_restrict_self", "prctl", "prlimit64", "seccomp", "sethostname"}}}
	compare(t, p, list, attempts...)
	if runtime.GOARCH == "amd64" {
		p.Syscalls.ABI = policy.SyscallABINative
		list["getppid-32"] = "ENOSYS"
		compare(t, p, list, attempts...)
	}
	_, stderr, err := tryAttempts(t,
		&launchOptions{Policy: policy.Policy{Syscalls: policy.Syscalls{Deny: []string{"no_such_call"}}}}, "getpriority")
	if err == nil || !strings.Contains(stderr, `there is no system call "no_such_call"`) {
		t.Errorf("an unknown call: %v, %s", err, stderr)
	}
}
