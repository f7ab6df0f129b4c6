//go:build libseccomp

package filter

import (
	"errors"
	"fmt"
	"io"
	"os"

	seccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

// Compile has libseccomp compile the body for an architecture from the table.
// name is the file, in directory programs, that it is embedded from. It exists
// when memjail's programs are generated and compared, under the build tag
// libseccomp.
func Compile(arch string, listener bool) (name string, body []byte, err error) {
	filter, err := newFilter(arch)
	if err != nil {
		return "", nil, fmt.Errorf("compiling the seccomp program for %q: %w", arch, err)
	}
	defer filter.Release()
	for i := range rules {
		if r := &rules[i]; r.placement == inBody {
			if err := add(filter, r, listener); err != nil {
				return "", nil, err
			}
		}
	}
	body, err = export(filter)
	if err != nil {
		return "", nil, fmt.Errorf("exporting the seccomp program for %q: %w", arch, err)
	}
	return bodyName(arch, listener), body, nil
}

// LibraryVersion is libseccomp's. Another one may compile the same rules to
// other instructions.
func LibraryVersion() string {
	major, minor, micro := seccomp.GetLibraryVersion()
	return fmt.Sprintf("%d.%d.%d", major, minor, micro)
}

// newFilter makes an empty filter that lets everything in, in the two ABIs of an
// architecture and in no other.
func newFilter(arch string) (*seccomp.ScmpFilter, error) {
	wanted, ok := map[string][]seccomp.ScmpArch{
		"amd64": {seccomp.ArchAMD64, seccomp.ArchX86},
		"arm64": {seccomp.ArchARM64, seccomp.ArchARM},
	}[arch]
	if !ok {
		return nil, fmt.Errorf("no such architecture")
	}
	// Notifications are refused to the library's caller below API level 6,
	// which it takes from the running kernel. The program is not loaded here.
	if err := seccomp.SetAPI(6); err != nil {
		return nil, err
	}
	filter, err := seccomp.NewFilter(seccomp.ActAllow)
	if err != nil {
		return nil, err
	}
	if err := configure(filter, wanted); err != nil {
		filter.Release()
		return nil, err
	}
	return filter, nil
}

func configure(filter *seccomp.ScmpFilter, wanted []seccomp.ScmpArch) error {
	native, err := seccomp.GetNativeArch()
	if err != nil {
		return err
	}
	if err := filter.RemoveArch(native); err != nil {
		return err
	}
	for _, arch := range wanted {
		if err := filter.AddArch(arch); err != nil {
			return err
		}
	}
	if err := filter.SetBadArchAction(seccomp.ActErrno.SetReturnCode(int16(unix.ENOSYS))); err != nil {
		return err
	}
	return filter.SetOptimize(2) // a binary tree over the numbers
}

func add(filter *seccomp.ScmpFilter, r *rule, listener bool) error {
	action := seccomp.ActErrno.SetReturnCode(int16(r.errno))
	if r.verdict(listener) == Notify {
		action = seccomp.ActNotify
	}
	var conditions []seccomp.ScmpCondition
	for _, c := range r.when {
		condition, err := c.compile()
		if err != nil {
			return fmt.Errorf("compiling the rule for %v: %w", r.calls, err)
		}
		conditions = append(conditions, condition)
	}
	for _, name := range r.calls {
		// The number may be of any ABI: the library finds the call by its name
		// in each, and leaves out an ABI that has none.
		call, err := seccomp.GetSyscallFromName(name)
		if err != nil {
			return fmt.Errorf("compiling the rule for %s: %w", name, err)
		}
		if len(conditions) == 0 {
			err = filter.AddRule(call, action)
		} else {
			err = filter.AddRuleConditional(call, action, conditions)
		}
		if err != nil {
			return fmt.Errorf("compiling the rule for %s: %w", name, err)
		}
	}
	return nil
}

func (c condition) compile() (seccomp.ScmpCondition, error) {
	switch c.op {
	case isZero:
		return seccomp.MakeCondition(c.arg, seccomp.CompareEqual, 0)
	case isAny, isOther, isBelow, isUnlisted:
		return seccomp.ScmpCondition{}, errors.New("libseccomp has no such comparison")
	case isNotZero:
		return seccomp.MakeCondition(c.arg, seccomp.CompareNotEqual, 0)
	default:
		return seccomp.MakeCondition(c.arg, seccomp.CompareMaskedEqual, uint64(c.mask), uint64(c.value))
	}
}

// export reads the program back. libseccomp 2.5 only writes to descriptors.
func export(filter *seccomp.ScmpFilter) ([]byte, error) {
	file, err := os.CreateTemp("", "memjail-filter-*.bpf")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if err := filter.ExportBPF(file); err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(file, 0, 1<<20))
}
