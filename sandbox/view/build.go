package view

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/memjail/memjail/policy/abspath"
	"golang.org/x/sys/unix"
)

// ErrChanged means that a path leads to something else than when the plan was made.
var ErrChanged = errors.New("it was replaced while the view was made")

// WorkingDirectoryError means that the working directory is not in the view. To start elsewhere
// would have the program's relative paths name other files than its caller meant.
type WorkingDirectoryError struct {
	Path string
	Err  error
}

func (e *WorkingDirectoryError) Error() string {
	return fmt.Sprintf("the working directory %q is not in the private view: change to a directory that the "+
		"policy grants (cd DIR), or grant this one (--rw or --ro .): %v", e.Path, e.Err)
}

func (e *WorkingDirectoryError) Unwrap() error { return e.Err }

// builder carries out a plan.
type builder struct {
	plan *Plan
	// root is the root directory of the view, on which everything is reached.
	root     int
	clones   []int // of plan.Mounts; -1: there is none
	attached []*Mount
}

// Build makes the view and moves this process into it, with the working directory, which must
// be in it. The calling thread is in a mount namespace of its own, whose mounts are private
// ([Unshare]); threads that share its root directory move, too. After an error the process must
// end. Errors: [*PathError], [*WorkingDirectoryError], [ErrChanged] and those of the calls.
func (p *Plan) Build() error {
	wd, err := lookAtWorkingDirectory()
	if err != nil {
		return err
	}
	b := &builder{plan: p, root: -1}
	defer b.close()
	if err := b.clone(); err != nil {
		return err
	}
	if err := b.makeRoot(); err != nil {
		return fmt.Errorf("making the private view: %w", err)
	}
	for i := range p.Mounts {
		if err := b.attach(&p.Mounts[i], b.clones[i]); err != nil {
			return err
		}
	}
	if err := b.makeLinks(); err != nil {
		return err
	}
	for i := range p.Covers {
		if err := b.attach(&p.Covers[i], -1); err != nil {
			return err
		}
	}
	if err := b.enter(); err != nil {
		return fmt.Errorf("entering the private view: %w", err)
	}
	return wd.enter(p)
}

func (b *builder) close() {
	for _, fd := range append(b.clones, b.root) {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// ownAttributes are those of file systems that the view makes.
const ownAttributes = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV

// clone makes the detached copies of what is outside.
func (b *builder) clone() error {
	for i := range b.plan.Mounts {
		m := &b.plan.Mounts[i]
		fd := -1
		if m.Kind == Bind {
			var err error
			if fd, err = cloneOf(m); err != nil {
				return &PathError{Path: m.Source, Err: err}
			}
		}
		b.clones = append(b.clones, fd)
	}
	return nil
}

func cloneOf(m *Mount) (fd int, err error) {
	if fd, err = Clone(unix.AT_FDCWD, m.Source); err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && identify(&st) != m.id {
		err = ErrChanged
	}
	if err == nil && !m.Writable {
		err = makeReadOnly(fd, unix.AT_RECURSIVE, 0)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func makeReadOnly(fd int, flags uint, more uint64) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | more}
	return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|flags, &attr)
}

// makeRoot opens the root directory of the view: the present one where everything exists, and
// otherwise one in memory that covers it, where no path leads to.
func (b *builder) makeRoot() (err error) {
	if !b.plan.whole {
		if b.root, err = NewMount("tmpfs", ownAttributes, [2]string{"mode", "0755"}); err != nil {
			return err
		}
		return CoverRoot(b.root)
	}
	if b.root, err = unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	if b.plan.readOnly {
		return makeReadOnly(b.root, unix.AT_RECURSIVE, 0)
	}
	return nil
}

// attach makes one mount.
func (b *builder) attach(m *Mount, clone int) error {
	fd := clone
	if fd < 0 {
		var err error
		if fd, err = b.make(m); err != nil {
			return &PathError{Path: m.Place, Err: err}
		}
		defer unix.Close(fd)
	}
	place, err := b.ensure(m.Place, m.directory())
	if err != nil {
		return &PathError{Path: m.Place, Err: err}
	}
	defer unix.Close(place)
	err = unix.MoveMount(fd, "", place, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err != nil {
		return &PathError{Path: m.Place, Err: err}
	}
	b.attached = append(b.attached, m)
	return nil
}

// make returns the detached mount of anything but a Bind.
func (b *builder) make(m *Mount) (int, error) {
	switch m.Kind {
	case Empty:
		options := [][2]string{{"mode", strconv.FormatUint(uint64(m.Mode), 8)}}
		if int(m.UID) != unix.Geteuid() || int(m.GID) != unix.Getegid() {
			options = append(options, [2]string{"uid", strconv.Itoa(int(m.UID))},
				[2]string{"gid", strconv.Itoa(int(m.GID))})
		}
		return NewMount("tmpfs", ownAttributes, options...)
	case NoDirectory:
		return NewMount("tmpfs", ownAttributes|unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOEXEC,
			[2]string{"mode", "0"}, [2]string{"size", "4k"})
	case NoFile:
		fd, err := Clone(unix.AT_FDCWD, "/dev/null")
		if err != nil {
			return -1, err
		}
		// A device on such a mount cannot be opened, by root neither.
		if err := makeReadOnly(fd, 0, unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC); err != nil {
			unix.Close(fd)
			return -1, err
		}
		return fd, nil
	case Same:
		at, err := b.open(m.Source)
		if err != nil {
			return -1, err
		}
		defer unix.Close(at)
		return unix.OpenTree(at, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_EMPTY_PATH)
	case Bind:
		return cloneOf(m)
	}
	return -1, unix.EINVAL
}

// open opens a place of the view. A link on the way is an error: who made it is not known.
func (b *builder) open(place string) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_NO_SYMLINKS}
	return unix.Openat2(b.root, Below(place), &how)
}

// ensure opens a place, and makes it and the directories above it where the view has a file
// system of its own.
func (b *builder) ensure(place string, dir bool) (int, error) {
	fd, err := b.open(place)
	if err != unix.ENOENT || !b.fills(place) {
		return fd, err
	}
	parent, err := b.ensure(abspath.Parent(place), true)
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	name := path.Base(place)
	if dir {
		err = unix.Mkdirat(parent, name, 0o755)
		if err == nil { // whatever the umask is
			err = unix.Fchmodat(parent, name, 0o755, 0)
		}
	} else {
		var made int
		if made, err = unix.Openat(parent, name, unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC|unix.O_WRONLY,
			0o444); err == nil {
			unix.Close(made)
		}
	}
	if err != nil {
		return -1, err
	}
	return b.open(place)
}

// fills reports whether a place is in a file system in which the view makes what it needs.
func (b *builder) fills(place string) bool {
	for _, m := range slices.Backward(b.attached) {
		if place != m.Place && abspath.Within(m.Place, place) {
			return m.Fill
		}
	}
	return !b.plan.whole
}

// makeLinks makes the links on the way to what is shown.
func (b *builder) makeLinks() error {
	for place, text := range b.plan.links {
		parent, err := b.ensure(abspath.Parent(place), true)
		if err != nil {
			return &PathError{Path: place, Err: err}
		}
		err = unix.Symlinkat(text, parent, path.Base(place))
		unix.Close(parent)
		if err != nil && err != unix.EEXIST { // in a home directory that was kept
			return &PathError{Path: place, Err: err}
		}
	}
	return nil
}

// enter makes the root directory of the view that of the namespace.
func (b *builder) enter() error {
	if b.plan.whole {
		return nil
	}
	if err := ReplaceRoot(b.root); err != nil {
		return err
	}
	return makeReadOnly(b.root, 0, ownAttributes)
}

// workingDirectory is where this process was before it entered the view.
type workingDirectory struct {
	path string
	id   identity
}

func lookAtWorkingDirectory() (workingDirectory, error) {
	var st unix.Stat_t
	name, err := unix.Getwd()
	if err == nil && !strings.HasPrefix(name, "/") {
		err = unix.ENOENT // unreachable from the root directory, or removed
	}
	if err == nil {
		err = unix.Stat(".", &st)
	}
	if err != nil {
		return workingDirectory{}, &WorkingDirectoryError{name, err}
	}
	return workingDirectory{name, identify(&st)}, nil
}

// enter goes to the working directory in the view. Where the view has a directory of its own,
// that is another one, of the same name.
func (w workingDirectory) enter(p *Plan) error {
	if err := unix.Chdir(w.path); err != nil {
		return &WorkingDirectoryError{w.path, err}
	}
	var st unix.Stat_t
	if err := unix.Stat(".", &st); err != nil {
		return &WorkingDirectoryError{w.path, err}
	}
	if p.Shows(w.path) && identify(&st) != w.id {
		return &WorkingDirectoryError{w.path, ErrChanged}
	}
	return nil
}
