// Package pin runs a program from a copy that nobody outside can change. The
// program and what it needs to start (package closure) are copied once into
// a file system of the sandbox's own, which then takes the place of the root
// directory: every directory on the way to a pinned file is a private one, with
// everything else of it as before. So neither a write into a file, nor another file
// renamed over it, nor a renamed directory above it is seen inside, and the
// program finds itself and its libraries under the paths that they always had.
//
// docs/pin.md says against whom that holds.
package pin

import (
	"errors"
	"fmt"
	"slices"

	"github.com/memjail/memjail/sandbox/closure"
	"github.com/memjail/memjail/sandbox/landlock"
)

// Options say what to pin.
type Options struct {
	// Program is the absolute path of the program, Env its environment.
	Program string
	Env     []string
	// Sums, if not nil, are what the pinned files have to be.
	Sums *Sums
	// Code are canonical directories in which nothing is written from inside. They
	// may be shown through an overlay, which is read-only.
	Code []string
	// Mounts is the mount table of the calling thread's namespace.
	Mounts *landlock.MountTable
}

// Pinned says what was pinned.
type Pinned struct {
	// Files are canonical paths, sorted.
	Files []string
	// Frozen are the directories on the way to them, sorted: their own entries stay
	// as they are, whatever happens outside or is tried inside.
	Frozen []string
}

// ErrChanged says that files were changed while they were being pinned.
var ErrChanged = errors.New("it was changed while it was copied; start again")

// Enter pins a program and moves the calling thread, and only it, to where the
// copy is. The thread needs CAP_SYS_ADMIN, and a mount namespace of its own whose
// mounts are private. After an error it may be anywhere: it is not to start
// anything. Errors: [*closure.Error], [*MismatchError], [ErrChanged], and those of
// mount(2) and its like. Linux 5.2; an overlay needs the kernel to have overlayfs,
// and where it cannot be made every entry is bound by itself.
func Enter(o Options) (*Pinned, error) {
	l, err := find(o.Program, o.Env)
	if err != nil {
		return nil, err
	}
	t, err := newTree()
	if err != nil {
		return nil, err
	}
	defer t.close()
	if err := t.fill(l); err != nil {
		return nil, err
	}
	if o.Sums != nil {
		got, err := sumAll(l.sortedFiles(), t.open)
		if err != nil {
			return nil, err
		}
		if err := o.Sums.compare(got); err != nil {
			return nil, err
		}
	}
	if err := t.surround(l, o); err != nil {
		return nil, err
	}
	if err := t.enter(); err != nil {
		return nil, err
	}
	return l.verify(o)
}

// verify looks for the closure again, now of the copies: what was found before may
// have been another program's.
func (l *layout) verify(o Options) (*Pinned, error) {
	again, err := find(o.Program, o.Env)
	if err != nil {
		return nil, err
	}
	for _, file := range again.sortedFiles() {
		if !l.files[file] {
			return nil, fmt.Errorf("pinning %q: %w", file, ErrChanged)
		}
	}
	return &Pinned{Files: l.sortedFiles(), Frozen: l.sortedDirs()}, nil
}

// Find says what would be pinned for a program.
func Find(program string, env []string) (*Pinned, error) {
	l, err := find(program, env)
	if err != nil {
		return nil, err
	}
	return &Pinned{Files: l.sortedFiles(), Frozen: l.sortedDirs()}, nil
}

func find(program string, env []string) (*layout, error) {
	needs, err := closure.Of(program, env)
	if err != nil {
		return nil, err
	}
	l := &layout{files: map[string]bool{}, links: map[string]string{}, dirs: map[string]bool{}}
	if len(needs.Uncertain) > 0 {
		return nil, &closure.Error{Path: program, Err: errors.New(needs.Uncertain[0])}
	}
	for _, dir := range needs.Searched {
		if err := l.traceDir(dir); err != nil {
			return nil, fmt.Errorf("opening %q, where its libraries are looked for: %w", dir, err)
		}
	}
	for _, path := range slices.Concat([]string{program}, needs.Run) {
		if err := l.trace(path); err != nil {
			return nil, fmt.Errorf("pinning %q: %w", path, err)
		}
	}
	return l, nil
}
