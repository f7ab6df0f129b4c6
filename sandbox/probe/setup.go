package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
	"golang.org/x/sys/unix"
)

// Setup is what is prepared outside for a whole run, before the sandbox starts. Runners
// and attackers have a copy of it, by the environment variable setupVariable.
type Setup struct {
	// Dir is a directory for files, reachable from inside.
	Dir string `json:"dir"`
	// Mounts is a directory for mount points. Nothing ever removes it recursively:
	// what is mounted there may be the machine's own file system.
	Mounts string `json:"mounts,omitempty"`
	// Values are what an attempt's Setup has for its Attack: paths, names, numbers. The
	// keys are the attempts' own.
	Values map[string]string `json:"values,omitempty"`
	// ExternalVictims are the victims outside that [Setup.StartVictims] started, by
	// attempt: one for each side.
	ExternalVictims map[string][Sides]Victim `json:"victims,omitempty"`
	// Outside is the victim outside of the attempt that is being made.
	Outside Victim `json:"outside"`
	// Launcher is the number of the process that the launcher was started as, 0 in
	// the control.
	Launcher int `json:"launcher,omitempty"`
	// Pace is how slow the machine is.
	Pace pace `json:"pace"`
	// Control: this is the run without a sandbox.
	Control bool `json:"control"`

	setupState // of the suite's own process
}

const setupVariable = "MEMJAIL_PROBE_SETUP"

func (s *Setup) environment() (string, error) {
	text, err := json.Marshal(s)
	return setupVariable + "=" + string(text), err
}

func readSetup() (*Setup, error) {
	var s Setup
	if err := json.Unmarshal([]byte(os.Getenv(setupVariable)), &s); err != nil {
		return nil, fmt.Errorf("reading the setup from %s: %w", setupVariable, err)
	}
	return &s, nil
}

// scratchName is the directory below Setup.Dir for the attempts' own directories.
// It is a separate one because a sandbox may take the right to create files from
// every directory above a mount point.
const scratchName = "scratch"

// Scratch is the directory below Dir in which processes inside may make files.
func (s *Setup) Scratch() string { return filepath.Join(s.Dir, scratchName) }

// setupState is the part of a Setup that does not leave the suite's own process.
type setupState struct {
	private  bool // mounts made now are seen by this run alone
	external map[string][Sides]*VictimProcess
	inherit  [Sides][]*os.File // what agents are started with, from descriptor 3 on
	made     map[string]error
}

func (r *suite) newSetup() Setup {
	return Setup{Dir: r.dir, Mounts: r.mounts, Pace: r.pace, Values: map[string]string{},
		ExternalVictims: map[string][Sides]Victim{},
		setupState: setupState{private: r.private, external: map[string][Sides]*VictimProcess{},
			made: map[string]error{}}}
}

// close ends the victims, and closes the files, that preparations left to the setup.
func (s *Setup) close() {
	for _, pair := range s.external {
		pair[0].End()
		pair[1].End()
	}
	for _, files := range s.inherit {
		for _, f := range files {
			if f != nil {
				f.Close()
			}
		}
	}
}

// externalVictim is the victim that was prepared for an attempt, or nil.
func (s *Setup) externalVictim(a *Attempt, inside bool) *VictimProcess {
	return s.external[a.Name()][index(inside)]
}

// StartVictims starts the external victims of the attempt called name, one for each
// side, before the sandbox starts; options returns those of each. An attempt that does
// not call it gets a new external victim at each try, if its target is one.
func (s *Setup) StartVictims(name string, options func(side int) VictimOptions) error {
	var pair [Sides]*VictimProcess
	for side := range pair {
		o := options(side)
		o.lockDir = s.Scratch()
		p, err := startVictim(s.Pace, o)
		if err != nil {
			if side > 0 {
				pair[0].End()
			}
			return err
		}
		pair[side] = p
	}
	s.keep(name, pair)
	return nil
}

// StartSharedVictim starts one external victim for both sides of an attempt, which must
// not change it.
func (s *Setup) StartSharedVictim(name string, o VictimOptions) error {
	o.lockDir = s.Scratch()
	p, err := startVictim(s.Pace, o)
	if err != nil {
		return err
	}
	s.keep(name, [Sides]*VictimProcess{p, p})
	return nil
}

func (s *Setup) keep(name string, pair [Sides]*VictimProcess) {
	s.external[name] = pair
	s.ExternalVictims[name] = [Sides]Victim{pair[0].Victim, pair[1].Victim}
}

// Inherit has the launcher of a side, which is as [Setup.Side] returns it, started with f
// as the descriptor fd, which is another one than those of all other attempts. f is
// closed with the setup.
func (s *Setup) Inherit(side, fd int, f *os.File) error {
	const first = 3 // exec.Cmd.ExtraFiles
	for len(s.inherit[side]) <= fd-first {
		s.inherit[side] = append(s.inherit[side], nil)
	}
	if s.inherit[side][fd-first] != nil {
		return fmt.Errorf("two attempts want descriptor %d: %w", fd, unix.EBUSY)
	}
	s.inherit[side][fd-first] = f
	return nil
}

// Patience is how long to wait here for what takes no longer than usual on an ordinary
// machine: usual times the pace of this one.
func (s *Setup) Patience(usual time.Duration) time.Duration { return s.Pace.of(usual) }

// Side is 0 in the control, without the sandbox, and 1 inside.
func (s *Setup) Side() int { return index(!s.Control) }

// Sides is the number of sides of which [Setup.Side] is one.
const Sides = 2

// MakeDirs makes directories, or opens them, for every user, whatever the umask.
func (s *Setup) MakeDirs(dirs ...string) error { return openToAll(dirs...) }

// NeedMounts returns an error unless what is mounted now is seen by this run alone.
func (s *Setup) NeedMounts() error {
	if !s.private {
		return errNoMounts
	}
	return nil
}

// Once makes a preparation that several attempts share. key is the attempts' name for
// it. The first caller gets undo, the others get nil and the same error.
func (s *Setup) Once(key string, prepare func() (undo func(), err error)) (func(), error) {
	if err, known := s.made[key]; known {
		return nil, err
	}
	undo, err := prepare()
	s.made[key] = err
	return undo, err
}

var errNoMounts = errors.New("mounting needs root and a private mount namespace")

// Mount makes a mount point called key below Mounts and has something mounted on it, in
// the run's private mount namespace only. Values[key] is the mount point. Attempts that
// mount by the same key share what is mounted.
func (s *Setup) Mount(key string, mount func(point string) error) (func(), error) {
	return s.Once("mount "+key, func() (func(), error) { return s.MountLate(key, mount) })
}

// MountLate is Mount for one attempt alone, as SetupLate needs it.
func (s *Setup) MountLate(key string, mount func(point string) error) (func(), error) {
	point, err := s.MountPoint(key)
	if err != nil {
		return nil, err
	}
	if err := mount(point); err != nil {
		unix.Rmdir(point)
		return nil, fmt.Errorf("mounting %s: %w", key, err)
	}
	s.Values[key] = point
	return func() {
		unix.Unmount(point, unix.MNT_DETACH)
		unix.Rmdir(point)
	}, nil
}

// MountPoint makes a directory called key below Mounts.
func (s *Setup) MountPoint(key string) (string, error) {
	if err := s.NeedMounts(); err != nil {
		return "", err
	}
	point := filepath.Join(s.Mounts, key)
	return point, os.Mkdir(point, 0o755)
}

// openMounts makes the directory for mount points, closeMounts removes it.
func (r *suite) openMounts() (err error) {
	if r.private {
		r.mounts, err = os.MkdirTemp("", "memjail-probe-mounts-")
	}
	return err
}

func (r *suite) closeMounts() {
	if r.mounts != "" {
		unix.Rmdir(r.mounts) // never more than that: see Setup.Mounts
	}
}

// openToAll makes dirs, or opens them, for every user.
func openToAll(dirs ...string) error {
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return err
		}
		if err := os.Chmod(dir, 0o777); err != nil { // whatever the umask
			return err
		}
	}
	return nil
}

// removeDir removes a directory of the suite with all in it, unless something is
// mounted below: an attempt may have mounted there what must not be removed.
func removeDir(dir string) {
	mounts, err := mountinfo.ReadThread()
	isBelow := func(m mountinfo.Mount) bool { return strings.HasPrefix(m.Point, dir+"/") }
	if err != nil || slices.ContainsFunc(mounts, isBelow) {
		return
	}
	os.RemoveAll(dir)
}
