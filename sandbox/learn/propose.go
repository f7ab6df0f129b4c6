package learn

import (
	"cmp"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/abspath"
	"github.com/memjail/memjail/sandbox/closure"
	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

// Grant is one rule of a proposal.
type Grant struct {
	Path   string
	Rights policy.Rights
	// Programs are the first few that needed it, Count is how often.
	Programs []string
	Count    int
	group    group
}

// Withheld is a use that the proposal does not allow, on purpose.
type Withheld struct {
	Path     string
	Need     Need
	Programs []string
	Count    int
	Why      string
}

// Proposal is a policy for what was observed.
type Proposal struct {
	Grants              []Grant // by group, then path
	Withheld            []Withheld
	ConnectTCP, BindTCP []uint16
	UDP                 bool // UDP sockets were connected or bound
	Families            []string
	// OwnSockets: the program bound UNIX sockets of its own.
	OwnSockets bool
	// Hidden are programs whose calls could not be read, so what they use is not known.
	Hidden []string
	// Truncated: there was more than can be remembered.
	Truncated bool

	// Missed are paths outside the grants that were looked for and do not exist.
	Missed []Withheld
	// Unseen are paths that were looked at, exist, and are not in the private view.
	Unseen []Withheld
	// Variables and Measured are set by the caller, if it knows.
	Variables Variables
	Measured  Measured

	places   Places
	portUses map[uint16]*use
	base     *Base
	view     string
	// changed: owner, mode or times of files were changed.
	changed bool
	// privateTmp: names were made in /tmp, which cannot be granted, and none is left.
	privateTmp bool
	// ports: sockets of IP can be made, and the kernel can restrict their TCP ports.
	ports bool
}

// Measured is what the run took.
type Measured struct {
	Resident  int64 // of the largest process, in bytes
	Processor time.Duration
}

// Options say what to propose.
type Options struct {
	Places Places
	// Secrets grants keys, tokens, start-up files and sockets of daemons like anything
	// else.
	Secrets bool
	// Service: the program may connect to the sockets of the service manager and the system
	// log, to which the policy therefore leaves UNIX sockets open if it does.
	Service bool
	// View becomes paths.view; "": the policy does not say.
	View string
	// NoView: who runs the program can have no private mounts here, so none is proposed.
	NoView bool
	// Lstat tells what the program has left behind; nil: [os.Lstat].
	Lstat func(name string) (os.FileInfo, error)
	// Base is what the proposal adds to; nil: nothing.
	Base *Base
	// ABI is the kernel's Landlock ABI. The proposal has no keys that it cannot enforce.
	ABI int
}

// portsABI is the Landlock ABI from which on TCP ports can be restricted.
const portsABI = 4

// Propose makes a policy of what has been observed so far. It looks at the files that
// were executed, for what runs them.
func (r *Recorder) Propose(o Options) Proposal {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := &builder{options: o, collapser: newCollapser(o.Places), grants: map[string]*Grant{}}
	b.addInterpreters(r.paths)
	b.tmpKept = b.keeps(r, "/tmp", "/var/tmp", "/dev/shm")
	paths := b.entries(r)
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		b.path(name, paths[name])
	}
	b.mergeSiblings()
	b.dropCovered()
	b.grantListings()
	dir := o.Places.Dir
	hidden := dir != "" && (o.View != "" || b.privateTmp && abspath.Within("/tmp", dir))
	if hidden && !b.holds(dir) && o.Base.rights(dir) == 0 {
		b.add(target{dir, groupListed}, policy.MayList, 0, nil) // without it the view has no place to start in
	}
	b.addExact()
	b.sockets(r)
	p := Proposal{Withheld: b.withheld, Families: familyNames(r.families, b.socketsGranted || len(r.own) > 0),
		OwnSockets: len(r.own) > 0 || b.socketsGranted, Truncated: r.truncated, places: o.Places,
		changed: r.changed, privateTmp: b.privateTmp,
		portUses: map[uint16]*use{}, Hidden: slices.Sorted(maps.Keys(r.hidden))}
	p.ports = o.ABI >= portsABI && r.usesIP()
	for key, u := range r.ports {
		p.portUses[key.number] = u
		switch {
		case key.protocol == unix.IPPROTO_UDP:
			p.UDP = true
		case key.access == supervisor.AccessConnect:
			p.ConnectTCP = append(p.ConnectTCP, key.number)
		default:
			p.BindTCP = append(p.BindTCP, key.number)
		}
	}
	slices.Sort(p.ConnectTCP)
	slices.Sort(p.BindTCP)
	for _, g := range b.grants {
		p.Grants = append(p.Grants, *g)
	}
	if o.Base != nil {
		p.without(o.Base)
	}
	p.Missed = b.missed(r.missed)
	if o.View != "" {
		p.view, p.Unseen = o.View, b.unseen(r.looks)
	}
	slices.SortFunc(p.Grants, func(x, y Grant) int {
		return cmp.Or(cmp.Compare(x.group, y.group), strings.Compare(x.Path, y.Path))
	})
	return p
}

// familyNames are those of network.families.
func familyNames(numbers map[uint16]bool, sockets bool) []string {
	var names []string
	for _, f := range policy.SocketFamilies() {
		if numbers[uint16(f.Number)] && (f.Number != unix.AF_UNIX || sockets) {
			names = append(names, f.Name)
		}
	}
	return names
}

// builder makes a proposal.
type builder struct {
	options   Options
	collapser *collapser
	grants    map[string]*Grant
	withheld  []Withheld
	listed    []listing // directories that were listed, before it is known what is granted

	socketsGranted bool
	tmpKept        bool // the program has left something directly in what would be private
	privateTmp     bool // the program gets a /tmp of its own
}

// addInterpreters adds what the kernel opens when a program is executed, without a call
// that could be observed: the interpreter of a script, the loader.
func (b *builder) addInterpreters(paths map[string]*use) {
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		u := paths[name]
		if u.need&NeedExecute == 0 {
			continue
		}
		for i, executed := range closure.Executes(name) {
			if i == 0 { // itself
				continue
			}
			if paths[executed.File] == nil {
				paths[executed.File] = &use{}
			}
			paths[executed.File].add(NeedExecute|NeedRead, u.count, u.by...)
		}
	}
}

const changes = NeedWrite | NeedMake

// entries replaces the right to make names in the home directory, or in one of the
// directories in it where each program has an entry, by rights on what the program made
// there, if that is still there: the next run finds it.
func (b *builder) entries(r *Recorder) map[string]*use {
	paths := maps.Clone(r.paths)
	for dir, u := range r.paths {
		if u.need&NeedMake == 0 || !b.collapser.shared(dir) {
			continue
		}
		gone := r.replaced[dir]
		for name := range r.made {
			if path.Dir(name) != dir {
				continue
			}
			st, err := b.options.lstat(name)
			if err != nil || !st.IsDir() && !st.Mode().IsRegular() {
				gone = true
				continue
			}
			need := NeedRead | NeedWrite
			if st.IsDir() {
				need |= NeedMake
			}
			made := paths[name]
			if made == nil {
				made = &use{}
				paths[name] = made
			}
			made.add(need, u.count, u.by...)
		}
		if !gone {
			paths[dir] = &use{need: u.need &^ NeedMake, count: u.count, by: u.by}
			if paths[dir].need == 0 {
				delete(paths, dir)
			}
		}
	}
	return paths
}

// lstat is that of the options, or os.Lstat.
func (o *Options) lstat(name string) (os.FileInfo, error) {
	if o.Lstat != nil {
		return o.Lstat(name)
	}
	return os.Lstat(name)
}

// path decides about one path.
func (b *builder) path(name string, u *use) {
	c := b.collapser
	if c.supervised(name) || b.options.Base.gives(name, u.need) {
		return
	}
	entry := Withheld{Path: name, Need: u.need, Programs: u.by, Count: u.count}
	if why := b.refusal(name, u.need); why != "" && !b.options.Secrets {
		entry.Why = why
		b.withheld = append(b.withheld, entry)
		return
	}
	if u.need == NeedList && !c.listable(name) {
		b.listed = append(b.listed, listing{name, u})
		return
	}
	if b.ownTmp(name, u.need) {
		b.privateTmp = true
		return
	}
	if u.need&^NeedList == NeedMake {
		if wide := b.tooWide(name); wide != "" {
			entry.Why = wide
			b.withheld = append(b.withheld, entry)
			return
		}
	}
	written := u.need&changes != 0
	directory := u.need&(NeedList|NeedMake) != 0
	t := c.of(name, directory, written)
	if !b.options.Secrets && !c.clear(t.path, written) {
		t.path = name
		if !c.clear(name, written) {
			entry.Why = "a rule would also open what is secret, or what is run outside, below it"
			b.withheld = append(b.withheld, entry)
			return
		}
	}
	b.grant(t, u)
}

// refusal is why a use is not granted; "": it is.
func (b *builder) refusal(name string, need Need) string {
	within := func(places []policy.Sensitive) string {
		for _, s := range places {
			if abspath.Within(s.Path, name) {
				return s.What
			}
		}
		return ""
	}
	c := b.collapser
	if need&changes != 0 && c.inSystem(name) {
		return "the system would be changed"
	}
	if what := within(c.secretsIn(name)); what != "" {
		return what
	}
	if need&changes != 0 {
		if what := within(policy.StartupPlaces(name, c.facts)); what != "" {
			return what
		}
	}
	return ""
}

// tooWide is why names in a directory cannot be made: the rule would open all below it.
func (b *builder) tooWide(dir string) string {
	p := b.options.Places
	switch {
	case dir == "/" || abspath.Within(dir, p.Home) && dir != p.Dir:
		return "names are made directly in it, and a rule would open all that it holds"
	case b.collapser.inSystem(dir):
		return "the system would be changed"
	}
	return ""
}

// keeps reports whether a name that the program made directly in one of the directories is still there.
func (b *builder) keeps(r *Recorder, dirs ...string) bool {
	for name := range r.made {
		if slices.Contains(dirs, path.Dir(name)) {
			if _, err := b.options.lstat(name); err == nil {
				return true
			}
		}
	}
	return false
}

// ownTmp reports whether an empty /tmp of the sandbox's own does instead of a rule: names
// are made in it for this run only, and a rule on it would open the home directory below it.
// A policy that exists is only added to, so it has to have one already.
func (b *builder) ownTmp(name string, need Need) bool {
	const tmp = "/tmp"
	p, base := b.options.Places, b.options.Base
	if b.options.NoView || name != tmp || need&changes == 0 || b.tmpKept || p.Dir == tmp || p.Home == tmp ||
		!abspath.Within(tmp, p.Home) {
		return false
	}
	return base == nil || base.extends != nil || base.policy.Paths.Tmp == policy.TmpPrivate
}

func (b *builder) grant(t target, u *use) {
	rights := rightsOf(u.need | NeedRead)
	if t.group == groupSystem {
		rights |= policy.MayExecute
	}
	b.add(t, rights, u.count, u.by)
}

// add adds to the grant of a target, which it makes if there is none.
func (b *builder) add(t target, rights policy.Rights, count int, programs []string) {
	g := b.grants[t.path]
	if g == nil {
		g = &Grant{Path: t.path, group: t.group}
		b.grants[t.path] = g
	}
	g.Rights |= rights
	g.add(count, programs)
}

func (g *Grant) add(count int, programs []string) {
	sum := use{by: g.Programs}
	sum.add(0, count, programs...)
	g.Count, g.Programs = g.Count+count, sum.by
}

// siblings is from how many granted entries on a directory is granted as a whole.
const siblings = 4

// mergeSiblings grants a directory where many of its entries would be.
func (b *builder) mergeSiblings() {
	for again := true; again; {
		again = false
		entries := map[string][]string{}
		for _, name := range slices.Sorted(maps.Keys(b.grants)) {
			dir := path.Dir(name)
			entries[dir] = append(entries[dir], name)
		}
		for _, dir := range slices.Sorted(maps.Keys(entries)) {
			if len(entries[dir]) < siblings || !b.mergeable(dir, entries[dir]) {
				continue
			}
			for _, name := range entries[dir] {
				g := b.grants[name]
				delete(b.grants, name)
				b.add(target{dir, g.group}, g.Rights, g.Count, g.Programs)
			}
			again = true
		}
	}
}

// mergeable reports whether a directory can be granted whole.
func (b *builder) mergeable(dir string, entries []string) bool {
	p := b.options.Places
	if strings.Count(dir, "/") < 2 || abspath.Within(dir, p.Home) {
		return false
	}
	var rights policy.Rights
	for _, name := range entries {
		rights |= b.grants[name].Rights
	}
	return b.collapser.clear(dir, rights&policy.MayWrite != 0)
}

// dropCovered removes grants that give nothing that one above does not give, and those below
// one that can be written, which gets their rights. A rule on what the program can replace
// would apply to another file in the next run: to whatever a symbolic link of that name leads
// to. It gains nothing by the wider rule: what it may execute or write there it can put there.
// That of the working directory stays: elsewhere it lies in another one.
func (b *builder) dropCovered() {
	for _, name := range slices.Sorted(maps.Keys(b.grants)) {
		g := b.grants[name]
		if g.group == groupProject {
			continue
		}
		b.addBaseAbove(name, g)
		for up := path.Dir(name); name != "/"; up = path.Dir(up) {
			above := b.grants[up]
			if above != nil && (above.Rights&policy.MayWrite != 0 || above.Rights&g.Rights == g.Rights) {
				above.Rights |= g.Rights
				above.add(g.Count, g.Programs)
				delete(b.grants, name)
				break
			}
			if up == "/" {
				break
			}
		}
	}
	maps.DeleteFunc(b.grants, func(_ string, g *Grant) bool { return g.Count == 0 }) // the base has them
}

// Writes reports whether a file can be changed under the policy. The name is absolute.
func (p *Proposal) Writes(name string) bool {
	if real, err := filepath.EvalSymlinks(name); err == nil {
		name = real
	}
	return p.base.rights(name)&policy.MayWrite != 0 || slices.ContainsFunc(p.Grants, func(g Grant) bool {
		return g.Rights&policy.MayWrite != 0 && abspath.Within(g.Path, name)
	})
}

// listing is a directory of which only the names were read.
type listing struct {
	path string
	use  *use
}

// grantListings grants the list of directories that no grant holds. It opens the names of
// what is below, too, and no file.
func (b *builder) grantListings() {
	for _, l := range b.listed {
		held := false
		for name, g := range b.grants {
			if abspath.Within(name, l.path) {
				held = true
				g.add(l.use.count, l.use.by)
				break
			}
		}
		if !held {
			b.add(target{l.path, groupListed}, policy.MayList, l.use.count, l.use.by)
		}
	}
}

// managerSockets are those that a service logs to and notifies its manager by.
var managerSockets = []string{"/run/systemd/notify", "/run/systemd/journal", "/dev/log"}

// sockets decides about UNIX sockets outside.
func (b *builder) sockets(r *Recorder) {
	for _, name := range slices.Sorted(maps.Keys(r.sockets)) {
		u := r.sockets[name]
		if b.options.Secrets || strings.HasPrefix(name, "@") && r.own[name] {
			b.socketsGranted = true
			continue
		}
		if b.options.Service && slices.ContainsFunc(managerSockets, func(place string) bool {
			return abspath.Within(place, name)
		}) {
			b.socketsGranted = true
			continue
		}
		why := "a UNIX socket: whoever listens acts outside the sandbox"
		if known := policy.ControlSockets(name, b.collapser.facts); len(known) > 0 {
			why = "a UNIX socket that controls " + known[0].What
		}
		b.withheld = append(b.withheld, Withheld{Path: name, Need: u.need, Programs: u.by, Count: u.count, Why: why})
	}
}

// holds reports whether a grant is on a path, or above it.
func (b *builder) holds(name string) bool {
	for granted := range b.grants {
		if abspath.Within(granted, name) {
			return true
		}
	}
	return false
}

// unseen are the paths that were looked at and that no rule shows. The directories on the way
// to a rule exist in a private view.
func (b *builder) unseen(uses map[string]*use) []Withheld {
	return slices.DeleteFunc(b.missed(uses), func(w Withheld) bool {
		for _, g := range b.grants {
			if abspath.Within(w.Path, g.Path) || abspath.Within(g.Path, w.Path) {
				return true
			}
		}
		return false
	})
}

// missed are the paths that were looked for and do not exist, where neither the proposal
// nor the base would open them once they do.
func (b *builder) missed(uses map[string]*use) []Withheld {
	var missed []Withheld
	for _, name := range slices.Sorted(maps.Keys(uses)) {
		held := b.collapser.supervised(name) || b.options.Base.gives(name, NeedRead)
		for _, g := range b.grants {
			held = held || g.Rights != policy.MayList && abspath.Within(g.Path, name)
		}
		if u := uses[name]; !held {
			missed = append(missed, Withheld{Path: name, Need: NeedRead, Programs: u.by, Count: u.count})
		}
	}
	return missed
}
