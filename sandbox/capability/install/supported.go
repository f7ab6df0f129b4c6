package install

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// UnsupportedError reports why a kernel cannot have the capability, and what would help.
type UnsupportedError struct {
	Reason string
	Err    error // may be nil
}

func (e *UnsupportedError) Error() string { return e.Reason }
func (e *UnsupportedError) Unwrap() error { return e.Err }

const (
	activeLSMs   = "/sys/kernel/security/lsm"
	ftraceSwitch = "/proc/sys/kernel/ftrace_enabled"
)

// supported checks what can be known before anything is loaded.
func supported() error {
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		return &UnsupportedError{Reason: "this kernel does not describe its types (CONFIG_DEBUG_INFO_BTF)", Err: err}
	}
	if lsms, err := os.ReadFile(activeLSMs); err == nil &&
		!strings.Contains(","+strings.TrimSpace(string(lsms))+",", ",bpf,") {
		return &UnsupportedError{Reason: fmt.Sprintf(
			"BPF LSM is not active in this kernel (CONFIG_BPF_LSM; boot parameter lsm=%s,bpf)",
			strings.TrimSpace(string(lsms)))}
	}
	if mode, err := os.ReadFile("/sys/kernel/security/lockdown"); err == nil &&
		strings.Contains(string(mode), "[confidentiality]") {
		return &UnsupportedError{Reason: "kernel lockdown is \"confidentiality\", under which BPF " +
			"programs cannot read kernel memory (lockdown=integrity works)"}
	}
	if Disabled() {
		return &UnsupportedError{Reason: "kernel.ftrace_enabled is 0, which keeps BPF LSM programs from " +
			"running (sysctl kernel.ftrace_enabled=1)"}
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	release, build := unix.ByteSliceToString(name.Release[:]), unix.ByteSliceToString(name.Version[:])
	if skips(release, build) {
		return &UnsupportedError{Reason: fmt.Sprintf(
			"Linux %s is preemptible, and such kernels before 6.1.54 skip BPF programs that were preempted",
			kernelVersion(release, build))}
	}
	if old(kernelVersion(release, build)) {
		return &UnsupportedError{Reason: fmt.Sprintf("Linux %s is older than 6.1, which the programs need",
			kernelVersion(release, build))}
	}
	return nil
}

// old reports whether a version is before 6.1, where the programs do not find all that they
// look at.
func old(version string) bool {
	var major, minor int
	fmt.Sscanf(version, "%d.%d", &major, &minor)
	return major < 6 || major == 6 && minor < 1
}

// Disabled reports whether kernel.ftrace_enabled is 0, so that the programs do not
// run, whether installed or not.
func Disabled() bool {
	value, err := os.ReadFile(ftraceSwitch)
	return err == nil && strings.TrimSpace(string(value)) == "0"
}

// skips reports whether a kernel may skip BPF LSM programs.
func skips(release, build string) bool {
	if !strings.Contains(build, "PREEMPT") {
		return false
	}
	var major, minor, patch int
	fmt.Sscanf(kernelVersion(release, build), "%d.%d.%d", &major, &minor, &patch)
	return major < 6 || major == 6 && minor < 1 || major == 6 && minor == 1 && patch < 54
}

// kernelVersion returns the version of the kernel's sources. Distributions number releases
// in their own way, and Debian names the version at the end of the build string.
func kernelVersion(release, build string) string {
	if _, after, found := strings.Cut(build, "Debian "); found {
		release = after
	}
	version, _, _ := strings.Cut(release, "-")
	return version
}

func unsupportedLoad(err error) error {
	if errors.Is(err, unix.EPERM) {
		return &UnsupportedError{Reason: "the kernel refuses to load the programs (that takes CAP_BPF, " +
			"CAP_PERFMON and CAP_SYS_ADMIN, and no container or kernel setting that forbids it)", Err: err}
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return &UnsupportedError{Reason: "this kernel rejects the programs: " + first, Err: err}
}

func unsupportedAttach(hook string, err error) error {
	switch {
	case errors.Is(err, unix.E2BIG):
		return &UnsupportedError{Reason: fmt.Sprintf(
			"too many BPF programs are already attached to the LSM hook %s", hook), Err: err}
	case errors.Is(err, unix.EPERM):
		return unsupportedLoad(err)
	}
	return &UnsupportedError{Reason: fmt.Sprintf("this kernel does not attach a program to the LSM hook %s: %v",
		hook, err), Err: err}
}
