package limits

import (
	"fmt"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/starter"
	"golang.org/x/sys/unix"
)

// resources are the limits that a policy can name.
var resources = map[string]int{
	"as": unix.RLIMIT_AS, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA, "fsize": unix.RLIMIT_FSIZE,
	"memlock": unix.RLIMIT_MEMLOCK, "msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE,
	"nofile": unix.RLIMIT_NOFILE,
	"nproc":  unix.RLIMIT_NPROC, "rtprio": unix.RLIMIT_RTPRIO, "rttime": unix.RLIMIT_RTTIME,
	"sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
}

// Named returns the limits of a policy. Only a process with CAP_SYS_RESOURCE can raise a
// hard limit, setrlimit(2). Errors: EINVAL, an unknown name; those of e and of the system.
func Named(list []policy.Limit, e Effort) ([]starter.Limit, error) {
	if len(list) == 0 {
		return nil, nil
	}
	caps, err := kernel.ThreadCapabilities()
	if err != nil {
		return nil, err
	}
	var named []starter.Limit
	for _, l := range list {
		resource, known := resources[l.Name]
		if !known {
			return nil, fmt.Errorf("setting the limit %q: %w", l.Name, unix.EINVAL)
		}
		var now unix.Rlimit
		if err := unix.Getrlimit(resource, &now); err != nil {
			return nil, fmt.Errorf("reading the limit %q: %w", l.Name, err)
		}
		if l.Hard > now.Max && !caps.Effective.Has(unix.CAP_SYS_RESOURCE) {
			err := fmt.Errorf("the hard limit is %d and raising it needs CAP_SYS_RESOURCE: %w", now.Max, unix.EPERM)
			if err := e.DropOrFail(fmt.Sprintf("the limit %q (limits.%s)", l.Name, l.Name), err); err != nil {
				return nil, err
			}
			continue
		}
		if l.Name == "nproc" && unix.Getuid() == 0 {
			e.Warn("limits.nproc does not hold: the kernel does not apply RLIMIT_NPROC to uid 0; run " +
				"CMD as another user, or set pids.max of its cgroup")
		}
		named = append(named, starter.Limit{Name: "RLIMIT_" + strings.ToUpper(l.Name), Resource: resource,
			Value: unix.Rlimit{Cur: l.Soft, Max: l.Hard}})
	}
	return named, nil
}
