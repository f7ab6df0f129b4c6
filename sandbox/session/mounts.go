package session

import (
	"context"
	"os"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
	"github.com/memjail/memjail/sandbox/landlock"
	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

// watchMounts reports, or ends the command over, a procfs or the like that somebody
// outside mounts where the sandbox can reach it.
func (s *session) watchMounts() {
	if s.plan.Mounts == nil || s.policy.Memory.Access == policy.AccessAllow {
		return
	}
	// The main thread is in the sandbox's mount namespace; the command may have ended by
	// now.
	stop, err := watchMounts(s.plan.Mounts, os.Getpid(), s.onForbiddenMount, s.mountWatchFailed,
		noticeSlowMounts(s.supervisor))
	if err != nil {
		s.mountWatchFailed(err)
		return
	}
	s.stopWatch = stop
}

func (s *session) onForbiddenMount(m mountinfo.Mount) { s.onMount(&MountError{Mount: m}) }

// mountWatchFailed: the mount table cannot be watched, so nobody would see what on-mount
// is there for.
func (s *session) mountWatchFailed(err error) { s.onMount(&MountError{Err: err}) }

// onMount does what the policy's on-mount says, and tells why: first those who keep
// nobody waiting.
func (s *session) onMount(m *MountError) {
	m.PID, m.Action = s.cmd.PID, s.policy.OnMount
	s.observer.Mounted(m)
	if m.Action == policy.OnMountEnd {
		s.endSandbox()
	}
	s.observer.Warn(m)
}

// noticeSlowMounts has a supervisor know of network and FUSE file systems that are mounted
// after the start: resolving a name there may take for ever.
func noticeSlowMounts(s *supervisor.Supervisor) func(*landlock.MountTable) {
	return func(table *landlock.MountTable) {
		if s != nil {
			s.SetSlowMounts(table.HasRemote())
		}
	}
}

// watchMountsDetached goes on watching the mount table in a detached supervisor. A guard
// ends all of the sandbox; without one only the command can be ended.
func watchMountsDetached(config successorConfig, s *supervisor.Supervisor, observer Observer,
	guard *guardPipe) {
	pidfd, err := kernel.OpenPIDFD(config.PID)
	acts := config.Policy.OnMount == policy.OnMountEnd && (err == nil || guard != nil)
	table, err := landlock.ReadMountTable()
	if err != nil {
		return
	}
	onMount := func(m *MountError) {
		if !acts && !config.ReportMounts {
			return // the command has ended, or nobody asks
		}
		m.PID, m.Action = config.PID, config.Policy.OnMount
		observer.Mounted(m)
		if m.Action == policy.OnMountEnd {
			if pidfd != nil {
				kernel.SignalPIDFD(pidfd, unix.SIGKILL)
			}
			guard.kill()
		}
	}
	// This process is in the sandbox's mount namespace.
	watchMounts(table, os.Getpid(), func(m mountinfo.Mount) { onMount(&MountError{Mount: m}) },
		func(err error) { onMount(&MountError{Err: err}) }, noticeSlowMounts(s))
}

// watchDelay keeps the watch, which needs a thread, out of the way of the start.
// Nothing is lost: it begins with a look at the whole table.
const watchDelay = 20 * time.Millisecond

// watchMounts watches the mount table that the process pid sees and calls onMount
// for what is new and not to be reached, or onFailure once if it cannot go on; onTable
// gets the table whenever it has changed. stop ends it.
func watchMounts(known *landlock.MountTable, pid int, onMount func(mountinfo.Mount),
	onFailure func(error), onTable func(*landlock.MountTable)) (stop func(), err error) {
	mountinfo, err := landlock.OpenMountinfo(pid)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer mountinfo.Close()
		select {
		case <-time.After(watchDelay):
		case <-ctx.Done():
			return
		}
		if err := landlock.Watch(ctx, mountinfo, known, onMount, onTable); err != nil {
			onFailure(err)
		}
	}()
	return cancel, nil
}
