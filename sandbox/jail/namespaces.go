package jail

import (
	"runtime"
	"syscall"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/view"
	"golang.org/x/sys/unix"
)

// namespaces are what a launcher is told about the namespaces that it is started in.
type namespaces struct {
	// Own: user and mount namespaces of its own. Before are the rights outside.
	Own    bool
	Before kernel.Privileges
	// Failure is why it has none although the policy would have used them; empty: it needs none.
	Failure string
}

// enterNamespaces has the launcher be started in user and mount namespaces of its own, if the
// policy has a view that the launcher could not make otherwise.
func enterNamespaces(p policy.Policy, attr *syscall.SysProcAttr) (*syscall.SysProcAttr, namespaces, error) {
	needed, must := p.OwnMounts()
	uid, gid := unix.Geteuid(), unix.Getegid()
	other := attr != nil && attr.Credential != nil
	if other {
		uid, gid = int(attr.Credential.Uid), int(attr.Credential.Gid)
	}
	if !needed || view.Able() && (!other || uid == 0) {
		return attr, namespaces{}, nil
	}
	n := namespaces{Own: true}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var err error
	if n.Before, err = kernel.ThreadPrivileges(); err != nil {
		return attr, n, err
	}
	if other && uid != 0 { // which the launcher does not keep
		n.Before.Capabilities, n.Before.Ambient = kernel.Capabilities{}, 0
	} else if err := view.Try(); err != nil && must {
		return attr, n, err
	} else if err != nil {
		return attr, namespaces{Failure: err.Error()}, nil
	}
	own := syscall.SysProcAttr{}
	if attr != nil {
		own = *attr
	}
	own.Cloneflags |= syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS
	own.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
	own.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
	own.GidMappingsEnableSetgroups = other
	own.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SYS_CHROOT, unix.CAP_SETPCAP}
	return &own, n, nil
}

// adopt notes the namespaces in the launcher.
func (n *namespaces) adopt() {
	switch {
	case n.Own:
		view.Adopt(n.Before)
	case n.Failure != "":
		view.Fail(failed(n.Failure))
	}
}

// failed is an error of another process.
type failed string

func (f failed) Error() string { return string(f) }
