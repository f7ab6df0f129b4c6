package supervisor

import (
	"errors"
	"slices"

	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/supervisor/decide"
	"golang.org/x/sys/unix"
)

// rights are the rights of a receiver's thread. It opens as the caller and without
// capabilities, except CAP_SYS_PTRACE where the file is the caller's own: the kernel lets
// every process read those files of itself, whatever happened to its credentials, and asks
// all others for ptrace access.
type rights struct {
	caps kernel.CapSet // the most that the thread can have in effect
	self kernel.FileIdentity
	cpus unix.CPUSet
	// fixed: the kernel does not let the thread take its own identity again (a user
	// namespace with groups that it does not map), so it must never give it up.
	fixed bool
	// none: there is no capability to change, and a filter above may kill whoever
	// calls capset(2) all the same.
	none bool
}

const (
	capSetGID    = kernel.CapSet(1) << unix.CAP_SETGID
	capSetUID    = kernel.CapSet(1) << unix.CAP_SETUID
	capPtrace    = kernel.CapSet(1) << unix.CAP_SYS_PTRACE
	capSwitching = capSetGID | capSetUID
)

func ownRights() (rights, error) {
	caps, err := kernel.ThreadCapabilities()
	if err != nil {
		return rights{}, err
	}
	groups, err := unix.Getgroups()
	if err != nil {
		return rights{}, err
	}
	r := rights{caps: caps.Permitted & (capSwitching | capPtrace),
		self: kernel.FileIdentity{UID: unix.Geteuid(), GID: unix.Getegid()}, none: caps.Permitted == 0}
	for _, g := range groups {
		r.self.Groups = append(r.self.Groups, uint32(g))
	}
	return r, unix.SchedGetaffinity(0, &r.cpus)
}

// keepAll keeps every capability that the sandbox's processes can have. Files of another
// process behind a ptrace check can be read only with all the capabilities of that process
// (cap_ptrace_access_check), so they are opened with the caller's own, which are in effect
// only for that moment.
func (r *rights) keepAll() error {
	caps, err := kernel.ThreadCapabilities()
	r.caps = caps.Permitted
	return err
}

// keep keeps those of a set that this process has.
func (r *rights) keep(set kernel.CapSet) error {
	caps, err := kernel.ThreadCapabilities()
	r.caps |= caps.Permitted & set
	return err
}

// keepMetadata keeps those by which changes of metadata are judged, to have in effect
// what a caller has. kept: the sandbox may have more of them than usual.
func (r *rights) keepMetadata(kept bool) error {
	caps, err := kernel.ThreadCapabilities()
	wanted := capMetadata
	if !kept {
		wanted &^= capMetadataKept
	}
	r.caps |= caps.Permitted & wanted
	return err
}

// reduce drops all other capabilities of the calling thread for good, and finds out whether
// it can return to its own identity from another.
func (r *rights) reduce() error {
	if r.canSwitchUser() {
		r.fixed = errors.Join(r.effective(capSwitching), kernel.SetThreadFileIdentity(r.self)) != nil
	}
	return r.effective(capPtrace)
}

func (r *rights) effective(set kernel.CapSet) error {
	if r.none {
		return nil
	}
	return kernel.SetThreadCapabilities(kernel.Capabilities{Effective: set & r.caps, Permitted: r.caps})
}

// canSwitchUser reports whether the thread can open as another user. One that cannot is an
// ordinary user's, and so are all processes in its sandbox.
func (r *rights) canSwitchUser() bool { return r.caps&capSwitching == capSwitching }

// withCallerCredentials runs open with the file identity of the caller, and with those of the needed
// capabilities in effect that the thread has, and returns to the thread's own rights. If
// that fails ok is false: the thread may have any rights, and must not go on.
func (r *rights) withCallerCredentials(id kernel.FileIdentity, needed kernel.CapSet,
	open func() error) (err error, ok bool) {
	other := r.canSwitchUser() && !sameIdentity(id, r.self)
	if other && r.fixed {
		return unix.EPERM, true
	}
	if !other && needed&r.caps == capPtrace&r.caps {
		return open(), true
	}
	if other {
		err = errors.Join(r.effective(capSwitching), kernel.SetThreadFileIdentity(id))
	}
	if err == nil {
		err = r.effective(needed)
	}
	if err == nil {
		err = open()
	}
	var back error
	if other {
		back = errors.Join(r.effective(capSwitching), kernel.SetThreadFileIdentity(r.self))
	}
	back = errors.Join(back, r.effective(capPtrace))
	return err, back == nil
}

func sameIdentity(a, b kernel.FileIdentity) bool {
	return a.UID == b.UID && a.GID == b.GID && slices.Equal(a.Groups, b.Groups)
}

// ownFile reports whether a grant's file belongs to the calling process.
func ownFile(o decide.Object) bool { return o.Class == decide.Process && o.Own }
