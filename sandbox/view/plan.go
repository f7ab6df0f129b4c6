package view

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/abspath"
	"golang.org/x/sys/unix"
)

// Request is what a view is to show.
type Request struct {
	// Rules are the path rules. What they grant exists, also below a private home directory.
	Rules []policy.Rule
	// Whole: everything else exists, too, as it is outside.
	Whole bool
	// Also are paths that exist besides, read-only: sockets and devices that the policy names.
	// Those that are missing are left out.
	Also []string
	// Tmp are directories for temporary files that are empty, each once.
	Tmp []string
	// Keep are directories in what is private that are shown as they are, writable.
	Keep []string
	// Home is a private home directory; nil: there is none.
	Home *Home
}

// Home is a private home directory.
type Home struct {
	// Places are the paths that become the private home: HOME and the directory that the
	// system's list of users has.
	Places []string
	// Dir is the directory that is shown there; empty: an empty one in memory.
	Dir string
	// Read are directories below that are shown as they are, read-only, where they exist.
	Read []string
}

// Kind is what a [Mount] shows.
type Kind uint8

const (
	// Bind shows a file or directory from outside, with all that is mounted in it.
	Bind Kind = iota
	// Empty is an empty directory in memory.
	Empty
	// Same shows what the view has at Source, which can be the place itself.
	Same
	// NoFile is in the place of a file and refuses to be opened.
	NoFile
	// NoDirectory is in the place of a directory, empty and closed.
	NoDirectory
)

// Mount is one mount of a view.
type Mount struct {
	// Place is the path in the view, without links.
	Place string
	Kind  Kind
	// Source is the path outside, for Bind, or in the view, for Same.
	Source string
	// Writable: files can be changed, as far as their permissions and the rules allow.
	Writable bool
	// Mode, UID and GID are those of an Empty directory.
	Mode, UID, GID uint32
	// Fill: what is mounted in it, and does not exist in it, is made there.
	Fill bool

	id identity // of the source, for Bind
}

// identity tells a file from any other.
type identity struct {
	dev, ino uint64
	kind     uint32
}

func identify(st *unix.Stat_t) identity {
	return identity{uint64(st.Dev), st.Ino, st.Mode & unix.S_IFMT} //nolint:unconvert // differs between architectures
}

func (m *Mount) directory() bool {
	switch m.Kind {
	case Bind:
		return m.id.kind == unix.S_IFDIR
	case NoFile:
		return false
	}
	return true
}

// Plan is everything that a view needs.
type Plan struct {
	// Mounts are sorted by their places.
	Mounts []Mount
	// Covers come after the mounts, in their order.
	Covers []Mount

	// whole: everything of outside exists, but for what Mounts put in its place. readOnly
	// is then whether it can be changed.
	whole, readOnly bool
	links           map[string]string
}

// PathError is a path that cannot be shown.
type PathError struct {
	Path   string
	Err    error
	Reason string // what to do, or empty
}

func (e *PathError) Error() string {
	if e.Reason != "" {
		return fmt.Sprintf("showing %q in the private view: %v (%s)", e.Path, e.Err, e.Reason)
	}
	return fmt.Sprintf("showing %q in the private view: %v", e.Path, e.Err)
}

func (e *PathError) Unwrap() error { return e.Err }

// always are the directories that every view has as they are outside: devices are granted one
// by one by the rules, and terminals find their other ends only in the /dev that they were
// opened in.
var always = []string{"/dev", "/proc"}

// NewPlan looks at what is requested. It is called where paths lead to what they name outside.
// Paths of rules that do not exist are left out. Errors: [*PathError].
func NewPlan(r Request) (*Plan, error) {
	b := &planner{plan: &Plan{links: map[string]string{}}}
	if err := b.grants(r); err != nil {
		return nil, err
	}
	for _, path := range r.Keep {
		if err := b.show(path, true, true); err != nil {
			return nil, err
		}
	}
	if err := b.ownDirectories(r); err != nil {
		return nil, err
	}
	b.merge()
	b.skeletonLinks()
	return b.plan, nil
}

// planner collects the mounts of a plan.
type planner struct {
	plan   *Plan
	walker walker
}

// grants adds what exists because of rules.
func (b *planner) grants(r Request) error {
	b.plan.whole = r.Whole
	for _, rule := range r.Rules {
		if err := b.show(rule.Path, rule.Rights&policy.MayWrite != 0, false); err != nil {
			return err
		}
	}
	if r.Whole {
		return nil
	}
	for _, path := range r.Also {
		if err := b.show(path, false, false); err != nil {
			return err
		}
	}
	for _, path := range always {
		if err := b.show(path, true, false); err != nil {
			return err
		}
	}
	return nil
}

// show adds what a path leads to, and the links on the way. must: it has to exist.
func (b *planner) show(path string, writable, must bool) error {
	place, st, err := b.walker.look(path)
	switch {
	case (err == unix.ENOENT || err == unix.ENOTDIR || err == unix.EACCES) && !must:
		return nil // what this user cannot reach is as good as missing
	case err != nil:
		return &PathError{Path: path, Err: err}
	}
	b.plan.Mounts = append(b.plan.Mounts, Mount{Place: place, Source: place, Writable: writable, id: identify(&st)})
	return nil
}

// ownDirectories adds the directories that are not those of outside.
func (b *planner) ownDirectories(r Request) error {
	for _, dir := range r.Tmp { // one may be a link to the other: merge
		place, _, err := b.walker.look(dir)
		if err != nil {
			place = dir
		}
		b.plan.Mounts = append(b.plan.Mounts, Mount{Place: place, Kind: Empty, Writable: true, Mode: 0o1777,
			Fill: true, UID: uint32(unix.Geteuid()), GID: uint32(unix.Getegid())})
	}
	if r.Home == nil {
		return nil
	}
	homes, err := b.homes(r.Home)
	if err != nil {
		return err
	}
	for i, m := range homes {
		switch first := homes[0].Place; {
		case r.Home.Dir != "":
			if err := b.keptHome(&m, r.Home.Dir); err != nil {
				return err
			}
		case i > 0 && !abspath.Within(first, m.Place):
			m = Mount{Place: m.Place, Kind: Same, Source: first, Writable: true, Fill: true}
		}
		b.plan.Mounts = append(b.plan.Mounts, m)
	}
	for _, path := range r.Home.Read {
		if _, err := os.Stat(path); err != nil {
			continue // it is missing, or nobody here uses it
		}
		if err := b.show(path, false, false); err != nil {
			return err
		}
	}
	return nil
}

// homes are empty directories on the places of the home directory, in their order, each once.
// Where not everything exists, those that are missing are made.
func (b *planner) homes(h *Home) ([]Mount, error) {
	var homes []Mount
	for _, path := range h.Places {
		m := Mount{Place: path, Kind: Empty, Writable: true, Mode: 0o700, Fill: true,
			UID: uint32(unix.Geteuid()), GID: uint32(unix.Getegid())}
		place, st, err := b.walker.look(path)
		switch {
		case err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR:
			err = unix.ENOTDIR
		case err == nil && place == "/":
			err = unix.EBUSY
		case err == nil:
			m.Place = place
			if !own.entered { // where other users' IDs exist
				m.Mode, m.UID, m.GID = st.Mode&0o7777, st.Uid, st.Gid
			}
		case (err == unix.ENOENT || err == unix.EACCES) && !b.plan.whole:
			err = nil
		case err == unix.ENOENT && len(h.Places) > 1:
			continue // nothing is there
		}
		if err != nil {
			return nil, &PathError{Path: path, Err: err, Reason: "it is the home directory: set HOME to another one"}
		}
		if !slices.ContainsFunc(homes, func(o Mount) bool { return o.Place == m.Place }) {
			homes = append(homes, m)
		}
	}
	slices.SortFunc(homes, func(x, y Mount) int { return comparePlaces(x.Place, y.Place) })
	return homes, nil
}

// keptHome has a mount show the directory that is kept as a home.
func (b *planner) keptHome(m *Mount, dir string) error {
	source, st, err := b.walker.look(dir)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		err = unix.ENOTDIR
	}
	if err != nil {
		return &PathError{Path: dir, Err: err, Reason: "make it with mkdir -p -m 700 " +
			policy.ShellWord(dir)}
	}
	*m = Mount{Place: m.Place, Source: source, Writable: true, Fill: true, id: identify(&st)}
	return nil
}

// merge sorts the mounts and leaves out those that show what an outer one shows already.
func (b *planner) merge() {
	p := b.plan
	slices.SortStableFunc(p.Mounts, func(x, y Mount) int { return comparePlaces(x.Place, y.Place) })
	kept := p.Mounts[:0]
	var around []int // the mounts that the current one lies in
	for _, m := range p.Mounts {
		for len(around) > 0 && !abspath.Within(kept[around[len(around)-1]].Place, m.Place) {
			around = around[:len(around)-1]
		}
		if len(around) == 0 {
			if p.whole && m.shared() {
				continue
			}
		} else if outer := &kept[around[len(around)-1]]; outer.Place == m.Place {
			outer.join(m)
			continue
		} else if outer.shared() && m.shared() && (outer.Writable || !m.Writable) {
			continue
		}
		kept = append(kept, m)
		around = append(around, len(kept)-1)
	}
	p.Mounts = kept
	if len(kept) > 0 && kept[0].Place == "/" {
		p.whole, p.readOnly = true, !kept[0].Writable
		p.Mounts = kept[1:]
	}
	for place, text := range b.walker.links {
		if m := p.on(place); m == nil && !p.whole || m != nil && m.Fill {
			p.links[place] = text
		}
	}
}

// comparePlaces sorts what lies in a directory right after it.
func comparePlaces(a, b string) int {
	return strings.Compare(strings.ReplaceAll(a, "/", "\x00"), strings.ReplaceAll(b, "/", "\x00"))
}

// shared reports whether a mount shows what is at its place outside.
func (m *Mount) shared() bool { return m.Kind == Bind && m.Source == m.Place && !m.Fill }

// join adds another mount on the same place. What is private there stays so, whatever rules say
// about the place.
func (m *Mount) join(other Mount) {
	switch {
	case m.Fill:
	case other.Fill:
		*m = other
	default:
		m.Writable = m.Writable || other.Writable
	}
}

// String describes the view in one line.
func (p *Plan) String() string {
	own := []string{}
	for i := range p.Mounts {
		if !p.Mounts[i].shared() {
			own = append(own, p.Mounts[i].Place)
		}
	}
	text := "only what is granted exists"
	if p.whole {
		text = "everything exists"
	}
	if len(own) > 0 {
		text += ", with directories of its own: " + strings.Join(own, ", ")
	}
	return fmt.Sprintf("%s (%d mounts)", text, len(p.Mounts)+len(p.Covers))
}

// on returns the innermost mount on or around a place; nil: there is none.
func (p *Plan) on(place string) *Mount {
	var found *Mount
	for i := range p.Mounts {
		if abspath.Within(p.Mounts[i].Place, place) {
			found = &p.Mounts[i]
		}
	}
	return found
}

// Shows reports whether the view shows at a place, which has no links on the way, what is there
// outside.
func (p *Plan) Shows(place string) bool {
	m := p.on(place)
	return m == nil && p.whole || m != nil && m.shared()
}

// Ephemeral reports whether a place, which has no links on the way, is a directory in memory, which
// is empty at first.
func (p *Plan) Ephemeral(place string) bool {
	for i := range p.Mounts {
		if m := &p.Mounts[i]; m.Place == place {
			return m.Kind == Empty || m.Kind == Same && p.Ephemeral(m.Source)
		}
	}
	return false
}

// Shown lists the places of the view where a path outside, which has no links on the way, is
// shown. It can be shown at several.
func (p *Plan) Shown(path string) []string {
	var places []string
	if p.whole && p.Shows(path) {
		places = append(places, path)
	}
	for _, m := range p.Mounts {
		if m.Kind != Bind || !abspath.Within(m.Source, path) {
			continue
		}
		place := m.Place
		if path != m.Source {
			place = abspath.Join(m.Place, abspath.Relative(m.Source, path))
		}
		if on := p.on(place); on != nil && on.Place == m.Place && !slices.Contains(places, place) {
			places = append(places, place)
		}
	}
	return places
}
