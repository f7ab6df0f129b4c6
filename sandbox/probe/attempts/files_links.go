package attempts

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

const linkManual = "proc_pid_fd(5), proc_pid_map_files(5), Documentation/userspace-api/landlock.rst " +
	"(special filesystems)"

// permitsMapFiles: the kernel asks for one of these besides the right to trace.
func permitsMapFiles(p policy.Policy) string {
	for _, capability := range []string{"CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE"} {
		if slices.Contains(p.Capabilities.Keep, capability) {
			return "capabilities.keep has " + capability
		}
	}
	return ""
}

const sharedWhy = "memory that a process keeps in a file or memfd is shared on purpose: " +
	"no domain can tell one process of the sandbox from another by the magic link to it"

// procLinkAttempts follow the magic links below /proc/PID, which lead to what a
// process has open or mapped.
func procLinkAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, target := range []probe.Target{probe.Child, probe.Sibling, probe.Outside} {
		for _, effect := range []probe.Effect{probe.Read, probe.Write} {
			fd := sharedAttempt("fd", "the memfd that a process maps, opened again through /proc/PID/fd",
				target, effect,
				func(v probe.Victim) string { return fmt.Sprintf("%s/fd/%d", v.ProcDir("/proc"), v.FD) })
			if target != probe.Outside {
				fd.Promise, fd.Why = probe.PromiseOpen, sharedWhy
			}
			files := sharedAttempt("map_files",
				"shared memory of a process, opened through /proc/PID/map_files", target, effect,
				func(v probe.Victim) string {
					return fmt.Sprintf("%s/map_files/%x-%x", v.ProcDir("/proc"), v.Shared,
						v.Shared+uint64(unix.Getpagesize()))
				})
			files.Permits, files.Layer = permitsMapFiles, "capabilities"
			all = append(all, fd, files)
		}
	}
	return append(all, outsideLinks()...)
}

// sharedAttempt reads or writes the page that the victim shares.
func sharedAttempt(spelling, explain string, target probe.Target, effect probe.Effect,
	path func(v probe.Victim) string) probe.Attempt {
	return probe.Attempt{Route: "proc-links", Spelling: spelling, Target: target, Effect: effect,
		Explain: explain, Reference: linkManual,
		Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome {
			fd, err := unix.Open(path(v), unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				return probe.Refused("open", err)
			}
			defer unix.Close(fd)
			if effect == probe.Read {
				buf := make([]byte, probe.CanarySize)
				n, err := unix.Pread(fd, buf, 0)
				if err != nil {
					return probe.Refused("pread", err)
				}
				return probe.Got(buf[:n])
			}
			if _, err := unix.Pwrite(fd, probe.Marker, 0); err != nil {
				return probe.Refused("pwrite", err)
			}
			return probe.Did("written through %s", path(v))
		}}
}

// outsideLinks reach what belongs to a process outside.
func outsideLinks() []probe.Attempt {
	var all []probe.Attempt
	for _, l := range []struct {
		name, file, explain string
		by                  func(path string) probe.Outcome
	}{
		{"root", "root", "the root directory of a process outside", listOnly},
		{"cwd", "cwd", "the working directory of a process outside", listOnly},
		{"exe", "exe", "the program of a process outside", readOnly},
		{"fd-list", "fd", "the descriptors of a process outside, with what they are", readLinks},
		{"ns-mnt", "ns/mnt", "the mount namespace of a process outside", readOnly},
		{"ns-user", "ns/user", "the user namespace of a process outside", readOnly},
	} {
		all = append(all, probe.Attempt{Route: "proc-links", Spelling: l.name, Target: probe.Outside,
			Effect: probe.Obtain, Explain: l.explain, Reference: linkManual,
			Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome {
				return l.by(v.ProcDir("/proc") + "/" + l.file)
			}})
	}
	return all
}

func readOnly(path string) probe.Outcome { return openOnly(path, unix.O_RDONLY) }

func listOnly(path string) probe.Outcome {
	dir, err := os.Open(path)
	if err != nil {
		return probe.Refused("open", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(64)
	if err != nil {
		return probe.Refused("getdents64", err)
	}
	return probe.Did("listed %s: %d names", path, len(names))
}

// readLinks lists the descriptors of a process with what they are. Their numbers
// alone, which every process of the user may list, tell nothing.
func readLinks(path string) probe.Outcome {
	names, err := os.ReadDir(path)
	if err != nil {
		return probe.Refused("open", err)
	}
	if len(names) == 0 {
		return probe.Outcome{Step: "readlink", Detail: "no descriptor is open"}
	}
	link, err := os.Readlink(filepath.Join(path, names[0].Name()))
	if err != nil {
		return probe.Refused("readlink", err)
	}
	return probe.Did("%d descriptors, one is %s", len(names), link)
}
