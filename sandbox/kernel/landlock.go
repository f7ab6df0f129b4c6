package kernel

import (
	"fmt"

	llsys "github.com/memjail/memjail/sandbox/kernel/landlockabi"
	"golang.org/x/sys/unix"
)

// LandlockABI returns the version of the Landlock ABI, 1 (Linux 5.13) or higher. Errors:
// ENOSYS, the kernel was built without Landlock; EOPNOTSUPP, it was disabled at boot (the
// lsm= parameter leaves it out). See landlock_create_ruleset(2).
func LandlockABI() (int, error) {
	v, err := llsys.LandlockGetABIVersion()
	if err != nil {
		return 0, fmt.Errorf("asking for the landlock ABI: %w", err)
	}
	return v, nil
}

// LandlockErrata returns the bit mask of the Landlock fixes that the kernel has;
// bit n-1 is erratum n. Kernels before 6.15 without the backport answer EINVAL.
// See the section on errata in Documentation/userspace-api/landlock.rst.
func LandlockErrata() (int, error) {
	v, err := llsys.LandlockGetErrata()
	if err != nil || v < 0 {
		if err == nil {
			err = unix.EINVAL
		}
		return 0, fmt.Errorf("asking for the landlock errata: %w", err)
	}
	return v, nil
}
