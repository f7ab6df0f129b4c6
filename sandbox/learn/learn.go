// Package learn turns what a program was seen to use into a policy for it: the fewest
// rules that a person would write, none of which opens keys, start-up files or the
// sockets of daemons without being asked to.
//
// A [Recorder] takes the observations of a supervisor, [Recorder.Propose] makes the
// policy of them. The rules by which single files become directories are in one table
// (collapse.go) and described in docs/learn.md.
package learn

import (
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

// maxUses bounds what is remembered: the program chooses how much there is.
const maxUses = 1 << 18

// Need is what a program needs of a path.
type Need uint8

const (
	NeedList    Need = 1 << iota // the names in a directory
	NeedRead                     // the content of a file
	NeedExecute                  // a program file is run
	NeedWrite                    // a file that exists is changed, or its metadata
	NeedMake                     // names are made or removed in a directory
)

// needOf maps accesses to needs. Names are made and removed in the directory above.
var needOf = map[supervisor.Access]Need{
	supervisor.AccessList: NeedList, supervisor.AccessRead: NeedRead, supervisor.AccessExecute: NeedExecute,
	supervisor.AccessWrite: NeedWrite, supervisor.AccessChange: NeedWrite,
	supervisor.AccessMake: NeedMake, supervisor.AccessRemove: NeedMake,
}

// use is what was done with one path.
type use struct {
	need  Need
	count int
	by    []string // the names of the first few programs
}

// maxPrograms is how many programs a use names.
const maxPrograms = 3

func (u *use) add(need Need, count int, programs ...string) {
	u.need |= need
	u.count += count
	for _, p := range programs {
		if len(u.by) < maxPrograms && !slices.Contains(u.by, p) {
			u.by = append(u.by, p)
		}
	}
}

// Recorder gathers observations. Its methods may be called by several goroutines at
// once.
type Recorder struct {
	mu    sync.Mutex
	paths map[string]*use
	// made are names that did not exist before the run.
	made      map[string]bool
	replaced  map[string]bool // directories in which names were removed or replaced that were there before
	hidden    map[string]*use // programs whose calls cannot be read, by their names
	looks     map[string]*use // looked at, whether or not it was opened
	missed    map[string]*use // looked for, and not there
	reads     map[string]bool // files that were read or executed
	changed   bool            // owner, mode or times of files were changed
	sockets   map[string]*use // UNIX sockets outside, by path or "@name"
	own       map[string]bool // UNIX sockets that the program bound itself
	ports     map[port]*use
	families  map[uint16]bool
	truncated bool
}

// port is a port that was connected or bound to.
type port struct {
	access   supervisor.Access
	protocol int
	number   uint16
}

// NewRecorder returns an empty one.
func NewRecorder() *Recorder {
	return &Recorder{paths: map[string]*use{}, made: map[string]bool{}, sockets: map[string]*use{},
		own: map[string]bool{}, replaced: map[string]bool{}, hidden: map[string]*use{}, looks: map[string]*use{},
		missed: map[string]*use{}, reads: map[string]bool{},
		ports: map[port]*use{}, families: map[uint16]bool{}}
}

// Observe takes one observation.
func (r *Recorder) Observe(o supervisor.Observation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch o.Access {
	case supervisor.AccessConnect, supervisor.AccessBind:
		r.address(o)
		return
	case supervisor.AccessLook:
		if path.IsAbs(o.Path) && !r.isMade(o.Path) {
			r.at(r.looks, o.Path).add(0, 1, o.Comm)
		}
		return
	case supervisor.AccessHidden:
		r.at(r.hidden, o.Comm).add(0, 1)
		return
	case supervisor.AccessSocket:
		r.families[o.Family] = true
		return
	}
	need, ok := needOf[o.Access]
	if !path.IsAbs(o.Path) || !ok && o.Access != supervisor.AccessMiss {
		return
	}
	r.changed = r.changed || o.Access == supervisor.AccessChange
	name := o.Path
	if need&(NeedRead|NeedExecute) != 0 && len(r.reads) < maxUses {
		r.reads[name] = true
	}
	switch {
	case !ok:
		if !r.isMade(name) {
			r.at(r.missed, name).add(0, 1, o.Comm)
		}
		return
	case need == NeedMake:
		if o.Missing {
			r.remember(name)
		}
		if !o.Missing && !r.isMade(name) {
			r.replaced[path.Dir(name)] = true
		}
		name = r.existing(path.Dir(name))
	case r.isMade(name):
		if need != NeedExecute {
			return // whoever may make it may use it: the rule on the directory says both
		}
		name = r.existing(name)
	}
	r.at(r.paths, name).add(need, 1, programOf(o))
}

// programOf names the program that made the call. That of the command itself was made
// before there was any, by memjail, whose name is "exe" where it was executed anew from
// /proc/self/exe.
func programOf(o supervisor.Observation) string {
	if o.Access == supervisor.AccessExecute && (o.Comm == "memjail" || o.Comm == "exe") {
		return path.Base(o.Path)
	}
	return o.Comm
}

// isMade reports whether the path was made by the program, or lies in what it made.
func (r *Recorder) isMade(name string) bool {
	for ; name != "/"; name = path.Dir(name) {
		if r.made[name] {
			return true
		}
	}
	return false
}

// existing returns the nearest directory that existed before the run.
func (r *Recorder) existing(name string) string {
	for name != "/" && r.isMade(name) {
		name = path.Dir(name)
	}
	return name
}

func (r *Recorder) remember(name string) {
	if len(r.made) >= maxUses {
		r.truncated = true
		return
	}
	r.made[name] = true
}

func (r *Recorder) at(uses map[string]*use, key string) *use {
	u := uses[key]
	if u == nil {
		u = &use{}
		if len(uses) >= maxUses {
			r.truncated = true
			return u
		}
		uses[key] = u
	}
	return u
}

// address takes a connect or bind.
func (r *Recorder) address(o supervisor.Observation) {
	switch o.Family {
	case unix.AF_UNSPEC: // connect(2) with it dissolves an association
	case unix.AF_UNIX:
		r.families[o.Family] = true
		switch {
		case o.Access == supervisor.AccessBind:
			r.own[o.Path] = true
			if o.Path != "" && !strings.HasPrefix(o.Path, "@") {
				r.at(r.paths, path.Dir(o.Path)).add(NeedMake, 1, o.Comm)
				r.remember(o.Path)
			}
		case !r.own[o.Path]:
			r.at(r.sockets, o.Path).add(NeedRead, 1, o.Comm)
		}
	case unix.AF_INET, unix.AF_INET6:
		r.families[o.Family] = true
		key := port{o.Access, o.Protocol, o.Port}
		u := r.ports[key]
		if u == nil {
			u = &use{}
			r.ports[key] = u
		}
		u.add(NeedRead, 1, o.Comm)
	default:
		r.families[o.Family] = true
	}
}
