// Package facts answers what [policy.Explain] asks about a system, for the policy of one
// plan.
package facts

import (
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/abspath"
	"github.com/memjail/memjail/sandbox/filter"
	"github.com/memjail/memjail/sandbox/landlock"
	"github.com/memjail/memjail/sandbox/pin"
	"github.com/memjail/memjail/sandbox/specialfs"
	"golang.org/x/sys/unix"
)

// Facts are what [policy.Explain] asks about this system, for the policy of one plan. They
// look at the file system as it is now.
type Facts struct {
	carved   map[string]string
	rules    []Rule  // of the plan itself
	objects  Objects // the same by what they are on, once that is asked
	baseline []Rule
	procfs   func(below string) *policy.ProcfsFile
	// delegable reports that a path rule can open files of sysfs for writing.
	delegable bool
	pinned    *pin.Pinned // nil: the program is not known, or not pinned
	// capability reports that the program drops the memory capability.
	capability bool
	// private reports that the paths are looked at in the sandbox's own view.
	private bool
	// home and runtime are the directories that [Facts.Home] returns.
	home, runtime string
	// denied and listed are as in [Snapshot].
	denied []landlock.DeniedPlace
	listed []string
}

// Rule is a rule of a plan's ruleset. It is no [policy.Rule]: carving makes many of one,
// or one of none, and Landlock's rights tell more apart (truncating, making directories)
// than a policy's.
type Rule struct {
	Path   string
	Rights landlock.Rights
}

// RulesOf returns the rules of a plan.
func RulesOf(p *landlock.Plan) []Rule {
	var rules []Rule
	for _, r := range p.Rules {
		rules = append(rules, Rule{r.Path, r.Rights})
	}
	return rules
}

// Snapshot is facts on the way to another process.
type Snapshot struct {
	// Rules are those of the plan, Baseline those that a policy without path rules would
	// have, which show what is protected whatever the policy grants.
	Rules, Baseline []Rule
	// Carved are the directories that the rules leave a part of out of, with the cause.
	Carved map[string]string
	// Denied are the places that paths.deny closes, Listed the directories that a supervisor
	// lets be listed.
	Denied []landlock.DeniedPlace
	Listed []string
	// Delegable reports that a path rule can open files of sysfs for writing.
	Delegable bool
	// Capability is [policy.Facts]'.
	Capability bool
	// Private is what [Facts.PrivateView] returns.
	Private bool
	// Home and Runtime are what [Facts.Home] returns.
	Home, Runtime string
}

// Snapshot returns what another process has to know.
func (f *Facts) Snapshot() Snapshot {
	return Snapshot{Rules: f.rules, Baseline: f.baseline, Carved: f.carved, Denied: f.denied, Listed: f.listed,
		Delegable: f.delegable, Capability: f.capability, Private: f.private, Home: f.home, Runtime: f.runtime}
}

// Facts returns the facts again; procfs is as for [New].
func (s Snapshot) Facts(procfs func(below string) *policy.ProcfsFile) *Facts {
	return &Facts{carved: s.Carved, rules: s.Rules, baseline: s.Baseline, delegable: s.Delegable,
		capability: s.Capability, private: s.Private, denied: s.Denied, listed: s.Listed, procfs: procfs,
		home: s.Home, runtime: s.Runtime}
}

// View is what of a plan the facts are about.
type View struct {
	Policy policy.Policy
	// Rules is the Landlock part, nil if there is none; Mounts and CodeAliases are what it
	// was made from.
	Rules       *landlock.Plan
	Mounts      *landlock.MountTable
	CodeAliases []string
	// Privileged is what [kernel.Privileged] reports of the process that made the plan.
	Privileged bool
	// Pinned are the files that the program is run from copies of, or nil.
	Pinned *pin.Pinned
	// Capability: the program drops the memory capability.
	Capability bool
	// Private: this process is in the sandbox's own view of the file system.
	Private bool
	// Home and Runtime are what [Facts.Home] returns.
	Home, Runtime string
}

// New looks at the system for a plan, which needs its Landlock part. procfs returns what
// the supervisor's table has for a file, named below the root of procfs; nil is
// "nothing". The error is one of making a second plan, or [*landlock.ABIError].
func New(v View, procfs func(below string) *policy.ProcfsFile) (*Facts, error) {
	if v.Rules == nil {
		return nil, fmt.Errorf("inspecting the system: %w", &landlock.ABIError{Need: 1})
	}
	f := &Facts{carved: map[string]string{}, procfs: procfs, delegable: !v.Privileged, pinned: v.Pinned,
		capability: v.Capability, private: v.Private, denied: v.Rules.Denied,
		listed: slices.Sorted(maps.Keys(v.Rules.Listed)),
		home:   v.Home, runtime: v.Runtime}
	pol := v.Policy.Clone()
	pol.Paths = policy.Paths{}
	pol.Memory.CodeFiles = policy.CodeFilesProtect
	baseline, err := landlock.NewPlan(landlock.Request{Policy: pol, ABI: v.Rules.ABI, Mounts: v.Mounts,
		Privileged: v.Privileged, CodeAliases: v.CodeAliases})
	if err != nil {
		return nil, fmt.Errorf("inspecting the system: %w", err)
	}
	f.baseline, f.rules = RulesOf(baseline), RulesOf(v.Rules)
	for _, c := range v.Rules.Carved {
		f.carved[c.Path] = c.Cause
	}
	return f, baseline.Close()
}

// Capability implements [policy.Facts].
func (f *Facts) Capability() bool { return f.capability }

// PrivateView implements [policy.Facts].
func (f *Facts) PrivateView() bool { return f.private }

// Home implements [policy.Facts].
func (f *Facts) Home() (home, runtime string) { return f.home, f.runtime }

// Denials lists the rows of the filter's table about a call.
func (f *Facts) Denials(call string) []policy.Denial {
	var found []policy.Denial
	for _, d := range filter.Denials() {
		// With the memory capability the kernel refuses to execute a memfd, and no call
		// about memfds is refused.
		if d.Call == call && !(f.capability && d.Key == "memory.anonymous-exec") {
			found = append(found, policy.Denial{Call: d.Call, Condition: d.Condition, Done: d.Errno == 0,
				Reason: d.Reason, Key: d.Key})
		}
	}
	return found
}

// Granted adds up rules as the kernel does: those on the object, and on all
// directories on the way to it.
func (f *Facts) Granted(o policy.Object, need policy.Rights) (rule string) {
	if f.objects == nil {
		f.objects = ByObject(f.rules)
	}
	return f.objects.Granting(o.Path, neededRight(o.Kind, need))
}

func neededRight(kind policy.ObjectKind, need policy.Rights) landlock.Rights {
	makes := kind == policy.KindMissing || kind == policy.KindDirectory
	switch {
	case need == policy.MayExecute:
		return landlock.Execute
	case need == policy.MayWrite && makes:
		return landlock.MakeReg
	case need == policy.MayWrite:
		return landlock.WriteFile
	case kind == policy.KindDirectory:
		return landlock.ReadDir
	}
	return landlock.ReadFile
}

// Look opens what a path leads to, for its identity only, and asks the descriptor.
func (f *Facts) Look(name string) policy.Object {
	o := f.look(name)
	o.Pinned = f.pinning(&o)
	o.Listed = slices.Contains(f.listed, o.Path)
	o.Closed = f.private && o.Kind == policy.KindDirectory &&
		unix.Faccessat(unix.AT_FDCWD, o.Path, unix.R_OK, unix.AT_EACCESS) == unix.EACCES
	for _, d := range f.denied {
		if abspath.Within(d.Path, o.Path) {
			o.Denied = d.Rule
			break
		}
	}
	return o
}

func (f *Facts) look(name string) policy.Object {
	name = path.Clean(name)
	o := policy.Object{Path: name}
	fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		f.missing(&o, mostLinks)
		return o
	}
	defer unix.Close(fd)
	if found, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd)); err == nil && path.IsAbs(found) {
		o.Path = found
	}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return o
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		o.Kind = policy.KindFile
	case unix.S_IFDIR:
		o.Kind = policy.KindDirectory
		o.Carved = f.carved[o.Path]
		o.Terminals = o.Path == "/dev/pts"
	case unix.S_IFCHR, unix.S_IFBLK:
		o.Kind = policy.KindDevice
		o.Device = deviceClass(o.Path, &st)
	default:
		o.Kind = policy.KindOther
	}
	f.fileSystem(&o, fd)
	return o
}

// mostLinks is how many symbolic links the kernel follows in one path.
const mostLinks = 40

// ReadOnly reports whether a path, or the directory of a missing one, is on a mount that is
// read-only.
func ReadOnly(name string) bool {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		fd, err = unix.Open(path.Dir(name), unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st) == nil && st.Flags&unix.ST_RDONLY != 0
}

// missing describes what would be made at a path: in which directory, above all.
// It follows up to so many symbolic links.
func (f *Facts) missing(o *policy.Object, links int) {
	parent := path.Dir(o.Path)
	if parent == o.Path {
		return
	}
	above := f.Look(parent)
	o.Path = path.Join(above.Path, path.Base(o.Path))
	if target, err := os.Readlink(o.Path); err == nil && links > 0 { // it leads to nothing
		if !path.IsAbs(target) {
			target = path.Join(above.Path, target)
		}
		*o = policy.Object{Path: path.Clean(target)}
		f.missing(o, links-1)
		return
	}
	o.Special, o.Code, o.System, o.Delegable = above.Special, above.Code, above.System, above.Delegable
	o.ReadOnly = above.ReadOnly
	if above.Kind == policy.KindDirectory {
		o.Carved = above.Carved
	}
	if o.Code == "" && o.Special == "" && !o.System {
		o.Code = f.code(o.Path)
	}
}

func (f *Facts) fileSystem(o *policy.Object, fd int) {
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil {
		return
	}
	magic := uint32(st.Type)
	o.ReadOnly = f.private && st.Flags&unix.ST_RDONLY != 0
	o.Special = specialfs.OfMagic(magic)
	if (magic == unix.TMPFS_MAGIC || magic == unix.HUGETLBFS_MAGIC) && o.Kind == policy.KindFile &&
		strings.HasPrefix(o.Path, "/memfd:") {
		o.Memfd = true
		return
	}
	// What is mounted over a part of /proc is granted.
	if name, _ := specialfs.At(o.Path); o.Special == "" && name != specialfs.Proc {
		o.Special = name
	}
	if o.Special == specialfs.Proc && o.Kind == policy.KindFile && f.procfs != nil {
		if below, ok := strings.CutPrefix(o.Path, "/proc/"); ok {
			o.Procfs = f.procfs(below)
		}
	}
	cgroup := magic == unix.CGROUP2_SUPER_MAGIC
	o.System = cgroup || magic == unix.CGROUP_SUPER_MAGIC || magic == unix.SYSFS_MAGIC
	o.Delegable = o.System && (cgroup || f.delegable)
	if o.Special == "" && !o.System && o.Kind != policy.KindDevice {
		o.Code = f.code(o.Path)
	}
}

// code names the program directory that a path lies in: the innermost of the
// rules that give the right to run programs, if none gives the right to write.
func (f *Facts) code(name string) string {
	inner := ""
	for _, r := range f.baseline {
		if !abspath.Within(r.Path, name) {
			continue
		}
		switch {
		case r.Rights&landlock.WriteFile != 0:
			return ""
		case r.Rights&landlock.Execute != 0 && len(r.Path) > len(inner):
			inner = r.Path
		}
	}
	return inner
}

// deviceClass returns how a device node is granted, by its number and not its name.
func deviceClass(name string, st *unix.Stat_t) policy.DeviceClass {
	block := st.Mode&unix.S_IFMT == unix.S_IFBLK
	number := uint64(st.Rdev) //nolint:unconvert // its width differs between architectures
	if !landlock.DeviceGranted(number, block, nil) {
		return policy.DeviceUnlisted
	}
	for fd := range 3 {
		var own unix.Stat_t
		if unix.Fstat(fd, &own) == nil && own.Mode&unix.S_IFMT == unix.S_IFCHR && own.Rdev == st.Rdev &&
			unix.Major(number) != 1 {
			return policy.DeviceTerminal
		}
	}
	switch major, minor := unix.Major(number), unix.Minor(number); {
	case major == 1, major == 5 && minor != 1, 136 <= major && major <= 143 && strings.HasPrefix(name, "/dev/pts/"):
		return policy.DeviceBasic
	case major == 4, major == 5, major == 166, major == 188, major == 204, major == 229:
		return policy.DeviceUnlisted // a terminal, and not the one that the sandbox starts on
	}
	return policy.DeviceListed
}
