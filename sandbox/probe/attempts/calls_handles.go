package attempts

import (
	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

var openHandleCall = number{unix.SYS_OPEN_BY_HANDLE_AT, 342}

const handleManual = "open_by_handle_at(2)"

// handleAttempts open files by what the kernel knows them by, past every path.
func handleAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, abi := range both {
		all = append(all, probe.Attempt{Route: "open-by-handle", Spelling: "file", Target: probe.System,
			Effect: probe.Obtain, ABI: abi,
			Explain: "open_by_handle_at(2) opens a file without a path", Reference: handleManual,
			Attack: func(s *probe.Env, _ probe.Victim) probe.Outcome {
				path, err := fileWith(s, "file", []byte("content"), 0o600)
				if err != nil {
					return probe.Refused("write", err)
				}
				dir, err := unix.Open(s.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
				if err != nil {
					return probe.Refused("open", err)
				}
				defer unix.Close(dir)
				return openHandle(abi, dir, unix.AT_FDCWD, path, 0)
			}}, probe.Attempt{Route: "open-by-handle", Spelling: "memfd", Target: probe.Self,
			Effect: probe.Obtain, ABI: abi,
			Explain:   "open_by_handle_at(2) opens a memfd, as it opens those of other processes",
			Reference: handleManual,
			Attack: func(s *probe.Env, _ probe.Victim) probe.Outcome {
				fd := s.Own().FD
				return openHandle(abi, fd, fd, "", unix.AT_EMPTY_PATH)
			}})
	}
	return all
}

func openHandle(abi probe.ABI, mount, dir int, path string, flags int) probe.Outcome {
	handle, _, err := unix.NameToHandleAt(dir, path, flags)
	if err != nil {
		return probe.Refused("name_to_handle_at", err)
	}
	raw := low(pack(uint32(handle.Size()), handle.Type(), handle.Bytes()))
	fd, err := call(abi, openHandleCall, uintptr(mount), attack.Address(raw), unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return probe.Refused("open_by_handle_at", err)
	}
	unix.Close(int(fd))
	return probe.Did("opened without a path")
}
