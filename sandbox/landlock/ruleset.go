package landlock

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/memjail/memjail/policy/abspath"
	llsys "github.com/memjail/memjail/sandbox/kernel/landlockabi"
	"golang.org/x/sys/unix"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
)

// Request is the input of a plan.
type Request struct {
	Policy policy.Policy
	// ABI is the ABI to use; it may be lower than the kernel's.
	ABI    ABI
	Mounts *MountTable
	// Privileged: the sandbox can act as more than an ordinary user, because one of its
	// user IDs is 0 or it has or can get a capability. Path rules open files of sysfs for
	// writing only where it is not set.
	Privileged bool
	// WorkDirs are directories in which programs usually create files (working directory,
	// home, /tmp). A warning names those that are carved.
	WorkDirs []string
	// Covered are the elements of paths.deny that mounts of the sandbox's own cover, with the
	// places of the covers. An element that needs no cover has the empty place, a cover that is
	// there for another reason the empty rule.
	Covered []DeniedPlace
	// Held are the files behind descriptors that the sandbox is started with.
	Held []HeldFile
	// CodeAliases are other paths to the program directories that the mount table does not
	// show: see [MountTable.CodeAliases].
	CodeAliases []string
}

// HeldFile is an open regular file or FIFO, with the rights of the descriptor.
type HeldFile struct {
	FD     int
	Rights Rights
}

// ClosedFile is a held file in a program directory, in sysfs or in a cgroup file system.
type ClosedFile struct {
	FD     int
	Path   string
	System bool // in sysfs or a cgroup file system
}

// Rule grants Rights on a file, or on a directory and everything below.
type Rule struct {
	Path   string // for messages; the kernel uses FD
	FD     int    // opened with O_PATH, owned by the plan
	Rights Rights
	Why    string
}

// Carved is a directory whose entries are granted one by one.
type Carved struct {
	Path  string
	Cause string // the object below that may not be granted

	inode   inode
	unusual bool // carved only on some systems
}

// Plan is everything a ruleset needs, decided and opened.
type Plan struct {
	ABI     ABI
	Handled Rights
	Scoped  uint64 // LANDLOCK_SCOPE_* bits
	Net     uint64 // LANDLOCK_ACCESS_NET_* bits that are handled
	Ports   []PortRule
	Rules   []Rule
	Carved  []Carved
	// Warnings are single lines for the user.
	Warnings []string
	// Hidden are mount points of special file systems outside their fixed
	// places, which a private mount namespace could cover.
	Hidden []string
	// Closed are those of [Request.Held] that are open for writing although the sandbox may
	// not open them so whatever the path rules are.
	Closed []ClosedFile
	// Denied are the places that paths.deny closes.
	Denied []DeniedPlace
	// Listed are directories that no rule lets be listed, because of a denied directory
	// below them, although the policy grants it: a supervisor can let them be listed alone.
	Listed map[string]kernel.FileID

	held []int // the descriptors of the rules, each once
}

// RuleError reports why a path of the policy cannot be granted. Err, where there is
// one, carries the errno; Reason is what can be done about it then, or empty.
type RuleError struct {
	Path   string
	Reason string
	Err    error
}

func (e *RuleError) Error() string {
	switch {
	case e.Err == nil:
		return fmt.Sprintf("granting %q: %s", e.Path, e.Reason)
	case e.Reason != "":
		return fmt.Sprintf("granting %q: %v (%s)", e.Path, e.Err, e.Reason)
	}
	return fmt.Sprintf("granting %q: %v", e.Path, e.Err)
}

func (e *RuleError) Unwrap() error { return e.Err }

// NewPlan decides what is granted and opens all of it. The descriptors are held from the
// examination of each object until [Plan.Close]. Errors: an [*ABIError] if the kernel has no
// Landlock or less than the policy's min-abi; a [*RuleError] for a path that is missing (and
// not optional), that is a FIFO, a socket or a device, or that lies on a file system that is
// never granted. Rules of [network] that the ABI cannot enforce are left out: see
// [NetworkABI].
func NewPlan(r Request) (*Plan, error) {
	if need := max(1, r.Policy.MinABI); r.ABI.Version < need {
		err := &ABIError{Need: need, Have: r.ABI.Version}
		if r.Policy.MinABI > 1 {
			return nil, fmt.Errorf("min-abi = %d (%s): %w", r.Policy.MinABI, r.Policy.Origins.Of("min-abi", ""), err)
		}
		return nil, err
	}
	var notes []string
	for {
		p, err := newPlan(r)
		var denied *DenyError
		if !errors.As(err, &denied) || !denied.missing || !denied.writable {
			if p != nil {
				p.Warnings = append(p.Warnings, notes...)
			}
			return p, err
		}
		if r.Policy.Origin("paths.deny", denied.Path).Kind != policy.OriginBuiltin { // whose comments say so
			notes = append(notes, fmt.Sprintf("%s does not exist, so it is not denied, even if it is made",
				denied.Path))
		}
		r.Policy = r.Policy.Clone()
		r.Policy.Paths.Deny = slices.DeleteFunc(r.Policy.Paths.Deny,
			func(d policy.DeniedPath) bool { return d.Path == denied.Path })
	}
}

// usualRules is about as many as root gets, who has more than others.
const usualRules = 160

// newPlan makes the plan. A [*DenyError] about a path that may be missing, and could be made
// inside, is about one that is to be left out.
func newPlan(r Request) (*Plan, error) {
	p := &Plan{ABI: r.ABI, Handled: r.ABI.FS, Rules: make([]Rule, 0, usualRules), held: make([]int, 0, usualRules)}
	if r.Policy.IPC.Signals == policy.ScopeSandbox {
		p.Scoped |= llsys.ScopeSignal & r.ABI.Scoped
	}
	if r.Policy.IPC.AbstractSockets == policy.ScopeSandbox || r.Policy.Network.Unix.Restricted() {
		p.Scoped |= llsys.ScopeAbstractUnixSocket & r.ABI.Scoped
	}
	p.network(r.Policy.Network)
	for _, m := range HiddenMounts(r.Mounts) {
		p.Hidden = append(p.Hidden, m.Point)
	}
	if err := p.fill(r); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	p.warnMissing(r)
	return p, nil
}

func (p *Plan) fill(r Request) error {
	o := carveOptions{access: r.Policy.Memory.Access, handle: p.Handled}
	var lost error
	resolve := func(path string) (string, bool) { return resolveKnown(path, &lost) }
	o.resolve = resolve
	if r.Policy.Memory.CodeFiles == policy.CodeFilesProtect {
		o.code, o.shown = codeRoots(resolve, &lost), r.CodeAliases
		o.names = writableDirs(nameRoots, r.Privileged, resolve)
		p.warnLayers(r.Mounts, o.code)
	}
	if o.access != policy.AccessAllow {
		swap, err := swapFiles()
		if err != nil {
			return err
		}
		o.swap = swap
	}
	if err := p.deny(r, &o); err != nil {
		return err
	}
	carving := r.Mounts.carve(o)
	if lost != nil { // what could not be examined would be unprotected
		return lost
	}
	w, err := newWalker(p, r.Mounts, carving)
	if w != nil {
		defer w.finish()
	}
	if err != nil {
		return err
	}
	w.privileged, w.known = r.Privileged, r.WorkDirs
	if r.Policy.Network.Unix.Restricted() {
		w.reserved = ResolveUnix
	}
	if r.Policy.Paths.Rules.Restricted() {
		err = w.grantPaths(r.Policy)
		w.noteClosed(r.Held)
		err = errors.Join(err, w.grantHeld(r.Held))
	} else {
		w.grantAll()
		w.noteClosed(r.Held)
	}
	if err == nil {
		err = w.grantNamedDevices(r.Policy)
	}
	if err == nil {
		err = w.grantSockets(r.Policy)
	}
	if err != nil {
		return err
	}
	p.warnWorkDirs(r.WorkDirs)
	w.noteDenied()
	return w.verify()
}

// writableDirs returns the directories in which this process can change names, or could if
// it is privileged. The others are not carved, because that takes a rule for each sibling.
func writableDirs(dirs []string, privileged bool, resolve func(string) (string, bool)) []string {
	var found []string
	for _, dir := range dirs {
		path, ok := resolve(dir)
		if ok && (privileged || unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS) == nil) {
			found = append(found, path)
		}
	}
	return found
}

// grantAll grants everything as usual, for a policy without path rules.
func (w *walker) grantAll() {
	// Outside the directories of devices no device node may be controlled (ioctl(2)),
	// whatever driver it is for.
	full := w.plan.Handled &^ makeNode &^ IoctlDev &^ w.reserved
	w.why = "everything as usual"
	w.grant(w.root, full, 0)
	have := ReadDir
	if w.carve.denies { // nothing may be granted on the root
		w.grantListing()
		have = 0
	}
	w.grantReexposed(full, have)
	w.grantQueues(full)
}

// grantQueues grants POSIX message queues: mq_open(2) opens files of an internal mount of
// the kernel, so only a rule on the root directory of their file system covers them, through
// whatever mount. Where it is not mounted, it is mounted detached for the rule, which takes
// CAP_SYS_ADMIN; without that the queues stay closed.
func (w *walker) grantQueues(want Rights) {
	mounted := false
	for i := range w.table.mounts {
		if m := &w.table.mounts[i]; m.FSType != "mqueue" || !w.table.visible(m) {
			continue
		} else if n := w.at(m.Point); n != nil {
			mounted = true
			if !n.ruled && !n.special {
				w.emit(n, want, 0, "message queues")
			}
		}
	}
	if mounted {
		return
	}
	fs, err := unix.Fsopen("mqueue", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return
	}
	defer unix.Close(fs)
	if unix.FsconfigCreate(fs) != nil {
		return
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return
	}
	n := &node{fd: fd, path: "mqueue"}
	if w.inspect(n, nil) == nil && !n.special {
		w.emit(n, want, 0, "message queues")
	}
	w.release(n)
}

func (w *walker) grantReexposed(want, have Rights) {
	for _, path := range w.carve.reexposed {
		if n := w.at(path); n != nil {
			w.grant(n, want, have)
		}
	}
}

// grantPaths grants the path rules, the basic devices, and of procfs what the policy opens.
func (w *walker) grantPaths(p policy.Policy) error {
	write := (readRights | writeRights | IoctlDev | ResolveUnix) &^ w.reserved
	for _, r := range p.Paths.Rules.List() {
		want := readRights
		if r.Rights == policy.MayList {
			want = ReadDir
		}
		if r.Rights&policy.MayWrite != 0 {
			want |= write
		}
		if r.Rights&policy.MayExecute != 0 {
			want |= Execute
		}
		w.why = r.Key()
		if err := w.grantPath(r.Path, want, r.Optional); err != nil {
			return err
		}
	}
	w.why, w.rw = "basic devices", ""
	for _, name := range basicDevices {
		if n := w.at("/dev/" + name); n != nil && n.mode&unix.S_IFMT == unix.S_IFCHR {
			w.grantFile(n, nodeRights, 0, w.why)
		}
	}
	if n := w.at("/dev/pts"); n != nil {
		w.grant(n, write, 0)
	}
	if p.Memory.Access != policy.AccessDeny {
		w.why = "memory.access"
		if n := w.at("/proc"); n != nil {
			w.grant(n, w.plan.Handled&^makeNode&^w.reserved, 0)
		}
	}
	w.grantListing()
	if p.Procfs.System == policy.SystemRead {
		w.why = "procfs.system"
		w.grantReexposed(readRights, 0)
	}
	return nil
}

// grantListing lets the directories of procfs be listed, which without path rules follows
// from the right on /. Programs that read their own descriptors or look for processes begin
// there. The files stay closed. The rule is on the root of the file system, an inode that
// the kernel keeps.
func (w *walker) grantListing() {
	if n := w.at("/proc"); n != nil && n.special {
		w.emit(n, ReadDir, 0, "listing procfs")
	}
}

// grantHeld lets the files behind inherited descriptors be opened again, through /dev/stdout
// for example, with the rights that the descriptor has. A process that has a file open for
// writing can truncate it and write anywhere in it; O_APPEND does not prevent that, because
// fcntl(2) clears it.
func (w *walker) grantHeld(files []HeldFile) error {
	for _, f := range files {
		fd, err := unix.FcntlInt(uintptr(f.FD), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("holding descriptor %d: %w", f.FD, err)
		}
		n := &node{fd: fd}
		if n.path, err = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil {
			err = w.inspect(n, nil)
		}
		if ceiling := w.ceilings[n.inode]; err == nil && !n.special && ceiling == nil {
			w.emit(n, f.Rights&(ReadFile|WriteFile|Truncate), 0, fmt.Sprintf("descriptor %d", f.FD))
		}
		w.release(n)
		if err != nil {
			return fmt.Errorf("looking at descriptor %d: %w", f.FD, err)
		}
	}
	return nil
}

// noteClosed notes the files that are held open for writing where nothing granted so far can
// be opened so: what the kernel or other programs run could be changed there.
func (w *walker) noteClosed(files []HeldFile) {
	for _, f := range files {
		if f.Rights&WriteFile != 0 {
			w.noteIfClosed(f.FD)
		}
	}
}

// noteIfClosed is [walker.noteClosed] for one file. A path that does not lead to the file,
// such as one of another mount namespace, shows nothing.
func (w *walker) noteIfClosed(fd int) {
	var held, named unix.Stat_t
	var fs unix.Statfs_t
	name, err := nameOf(fd)
	if err != nil || unix.Fstat(fd, &held) != nil || unix.Fstatfs(fd, &fs) != nil {
		return
	}
	removed := held.Nlink == 0
	if !removed && (unix.Lstat(name, &named) != nil || named.Dev != held.Dev || named.Ino != held.Ino) {
		return
	}
	for _, r := range w.plan.Rules {
		if r.Rights&WriteFile != 0 && abspath.Within(r.Path, name) {
			return
		}
	}
	magic := uint32(fs.Type) //nolint:unconvert // its width differs between architectures
	system := magic == unix.SYSFS_MAGIC || magic == unix.CGROUP_SUPER_MAGIC || magic == unix.CGROUP2_SUPER_MAGIC
	for _, o := range w.carve.enclosing(name) {
		if system || o.kind == limited && !o.ceiling.has(WriteFile) {
			w.plan.Closed = append(w.plan.Closed, ClosedFile{FD: fd, Path: name, System: system})
			return
		}
	}
}

// grantPath grants one path of the policy. It is resolved once, with symbolic links; after
// that the descriptor is used and not the name.
func (w *walker) grantPath(path string, want Rights, optional bool) error {
	fd, err := openat(unix.AT_FDCWD, path, unix.O_PATH|unix.O_CLOEXEC)
	// What this user cannot reach is as good as missing: in another user's home directory, say,
	// that HOME has been left at.
	if optional && (absent(err) || err == unix.EACCES) {
		return nil
	}
	if err != nil {
		return openError(path, err)
	}
	n := &node{fd: fd}
	defer func() { w.release(n) }()
	if n.path, err = pathOf(fd); err == nil {
		err = w.inspect(n, nil)
	}
	if err != nil {
		return &RuleError{Path: path, Err: err}
	}
	if n.mode&unix.S_IFMT == unix.S_IFCHR && grantable(n.rdev) && !n.special {
		// A harmless device. Other launchers need a rule for it, so policies may have one.
		w.emit(n, nodeRights, 0, w.why)
		return nil
	}
	if reason := unfit(n); reason != "" {
		return &RuleError{Path: path, Reason: reason}
	}
	if want == ReadDir && n.mode&unix.S_IFMT != unix.S_IFDIR {
		return &RuleError{Path: path, Reason: "it is not a directory, so it cannot be listed"}
	}
	w.rw = ""
	if want.has(WriteFile) {
		w.rw = n.path
	}
	return w.grantNamed(n, path, want)
}

// absent reports whether an error of open(2) means that the path does not exist. Unlike
// [missing] it is false for a path that cannot be reached.
func absent(err error) bool { return err == unix.ENOENT || err == unix.ENOTDIR }

// openError returns the error for a path of a rule or device that cannot be opened.
func openError(path string, err error) error {
	e := &RuleError{Path: path, Err: err}
	if absent(err) {
		e.Reason = fmt.Sprintf("write %q if it may be missing", "?"+path)
	}
	return e
}

// unfit returns why a path of the policy cannot have a rule, or "".
func unfit(n *node) string {
	if n.special {
		return "it lies on procfs or another file system that is never granted as a path: see [procfs] and " +
			"memory.access"
	}
	switch n.mode & unix.S_IFMT {
	case unix.S_IFDIR, unix.S_IFREG:
		return ""
	case unix.S_IFCHR, unix.S_IFBLK:
		return "it is a device: name it in devices"
	case unix.S_IFIFO:
		return "it is a FIFO: name its directory"
	case unix.S_IFSOCK:
		return "it is a socket: name its directory"
	}
	return "it is neither a file nor a directory"
}

// grantNamed grants what a path rule names, within the ceilings of the trees that it is in.
func (w *walker) grantNamed(n *node, path string, want Rights) error {
	defer func() { w.overridden = nil }()
	for _, o := range w.carve.enclosing(n.path) {
		switch {
		case o.denied != nil:
			w.plan.warn("%s grants nothing on %s, which paths.deny closes (%s)", w.why, path, o.denied.rule.Path)
			return nil
		case o.kind == excluded:
			return &RuleError{Path: path, Reason: "it is in " + o.path + ", which is never granted"}
		case o.kind == devices && o.path != n.path:
			w.grantInDevices(n, o, want)
			return nil
		case o.kind == limited && o.system && w.delegable(n.path):
			w.overridden = append(w.overridden, o)
		case o.kind == limited:
			if lost := want & writeRights &^ o.ceiling; lost != 0 {
				w.plan.warn("%s stays read-only although the policy names it writable (%s)", n.path, o.cause)
			}
			want &= o.ceiling
		}
	}
	w.grant(n, want, 0)
	return nil
}

// delegable reports whether a path rule opens files of sysfs or a cgroup file system for
// writing. A rule that names a cgroup delegates it. In cgroup v1 a file of the root names a
// program that the kernel runs, as files of sysfs do, so those are opened only for
// unprivileged users: there the file's mode decides, which was set for that user.
func (w *walker) delegable(path string) bool {
	m := w.table.at(path)
	return m != nil && (m.FSType == "cgroup2" || !w.privileged)
}

// grantInDevices grants a directory that a path rule names below /dev: as a whole if it is
// one of wholeDeviceDirs, otherwise its devices.
func (w *walker) grantInDevices(n *node, o *object, want Rights) {
	below := abspath.Relative(o.path, n.path)
	for _, whole := range wholeDeviceDirs {
		if abspath.Within("/"+whole, "/"+below) {
			w.grant(n, want, 0)
			return
		}
	}
	w.grantDevices(n, below, want, 0)
}

// grantNamedDevices grants the device nodes that the policy names, and the
// terminal that the sandbox is started on.
func (w *walker) grantNamedDevices(p policy.Policy) error {
	for _, d := range p.Devices {
		fd, err := openat(unix.AT_FDCWD, d.Path, unix.O_PATH|unix.O_CLOEXEC)
		if d.Optional && (absent(err) || err == unix.EACCES) {
			continue
		}
		if err != nil {
			return openError(d.Path, err)
		}
		n := &node{fd: fd, path: d.Path}
		err = w.inspect(n, nil)
		kind := n.mode & unix.S_IFMT
		if err == nil && !n.special && (kind == unix.S_IFCHR || kind == unix.S_IFBLK) {
			w.emit(n, nodeRights, 0, "devices")
			continue
		}
		w.release(n)
		if err != nil {
			return &RuleError{Path: d.Path, Err: err}
		}
		return &RuleError{Path: d.Path, Reason: "it is not a device node"}
	}
	for _, t := range startTerminals() {
		n := w.at(t.path)
		if n != nil && n.mode&unix.S_IFMT == unix.S_IFCHR && n.rdev == t.rdev && !n.special {
			w.emit(n, nodeRights, 0, "terminal")
		}
	}
	return nil
}

// Ruleset creates the ruleset and adds the rules. The descriptor is for
// landlock_restrict_self(2) and is closed on execve(2).
func (p *Plan) Ruleset() (*os.File, error) {
	attr := llsys.RulesetAttr{HandledAccessFS: uint64(p.Handled), HandledAccessNet: p.Net, Scoped: p.Scoped}
	fd, err := llsys.LandlockCreateRuleset(&attr, 0)
	if err != nil {
		return nil, fmt.Errorf("creating a landlock ruleset of ABI %d: %w", p.ABI.Version, err)
	}
	if err := errors.Join(p.addPaths(fd, p.Handled), p.addPorts(fd)); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "landlock ruleset"), nil
}

// addPaths adds what of the rules about paths is among the rights.
func (p *Plan) addPaths(ruleset int, rights Rights) error {
	for i := range p.Rules {
		r := &p.Rules[i]
		rule := llsys.PathBeneathAttr{AllowedAccess: uint64(r.Rights & rights), ParentFd: int32(r.FD)}
		if rule.AllowedAccess == 0 {
			continue
		}
		err := llsys.LandlockAddPathBeneathRule(ruleset, &rule, 0)
		if err == unix.EBADFD {
			continue // a bind mount of an nsfs file or the like, which Landlock does not restrict
		}
		if err != nil {
			return fmt.Errorf("adding the landlock rule %v on %q: %w", r.Rights, r.Path, err)
		}
	}
	return nil
}

// SignalScopeRuleset creates a ruleset that keeps signals inside its domain (ABI 6), and
// otherwise allows what the plan allows. A process in the domain may signal processes in nested
// domains, not the other way round. Every domain refuses renames and links to other directories
// that it does not allow, even if it handles no other right.
func (p *Plan) SignalScopeRuleset() (*os.File, error) {
	attr := llsys.RulesetAttr{HandledAccessFS: uint64(p.Handled & Refer), Scoped: llsys.ScopeSignal}
	fd, err := llsys.LandlockCreateRuleset(&attr, 0)
	if err != nil {
		return nil, fmt.Errorf("creating the landlock ruleset of the guard: %w", err)
	}
	if err := p.addPaths(fd, Refer); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "landlock ruleset of the guard"), nil
}

// Writable returns the paths that the rules let be written, with the IDs of what is there.
func (p *Plan) Writable() (map[string]kernel.FileID, error) {
	places := map[string]kernel.FileID{}
	for i := range p.Rules {
		r := &p.Rules[i]
		if !r.Rights.has(WriteFile) {
			continue
		}
		id, _, err := kernel.Identify(r.FD)
		if err != nil {
			return nil, fmt.Errorf("examining %q, which may be written: %w", r.Path, err)
		}
		places[r.Path] = id
	}
	return places, nil
}

// Close closes the descriptors of the rules. A ruleset that was made before stays valid.
func (p *Plan) Close() error {
	held := p.held
	p.held = nil
	slices.Sort(held)
	for len(held) > 0 {
		run := 1 // descriptors with consecutive numbers, which one call closes
		for run < len(held) && held[run] == held[run-1]+1 {
			run++
		}
		if err := unix.CloseRange(uint(held[0]), uint(held[run-1]), 0); err != nil {
			return closeEach(held)
		}
		held = held[run:]
	}
	return nil
}

// closeEach closes descriptors where close_range(2) is missing (before Linux 5.9) or refused.
func closeEach(held []int) error {
	var errs []error
	for _, fd := range held {
		if err := unix.Close(fd); err != nil {
			errs = append(errs, fmt.Errorf("closing the descriptor of a rule: %w", err))
		}
	}
	return errors.Join(errs...)
}
