package session

import (
	"context"
	"os"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
	"github.com/memjail/memjail/sandbox/landlock"
	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

// watchMounts reports a procfs or the like that is mounted outside where the sandbox can
// reach it, or kills the sandbox, as on-mount says.
func (s *session) watchMounts() {
	if !watchesMounts(s.plan, &s.policy) {
		return
	}
	// The main thread is in the sandbox's mount namespace; the command may have ended by
	// now.
	stop, err := watchMounts(landlock.KnownMounts(s.plan.Mounts), os.Getpid(), s.onForbiddenMount, s.mountWatchFailed,
		noticeSlowMounts(s.supervisor))
	if err != nil {
		s.mountWatchFailed(err)
		return
	}
	s.stopWatch = stop
}

// watchesMounts reports whether there is anything that a mount could show which the rules
// close.
func watchesMounts(plan *sandbox.Plan, pol *policy.Policy) bool {
	return plan.Mounts != nil && pol.Memory.Access != policy.AccessAllow
}

func (s *session) onForbiddenMount(m mountinfo.Mount) { s.onMount(&MountError{Mount: m}) }

// mountWatchFailed: the mount table cannot be watched, so on-mount cannot be held.
func (s *session) mountWatchFailed(err error) { s.onMount(&MountError{Err: err}) }

// onMount does what the policy's on-mount says, and reports why, first where that does not
// wait.
func (s *session) onMount(m *MountError) {
	m.PID, m.Action = s.cmd.PID, s.policy.OnMount
	s.observer.Mounted(m)
	if m.Action == policy.OnMountEnd {
		s.endSandbox()
	}
	s.observer.Warn(m)
}

// noticeSlowMounts tells a supervisor of network and FUSE file systems that are mounted
// after the start: resolving a name there may block.
func noticeSlowMounts(s *supervisor.Supervisor) func(*landlock.MountTable) {
	return func(table *landlock.MountTable) {
		if s != nil {
			s.SetSlowMounts(table.HasRemote())
		}
	}
}

// watchMountsDetached watches the mount table in a detached supervisor, from the one on that
// the rules were made for. A guard kills the whole sandbox; without one only the command can
// be killed.
func watchMountsDetached(config successorConfig, s *supervisor.Supervisor, observer Observer,
	guard *guardPipe) {
	if config.Mounts == nil {
		return
	}
	pidfd, err := kernel.OpenPIDFD(config.PID)
	acts := config.Policy.OnMount == policy.OnMountEnd && (err == nil || guard != nil)
	onMount := func(m *MountError) {
		if !acts && !config.ReportMounts {
			return // the command has ended, and mounts are not reported
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
	failed := func(err error) { onMount(&MountError{Err: err}) }
	// This process is in the sandbox's mount namespace.
	if _, err := watchMounts(config.Mounts, os.Getpid(), func(m mountinfo.Mount) { onMount(&MountError{Mount: m}) },
		failed, noticeSlowMounts(s)); err != nil {
		failed(err)
	}
}

// watchDelay keeps the watch, which needs a thread, from slowing the start. No mount is
// missed: it begins with a look at the whole table.
const watchDelay = 20 * time.Millisecond

// watchMounts watches the mount table of the process pid, in which the mounts of known are
// no news ([landlock.KnownMounts]). It calls onMount for each new
// mount that must not be reachable, onTable whenever the table has changed, and onFailure
// once if it cannot go on. stop ends it.
func watchMounts(known []string, pid int, onMount func(mountinfo.Mount),
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
