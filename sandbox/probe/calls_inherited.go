package probe

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/memjail/memjail/sandbox/kernel/attack"
	"golang.org/x/sys/unix"
)

// The descriptors with which launchers are started for the attempts below; see also
// those of descriptorAttempts.
const (
	inheritedRingFD  = 12
	inheritedFaultFD = 13
)

// inheritedMeans are descriptors, made before the sandbox started, that reach the
// memory of whoever made them: here the runner of the suite, outside.
func inheritedMeans() []Attempt {
	return []Attempt{
		{Route: "io-uring", Spelling: "inherited", Target: Outside, Layer: "descriptors", Effect: Read, Prepare: prepareRing, Attack: useInheritedRing, Check: sameHash,
			Explain: "the launcher was started with an io_uring in which a process outside has registered its memory", Reference: ringManual},
		{Route: "userfaultfd", Spelling: "inherited", Target: Outside, Layer: "descriptors", Effect: WriteRO, Prepare: prepareFaults, Attack: useInheritedFaults, Check: believed,
			Explain: "the launcher was started with a userfaultfd of a process outside, whose pages it fills", Reference: userfaultfdManual},
	}
}

// note and noted keep what Attack has to know of what Prepare made for the control
// (0) and for the sandbox (1).
func (s *Stage) note(key string, which int, value string) { s.Made[key+strconv.Itoa(which)] = value }
func (s *Scene) noted(key string) string                  { return s.Made[key+strconv.Itoa(index(!s.Control))] }

func (s *Scene) notedAddress() uint64 {
	at, _ := strconv.ParseUint(s.noted("fault-address"), 16, 64) // 0 is an address where nothing is
	return at
}

// sameHash holds what was read against a hash of the secret: Check runs where the
// attempt does, and the secret is not to be there.
func sameHash(s *Scene, _ Victim, o Outcome) bool {
	hash := sha256.Sum256(o.Data)
	return o.Data != nil && hex.EncodeToString(hash[:]) == s.noted("ring-hash")
}

func prepareRing(s *Stage) (func(), error) {
	for i := range s.inherit {
		r, err := newRing(Native)
		if err != nil {
			return nil, fmt.Errorf("io_uring_setup: %w", err)
		}
		s.hand(i, inheritedRingFD, os.NewFile(r.fd, "ring"))
		secret := low(make([]byte, canarySize))
		rand.Read(secret)
		const buffers = 0 // IORING_REGISTER_BUFFERS
		if _, err := call(Native, ringRegister, r.fd, buffers, iovec(Native, address(secret), len(secret)), 1); err != nil {
			return nil, fmt.Errorf("io_uring_register: %w", err)
		}
		hash := sha256.Sum256(secret)
		s.note("ring-hash", i, hex.EncodeToString(hash[:]))
		s.note("ring-params", i, hex.EncodeToString(r.params))
		s.note("ring-address", i, strconv.FormatUint(address(secret), 16))
	}
	return nil, nil
}

func useInheritedRing(s *Scene, _ Victim) Outcome {
	if !isAnonymous(inheritedRingFD, "io_uring") {
		return Refused("io_uring_enter", unix.EBADF)
	}
	params, err := hex.DecodeString(s.noted("ring-params"))
	at, parseErr := strconv.ParseUint(s.noted("ring-address"), 16, 64)
	if err != nil || parseErr != nil {
		return Outcome{Unready: true, Detail: "what was prepared is not known"}
	}
	r, err := mapRing(Native, inheritedRingFD, params)
	if err != nil {
		return Refused("mmap", err)
	}
	file, err := unix.MemfdCreate("buffer", unix.MFD_CLOEXEC)
	if err != nil {
		return Refused("memfd_create", err)
	}
	defer unix.Close(file)
	if _, err := r.do(request{op: opWriteFixed, fd: int32(file), address: uintptr(at), size: canarySize}); err != nil {
		return Refused("I/O by io_uring", err)
	}
	secret := make([]byte, canarySize)
	if _, err := unix.Pread(file, secret, 0); err != nil {
		return Refused("pread", err)
	}
	return Got(secret)
}

func prepareFaults(s *Stage) (func(), error) {
	for i := range s.inherit {
		fd, err := call(Native, userfaultfdCall, unix.O_CLOEXEC|uffdUserModeOnly)
		if err != nil {
			return nil, fmt.Errorf("userfaultfd: %w", err)
		}
		s.hand(i, inheritedFaultFD, os.NewFile(fd, "userfaultfd"))
		page, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return nil, fmt.Errorf("mmap: %w", err)
		}
		if step, err := watch(fd, address(page)); err != nil {
			return nil, fmt.Errorf("%s: %w", step, err)
		}
		s.note("fault-address", i, strconv.FormatUint(address(page), 16))
	}
	return nil, nil
}

func useInheritedFaults(s *Scene, _ Victim) Outcome {
	if !isAnonymous(inheritedFaultFD, "userfaultfd") {
		return Refused("ioctl UFFDIO_COPY", unix.EBADF)
	}
	return obtained("ioctl UFFDIO_COPY", fill(inheritedFaultFD, s.notedAddress()))
}

// isAnonymous tells whether a descriptor is of the kernel's object that name says:
// its number may meanwhile be one of this program's own.
func isAnonymous(fd int, name string) bool {
	at, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	return err == nil && strings.Contains(at, "["+name+"]")
}

// keyAttempts give the parent process another session keyring, and with it, on some
// kernels, credentials without the sandbox.
func keyAttempts() []Attempt {
	keyctl := number{unix.SYS_KEYCTL, 288}
	var all []Attempt
	for _, form := range []struct {
		spelling string
		abi      ABI
		high     uintptr
	}{{"session-to-parent", Native, 0}, {"session-to-parent-high-bits", Native, highBits}, {"session-to-parent", I386, 0}} {
		explain := "KEYCTL_SESSION_TO_PARENT gives the parent process new credentials"
		if form.high != 0 {
			explain += "; the upper half of the operation is not zero, which the kernel ignores"
		}
		all = append(all, Attempt{Route: "keyctl", Spelling: form.spelling, Target: Parent, Effect: Obtain, ABI: form.abi,
			Explain: explain, Reference: "KEYCTL_SESSION_TO_PARENT(2const), CVE-2024-42318",
			Attack: func(*Scene, Victim) Outcome {
				// A process without threads is needed as the parent: one of the attempt's own.
				fork := cloneCall.step(Native, uintptr(unix.SIGCHLD))
				fork.Mode |= attack.InChild
				return inChild("keyctl", fork, keyctl.step(form.abi, unix.KEYCTL_JOIN_SESSION_KEYRING, 0), keyctl.step(form.abi, unix.KEYCTL_SESSION_TO_PARENT|form.high))
			}})
	}
	return all
}
