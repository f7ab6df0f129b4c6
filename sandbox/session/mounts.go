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
		noticeMounts(s.supervisor, s.plan.Covers, s.onLostCover))
	if err != nil {
		s.mountWatchFailed(err)
		return
	}
	s.stopWatch = stop
}

// watchesMounts reports whether there is anything that a mount could show which the rules
// close, or a cover that could be taken away.
func watchesMounts(plan *sandbox.Plan, pol *policy.Policy) bool {
	return plan.Mounts != nil && (pol.Memory.Access != policy.AccessAllow || len(plan.Covers) > 0)
}

func (s *session) onForbiddenMount(m mountinfo.Mount) {
	if s.policy.Memory.Access != policy.AccessAllow {
		s.onMount(&MountError{Mount: m})
	}
}

func (s *session) onLostCover(place string) { s.onMount(&MountError{Lost: place}) }

// mountWatchFailed: the mount table cannot be watched, so on-mount cannot be held.
func (s *session) mountWatchFailed(err error) { s.onMount(&MountError{Err: err}) }

// onMount does what the policy's on-mount says, and reports why, first where that does not
// wait.
func (s *session) onMount(m *MountError) {
	m.PID, m.Action = s.cmd.PID, m.actionOf(&s.policy)
	s.observer.Mounted(m)
	if m.Action == policy.OnMountEnd {
		s.endSandbox()
	}
	s.observer.Warn(m)
}

// actionOf is what a policy does about it.
func (e *MountError) actionOf(p *policy.Policy) policy.OnMount {
	switch {
	case e.Lost == "":
		return p.OnMount
	case p.Paths.OnDenyLost == policy.OnDenyLostEnd:
		return policy.OnMountEnd
	}
	return policy.OnMountWarn
}

// noticeMounts tells a supervisor of network and FUSE file systems that are mounted after the
// start, where resolving a name may block, and calls onLost once for each of the covers that is
// gone.
func noticeMounts(s *supervisor.Supervisor, covers []string, onLost func(place string)) func(*landlock.MountTable) {
	lost := map[string]bool{}
	return func(table *landlock.MountTable) {
		if s != nil {
			s.SetSlowMounts(table.HasRemote())
		}
		for _, place := range covers {
			if !lost[place] && !table.IsPoint(place) {
				lost[place] = true
				onLost(place)
			}
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
	onMount := func(m *MountError) {
		m.PID, m.Action = config.PID, m.actionOf(&config.Policy)
		acts := m.Action == policy.OnMountEnd && (err == nil || guard != nil)
		if !acts && !config.ReportMounts {
			return // the command has ended, and mounts are not reported
		}
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
	onForbidden := func(m mountinfo.Mount) {
		if config.Policy.Memory.Access != policy.AccessAllow {
			onMount(&MountError{Mount: m})
		}
	}
	onLost := func(place string) { onMount(&MountError{Lost: place}) }
	if _, err := watchMounts(config.Mounts, os.Getpid(), onForbidden, failed,
		noticeMounts(s, config.Covers, onLost)); err != nil {
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
