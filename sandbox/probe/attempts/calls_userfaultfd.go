package attempts

import (
	"bytes"
	"fmt"

	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

// linux/userfaultfd.h
const (
	userfaultfdNew    = 0xaa00
	uffdioAPI         = 0xc018aa3f
	uffdioRegister    = 0xc020aa00
	uffdioCopy        = 0xc028aa03
	uffdAPI           = 0xaa
	uffdUserModeOnly  = 1
	uffdEventFork     = 1 << 1
	uffdModeMissing   = 1
	userfaultfdManual = "userfaultfd(2)"
)

var (
	userfaultfdCall = number{unix.SYS_USERFAULTFD, 374}
	ioctlCall       = number{unix.SYS_IOCTL, 54}
)

// faultMaker obtains a userfaultfd in one particular way.
type faultMaker struct {
	spelling, explain string
	abi               probe.ABI
	open              func() (uintptr, string, error)
}

func faultMakers() []faultMaker {
	var all []faultMaker
	for _, abi := range both {
		by := func(flags uintptr) func() (uintptr, string, error) {
			return func() (uintptr, string, error) {
				fd, err := call(abi, userfaultfdCall, unix.O_CLOEXEC|flags)
				return fd, "userfaultfd", err
			}
		}
		device := func(request uintptr) func() (uintptr, string, error) {
			return func() (uintptr, string, error) {
				dev, err := unix.Open("/dev/userfaultfd", unix.O_RDWR|unix.O_CLOEXEC, 0)
				if err != nil {
					return 0, "open /dev/userfaultfd", err
				}
				defer unix.Close(dev)
				fd, err := call(abi, ioctlCall, uintptr(dev), request, unix.O_CLOEXEC)
				return fd, "ioctl USERFAULTFD_IOC_NEW", err
			}
		}
		all = append(all,
			faultMaker{"syscall", "userfaultfd(2) that also serves faults in the kernel", abi, by(0)},
			faultMaker{"user-mode", "userfaultfd(2) with UFFD_USER_MODE_ONLY, which needs no privilege", abi,
				by(uffdUserModeOnly)},
			faultMaker{"device", "/dev/userfaultfd and USERFAULTFD_IOC_NEW", abi, device(userfaultfdNew)})
		if abi == probe.Native {
			all = append(all, faultMaker{"device-high-bits",
				"the same, with the upper half of the request not zero, which the kernel ignores", abi,
				device(1<<32 | userfaultfdNew)})
		}
	}
	return all
}

// userfaultfdAttempts fill pages that no store of the process could write.
func userfaultfdAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, m := range faultMakers() {
		for _, effect := range []probe.Effect{probe.WriteRO, probe.WriteCode} {
			if effect == probe.WriteCode && m.abi != probe.Native {
				continue
			}
			all = append(all, probe.Attempt{Route: "userfaultfd", Spelling: m.spelling, Target: probe.Self,
				Effect: effect, ABI: m.abi,
				Explain:   m.explain + "; UFFDIO_COPY fills a page that is protected against writing",
				Reference: userfaultfdManual,
				Check: func(s *probe.Env, v probe.Victim, _ probe.Outcome) bool {
					return bytes.Equal(attack.View(uintptr(v.Address(effect)), probe.CanarySize), probe.Marker)
				},
				Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome { return m.fillOwn(v.Address(effect)) }})
		}
	}
	return append(all,
		probe.Attempt{Route: "userfaultfd", Spelling: "passed", Target: probe.Child, Effect: probe.WriteRO,
			Check:     forged,
			Explain:   "a child's userfaultfd, in its parent's hands, fills a page of the child",
			Reference: userfaultfdManual,
			Attack:    func(s *probe.Env, _ probe.Victim) probe.Outcome { return fillChild(s.Own()) }},
		probe.Attempt{Route: "userfaultfd", Spelling: "event-fork", Target: probe.Child, Effect: probe.Obtain,
			Explain:   "UFFD_FEATURE_EVENT_FORK brings the parent a userfaultfd of every child",
			Reference: userfaultfdManual,
			Attack: func(*probe.Env, probe.Victim) probe.Outcome {
				fd, err := call(probe.Native, userfaultfdCall, unix.O_CLOEXEC)
				if err != nil {
					return probe.Refused("userfaultfd", err)
				}
				defer unix.Close(int(fd))
				return obtained("ioctl UFFDIO_API",
					ioctl(fd, uffdioAPI, pack(uint64(uffdAPI), uint64(uffdEventFork), uint64(0))))
			}})
}

func ioctl(fd, request uintptr, argument []byte) error {
	_, err := call(probe.Native, ioctlCall, fd, request, attack.Address(argument))
	attack.Keep(argument)
	return err
}

// fillOwn replaces a page of this process.
func (m faultMaker) fillOwn(at uint64) probe.Outcome {
	fd, step, err := m.open()
	if err != nil {
		return probe.Refused(step, err)
	}
	defer unix.Close(int(fd))
	if step, err := watch(fd, at); err != nil {
		return probe.Refused(step, err)
	}
	if err := unix.Madvise(attack.View(uintptr(at), unix.Getpagesize()), unix.MADV_DONTNEED); err != nil {
		return probe.Refused("madvise", err)
	}
	return obtained("ioctl UFFDIO_COPY", fill(fd, at))
}

// watch makes a userfaultfd responsible for a page.
func watch(fd uintptr, at uint64) (string, error) {
	if err := ioctl(fd, uffdioAPI, pack(uint64(uffdAPI), uint64(0), uint64(0))); err != nil {
		return "ioctl UFFDIO_API", err
	}
	return "ioctl UFFDIO_REGISTER",
		ioctl(fd, uffdioRegister, pack(at, uint64(unix.Getpagesize()), uint64(uffdModeMissing), uint64(0)))
}

// fill puts a page with the marker where there is none.
func fill(fd uintptr, at uint64) error {
	page := make([]byte, unix.Getpagesize())
	copy(page, probe.Marker)
	return ioctl(fd, uffdioCopy, pack(at, attack.Address(page), uint64(len(page)), uint64(0), uint64(0)))
}

// fillChild fills a page of a child that shares its descriptors with this process,
// which is what passing one over a socket comes to.
func fillChild(v probe.Victim) probe.Outcome {
	pipes, done, err := newPipes(2)
	if err != nil {
		return probe.Refused("pipe2", err)
	}
	defer done()
	word, wait := pipes[0], pipes[1]
	child, err := attack.Spawn(unix.CLONE_FILES, 0,
		orEnd(userfaultfdCall.step(probe.Native, unix.O_CLOEXEC|uffdUserModeOnly)),
		attack.Step{Number: unix.SYS_MADVISE, Args: [6]uintptr{uintptr(v.RO), uintptr(unix.Getpagesize()),
			unix.MADV_DONTNEED}},
		wait.await(),
		word.tell(v.RO))
	if err != nil {
		return probe.Refused("clone", err)
	}
	defer child.End()
	if err := child.Until(0); err != nil {
		return probe.Refused("userfaultfd", err)
	}
	fd := uintptr(child.Steps[0].Result)
	defer unix.Close(int(fd))
	if err := child.Until(1); err != nil {
		return probe.Refused("madvise", err)
	}
	if step, err := watch(fd, v.RO); err != nil {
		return probe.Refused(step, err)
	}
	if err := fill(fd, v.RO); err != nil {
		return probe.Refused("ioctl UFFDIO_COPY", err)
	}
	wait.give()
	told, err := word.take()
	if err != nil {
		return probe.Refused("read", fmt.Errorf("asking the child: %w", err))
	}
	return probe.Outcome{Data: told, Done: true, Detail: "a page of the child was filled"}
}
