package install

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/memjail/memjail/sandbox/capability"
	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// Options are the settings of an installation.
type Options struct {
	// Table lists what of procfs a process may open after it has dropped the capability.
	Table []Row
	// OutsideAll also refuses other processes what the kernel checks by PTRACE_MODE_READ:
	// /proc/PID/fd, maps, environ and so on. stat, status, cmdline and comm stay open.
	OutsideAll bool
	// NoAdministrator refuses memory even to CAP_SYS_PTRACE.
	NoAdministrator bool
	// Prove attacks a process that has dropped the capability and returns an error if an
	// attack succeeds. It is called when the programs are in force.
	Prove func() error
	// Hold starts a process that calls [Hold] with the generation. It returns as soon as
	// that process holds the programs.
	Hold func(generation string) error
}

// Installed is an installation that is in force.
type Installed struct {
	// Generation is the name of these programs with these settings.
	Generation string
	// Missing lists the optional programs that are not in force: what is open without
	// each of them, and the reason.
	Missing []string
	// Replaced lists the earlier generations that were removed.
	Replaced []string
	// Left lists the earlier generations that could not be removed, and why. They stay in
	// force next to the new one, which refuses nothing less.
	Left []string
}

// core are the programs without which nothing is installed.
var core = []string{"inherit", "forget", "control", "execute", "opened", "received", "access", "traceme"}

// optional are the programs that not every kernel has a hook for, with what is open
// without each of them.
var optional = map[string]string{
	"ended":       "users can keep the marks of processes that have ended, until no other process can get one",
	"limit":       "another process of the same user can make a process dump core",
	"dump_socket": "a core handler at a socket (Linux 6.16) receives what coredump_filter selects",
	"perf":        "a process that has dropped the capability can use perf_event_open",
	"bpf_call":    "a process that has dropped the capability can use bpf, within the kernel's other conditions",
	"anonymous":   "a process that has dropped the capability can make a userfaultfd and pass it to a child",
	"unlink":      "root that has dropped the capability can remove the pins",
	"rmdir":       "root that has dropped the capability can remove the directory of the pins",
	"rename":      "root that has dropped the capability can move the pins",
	"umount":      "root that has dropped the capability can unmount the pins",
}

// Install loads the programs, proves them, removes earlier generations, and proves them again
// if there were any. If it fails before that, the kernel is as before. It needs CAP_BPF,
// CAP_PERFMON and CAP_SYS_ADMIN, which
// root has.
//
// Errors: an [*UnsupportedError] if this kernel cannot have the capability.
func Install(o Options) (*Installed, error) {
	if err := supported(); err != nil {
		return nil, err
	}
	if unix.Geteuid() != 0 {
		return nil, fmt.Errorf("root is needed: %w", unix.EPERM)
	}
	table, err := compile(o.Table)
	if err != nil {
		return nil, err
	}
	if err := makeDirectory(); err != nil {
		return nil, err
	}
	unlock, err := lockPins()
	if err != nil {
		return nil, err
	}
	defer unlock()
	before, err := generations()
	if err != nil {
		return nil, err
	}
	i := &Installed{Generation: newGeneration(o, before)}
	l := &loader{options: o, table: table, installed: i, replaces: len(before) > 0}
	defer l.close()
	err = l.load()
	if err == nil {
		err = l.attach()
	}
	if err == nil {
		err = capability.Pause(0) // an uninstallation may have been interrupted
	}
	if err == nil && o.Prove != nil {
		err = o.Prove()
	}
	if err == nil && o.Hold != nil {
		err = o.Hold(i.Generation)
	}
	if err != nil {
		return nil, errors.Join(err, l.undo(len(before) > 0))
	}
	for _, old := range before {
		if err := detach(old); err != nil {
			i.Left = append(i.Left, fmt.Sprintf("%s: %v", old, err))
			continue
		}
		i.Replaced = append(i.Replaced, old)
	}
	if o.Prove != nil && len(i.Replaced) > 0 { // the earlier programs have helped so far
		if err := o.Prove(); err != nil {
			return nil, fmt.Errorf("the new programs are in place of the earlier ones, and fail alone: %w", err)
		}
	}
	return i, nil
}

// newGeneration returns a name for the programs with their settings. The name is new even
// if the same programs are installed: those stay in force until the new ones are, because a
// child that is born while neither is in force stays unmarked for life.
func newGeneration(o Options, before []string) string {
	h := sha256.New()
	h.Write(_ProgramsBytes)
	fmt.Fprintf(h, "%v %v %v", o.Table, o.OutsideAll, o.NoAdministrator)
	base := fmt.Sprintf("%x", h.Sum(nil)[:8])
	name := base
	for n := 2; slices.Contains(before, name); n++ {
		name = fmt.Sprintf("%s-%d", base, n)
	}
	return name
}

// loader is one installation in progress.
type loader struct {
	options   Options
	table     map[fileKey]grant
	installed *Installed
	programs  map[string]*ebpf.Program
	maps      map[string]*ebpf.Map
	hooks     map[string]string // of each program
	links     []*os.File
	pinned    []string // maps
	replaces  bool     // an earlier generation is pinned
}

func (l *loader) close() {
	for _, p := range l.programs {
		p.Close()
	}
	for _, m := range l.maps {
		m.Close()
	}
	for _, k := range l.links {
		k.Close()
	}
}

// undo removes what was installed. The shared maps stay if another generation uses them.
func (l *loader) undo(others bool) error {
	err := removeGeneration(l.installed.Generation)
	if !others {
		for _, name := range l.pinned {
			os.Remove(sharedPin(name))
		}
		os.Remove(directory)
	}
	return err
}

// load loads the programs: the core together, the optional ones one by one.
func (l *loader) load() error {
	spec, err := loadPrograms()
	if err != nil {
		return err
	}
	if err := l.set(spec); err != nil {
		return err
	}
	l.hooks = map[string]string{}
	for name, program := range spec.Programs {
		l.hooks[name] = program.AttachTo
	}
	given, err := takeOver(spec)
	if err == nil && l.replaces && len(given) < len(shared) {
		err = errors.New("programs of an earlier installation are pinned, and their maps are not: " +
			"\"memjail capability uninstall --force\" removes them, and processes that have dropped the " +
			"capability have it again")
	}
	if err != nil {
		return err
	}
	defer func() {
		for _, m := range given {
			m.Close()
		}
	}()
	if len(given) == 0 {
		size, err := mostTasks()
		if err != nil {
			return err
		}
		spec.Maps["marks"].MaxEntries, spec.Maps["supervisors"].MaxEntries = size, size
	}
	collection, err := ebpf.NewCollectionWithOptions(only(spec, core), ebpf.CollectionOptions{MapReplacements: given})
	if err != nil {
		return unsupportedLoad(err)
	}
	l.programs, l.maps = collection.Programs, collection.Maps
	for name := range optional {
		more, err := ebpf.NewCollectionWithOptions(only(spec, []string{name}),
			ebpf.CollectionOptions{MapReplacements: l.maps})
		if err != nil {
			l.missing(name, err)
			continue
		}
		l.programs[name] = more.DetachProgram(name)
		more.Close()
	}
	return l.fill(given)
}

// set writes the settings into the specification; the kernel freezes them.
func (l *loader) set(spec *ebpf.CollectionSpec) error {
	outside, administrator := uint32(0), uint32(1)
	if l.options.OutsideAll {
		outside = 1
	}
	if l.options.NoAdministrator {
		administrator = 0
	}
	return errors.Join(spec.Variables["outside_all"].Set(outside), spec.Variables["administrator"].Set(administrator))
}

// only copies a specification with some of its programs.
func only(spec *ebpf.CollectionSpec, names []string) *ebpf.CollectionSpec {
	spec = spec.Copy()
	for name := range spec.Programs {
		if !slices.Contains(names, name) {
			delete(spec.Programs, name)
		}
	}
	return spec
}

func (l *loader) missing(name string, err error) {
	reason, _, _ := strings.Cut(err.Error(), "\n")
	if errors.Is(err, unix.E2BIG) {
		reason = "too many BPF programs are already attached to the LSM hook " + l.hooks[name]
	}
	l.installed.Missing = append(l.installed.Missing, fmt.Sprintf("%s: %s (%s)", name, optional[name], reason))
	slices.Sort(l.installed.Missing)
}

// fill fills the table of grants and freezes the maps: from then on only the programs can
// write them, whatever capabilities a process has. The maps in given are frozen already.
func (l *loader) fill(given map[string]*ebpf.Map) error {
	for key, value := range l.table {
		if err := l.maps["grants"].Put(key, value); err != nil {
			return fmt.Errorf("filling the table of grants: %w", err)
		}
	}
	for _, name := range append([]string{"grants"}, shared...) {
		if given[name] != nil {
			continue
		}
		if err := l.maps[name].Freeze(); err != nil {
			return fmt.Errorf("freezing the map %q: %w", name, err)
		}
		if name == "grants" {
			continue
		}
		if err := l.maps[name].Pin(sharedPin(name)); err != nil {
			return fmt.Errorf("pinning the map %q: %w", name, err)
		}
		l.pinned = append(l.pinned, name)
	}
	return nil
}

// attach attaches the programs and pins them. control comes last: no process can drop the
// capability before everything else is in force.
func (l *loader) attach() error {
	dir := generationDir(l.installed.Generation)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("making the pins' directory: %w", err)
	}
	order := slices.Clone(core)
	for name := range optional {
		order = append(order, name)
	}
	order = append(slices.DeleteFunc(order, func(n string) bool { return n == "control" }), "control")
	for _, name := range order {
		program := l.programs[name]
		if program == nil {
			continue
		}
		k, err := kernel.AttachLSM(program.FD())
		if err != nil && slices.Contains(core, name) {
			return unsupportedAttach(l.hooks[name], err)
		}
		if err != nil {
			l.missing(name, err)
			continue
		}
		l.links = append(l.links, k)
		if err := kernel.PinBPF(k, dir+"/"+name); err != nil {
			return err
		}
	}
	return nil
}

// mostTasks returns the most threads that the kernel may have at a time, in all. The marks
// have room for that many, so nobody can fill them by starting threads. If root raises the
// limit later, forks of processes that have dropped the capability may fail.
func mostTasks() (uint32, error) {
	const least, most = 1 << 15, 1 << 22 // the kernel's own bound is the latter
	text, err := os.ReadFile("/proc/sys/kernel/threads-max")
	if err != nil {
		return 0, fmt.Errorf("looking up how many threads there can be: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("looking up how many threads there can be: %w", err)
	}
	return uint32(min(max(n, least), most)), nil
}

// frozen returns an error for a map that processes can still write: it is none of ours.
func frozen(m *ebpf.Map) error {
	info, err := m.Info()
	if err == nil && !info.Frozen() {
		err = errors.New("it is not frozen, so memjail has not made it")
	}
	return err
}

// takeOver opens the shared maps of an earlier installation, if there is one.
func takeOver(spec *ebpf.CollectionSpec) (map[string]*ebpf.Map, error) {
	given := map[string]*ebpf.Map{}
	for _, name := range shared {
		m, err := ebpf.LoadPinnedMap(sharedPin(name), nil)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			given[name] = m
			spec.Maps[name].MaxEntries = m.MaxEntries() // the first installation decides
			if err = spec.Maps[name].Compatible(m); err == nil {
				err = frozen(m)
			}
		}
		if err != nil {
			return given, fmt.Errorf("taking over the map %q of an earlier installation: %w", name, err)
		}
	}
	return given, nil
}
