package probe

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// scratchName is the directory below Stage.Dir for the attempts' own directories.
// It is one of its own because a sandbox may take the right to create files from
// every directory above a mount point.
const scratchName = "scratch"

func (s *Stage) scratch() string { return filepath.Join(s.Dir, scratchName) }

// backstage is what the runner keeps of a Stage for itself.
type backstage struct {
	private bool // mounts made now are seen by this run alone
	guests  map[string][2]*VictimProcess
	inherit [2][]*os.File // what agents are started with, from descriptor 3 on
	made    map[string]error
}

func (r *runner) newStage() Stage {
	return Stage{Dir: r.dir, Mounts: r.mounts, Pace: r.pace, Prepared: map[string]bool{}, Made: map[string]string{}, Guests: map[string][2]Victim{},
		backstage: backstage{private: r.private, guests: map[string][2]*VictimProcess{}, made: map[string]error{}}}
}

// close ends what preparations left to the stage.
func (s *Stage) close() {
	for _, pair := range s.guests {
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

// guest is the victim that was prepared for an attempt, or nil.
func (s *Stage) guest(a *Attempt, inside bool) *VictimProcess {
	return s.guests[a.Name()][index(inside)]
}

// invite starts the two guests of an attempt; options returns those of each.
func (s *Stage) invite(name string, options func(i int) []string) error {
	var pair [2]*VictimProcess
	for i := range pair {
		p, err := startVictim(s.Pace, "", append(options(i), victimOption(lockOption, s.scratch()))...)
		if err != nil {
			if i > 0 {
				pair[0].End()
			}
			return err
		}
		pair[i] = p
	}
	s.guests[name] = pair
	s.Guests[name] = [2]Victim{pair[0].Victim, pair[1].Victim}
	return nil
}

// once makes a preparation that several attempts share.
func (s *Stage) once(key string, prepare func() (undo func(), err error)) (func(), error) {
	if err, known := s.made[key]; known {
		return nil, err
	}
	undo, err := prepare()
	s.made[key] = err
	return undo, err
}

var errNoMounts = errors.New("mounting needs root and a mount namespace of its own")

// mount makes a mount point called key below Mounts and has something mounted on
// it, in the run's private mount namespace only. Made[key] is the mount point.
func (s *Stage) mount(key string, mount func(point string) error) (func(), error) {
	return s.once("mount "+key, func() (func(), error) { return s.mountNow(key, mount) })
}

func (s *Stage) mountNow(key string, mount func(point string) error) (func(), error) {
	point, err := s.mountPoint(key)
	if err != nil {
		return nil, err
	}
	if err := mount(point); err != nil {
		unix.Rmdir(point)
		return nil, fmt.Errorf("mounting %s: %w", key, err)
	}
	s.Made[key] = point
	return func() {
		unix.Unmount(point, unix.MNT_DETACH)
		unix.Rmdir(point)
	}, nil
}

func (s *Stage) mountPoint(key string) (string, error) {
	if !s.private {
		return "", errNoMounts
	}
	point := filepath.Join(s.Mounts, key)
	return point, os.Mkdir(point, 0o755)
}

// mounting returns a mount of a file system without a device.
func mounting(fstype string) func(point string) error {
	return func(point string) error { return unix.Mount(fstype, point, fstype, 0, "") }
}

// binding returns a bind mount of source alone.
func binding(source string) func(point string) error {
	return func(point string) error { return unix.Mount(source, point, "", unix.MS_BIND, "") }
}

// openMounts makes the directory for mount points, closeMounts removes it.
func (r *runner) openMounts() (err error) {
	if r.private {
		r.mounts, err = os.MkdirTemp("", "memjail-probe-mounts-")
	}
	return err
}

func (r *runner) closeMounts() {
	if r.mounts != "" {
		unix.Rmdir(r.mounts) // never more than that: see Stage.Mounts
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
	table, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil || strings.Contains(string(table), " "+dir+"/") {
		return
	}
	os.RemoveAll(dir)
}

// asTold is a Check: whether the attacker got through, as it says. It is
// for attempts whose effect the attacker has to take back at once.
func asTold(_ *Scene, _ Victim, o Outcome) bool { return o.Done }
