package sandbox

import (
	"fmt"
	"os"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
	"github.com/memjail/memjail/sandbox/landlock"
	"github.com/memjail/memjail/sandbox/pin"
	"github.com/memjail/memjail/sandbox/view"
	"golang.org/x/sys/unix"
)

// fileSystem is the file system as the sandbox sees it.
type fileSystem struct {
	// mounts is the mount table that the rules are made for; nil without Landlock.
	mounts *landlock.MountTable
	// namespace is the sandbox's own mount namespace, or nil.
	namespace *os.File
	// pinned are the files that the program uses copies of, or nil. codeAliases are the other
	// paths that led to the program directories before the program was pinned.
	pinned      *pin.Pinned
	codeAliases []string
	hidden      []string // mount points that the private mounts leave out
	// covered are denied paths that the view covers, with the places of the covers.
	covered []landlock.DeniedPlace
	// private is the sandbox's view, in which only what is granted exists or some directories
	// are its own; nil: it has none.
	private *view.Plan
}

// sandboxView gives the sandbox its own mounts, if something in the policy needs them. From
// then on the main thread sees the file system as the sandbox will.
func (o *Options) sandboxView(c *command, s system, e *effort) (fileSystem, error) {
	v := fileSystem{mounts: s.mounts}
	if err := o.privateView(&v, c, s, e); err != nil {
		return v, err
	}
	if err := o.pin(&v, c, e); err != nil || s.abi == 0 {
		return v, err
	}
	return v, o.privateMounts(&v, e)
}

// whyOtherMounts explains why the sandbox sees other mounts than its caller; it returns ""
// if it sees the same.
func (o *Options) whyOtherMounts(v *fileSystem) string {
	switch {
	case v.private != nil:
		return " (the sandbox has a private view, paths.view or [home])"
	case v.namespace == nil:
		return ""
	case o.Policy.Memory.Pin:
		return " (the program is pinned, memory.pin, and so has its own mounts)"
	}
	return " (the sandbox has private mounts, because of " + strings.Join(v.hidden, ", ") +
		"; --allow private-mounts=no closes it otherwise)"
}

// privateMounts gives the sandbox its own mount namespace, in which procfs and other special
// file systems are hidden outside their customary places. Later mounts outside do not
// propagate to it either.
func (o *Options) privateMounts(v *fileSystem, e *effort) error {
	hidden := landlock.HiddenMounts(v.mounts)
	caps, err := kernel.ThreadCapabilities()
	if err != nil {
		return err
	}
	able := caps.Effective.Has(unix.CAP_SYS_ADMIN) && caps.Effective.Has(unix.CAP_SYS_CHROOT)
	switch o.Policy.PrivateMounts {
	case policy.PrivateMountsNo:
		return nil
	case policy.PrivateMountsAuto: // what cannot be covered is carved out
		if !able || len(hidden) == 0 || !v.mounts.HasRoot() {
			return nil
		}
	case policy.PrivateMountsYes:
		if !able {
			return e.DropOrFail("private mounts", fmt.Errorf("they need CAP_SYS_ADMIN and CAP_SYS_CHROOT: %w",
				unix.EPERM))
		}
		if !v.mounts.HasRoot() {
			return e.DropOrFail("private mounts",
				fmt.Errorf("the root directory is not a mount (a chroot into a plain directory), "+
					"so mounts would be hidden outside, too: %w", unix.EINVAL))
		}
	}
	if err := hideMounts(hidden); err != nil {
		return e.DropOrFail("private mounts", err)
	}
	if err := v.holdMountNamespace(); err != nil {
		return err
	}
	for _, m := range hidden {
		v.hidden = append(v.hidden, m.Point)
	}
	v.mounts, err = landlock.ReadMountTable()
	return err
}

// holdMountNamespace opens the mount namespace that the main thread has moved into.
func (v *fileSystem) holdMountNamespace() error {
	ns, err := os.Open("/proc/thread-self/ns/mnt")
	if err != nil {
		return fmt.Errorf("looking at the private mount namespace: %w", err)
	}
	if v.namespace != nil {
		v.namespace.Close()
	}
	v.namespace = ns
	return nil
}

// unshareMounts moves the main thread into a new mount namespace.
func unshareMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("making a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making the mounts private: %w", err)
	}
	return nil
}

func hideMounts(hidden []mountinfo.Mount) error {
	if err := unshareMounts(); err != nil {
		return err
	}
	for _, m := range hidden {
		err := unix.Unmount(m.Point, unix.MNT_DETACH)
		if err != nil && err != unix.EINVAL && err != unix.ENOENT { // went with the mount above it
			return fmt.Errorf("hiding the %s mounted at %s: %w", m.FSType, m.Point, err)
		}
	}
	return nil
}
