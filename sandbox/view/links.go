package view

import (
	"os"
	"path"
	"strings"

	"github.com/memjail/memjail/policy/abspath"
	"golang.org/x/sys/unix"
)

// skeletonLinks adds the links in the directories that lead to mounts, if they lead to
// something in the view: where /usr is granted, /bin and /lib64 are such links.
func (b *planner) skeletonLinks() {
	p := b.plan
	if p.whole {
		return
	}
	l := linkFinder{plan: p, dirs: p.skeletonDirs(), links: map[string]string{}}
	for dir := range l.dirs {
		l.read(dir)
	}
	for link := range l.links {
		if !l.mayLead(link, 0) {
			continue
		}
		var way walker
		if place, _, err := way.look(link); err != nil || !p.Shows(place) && !l.dirs[place] {
			continue
		}
		for at, text := range way.links {
			if p.on(at) == nil {
				p.links[at] = text
			}
		}
	}
}

// skeletonDirs are the directories that lead to mounts, and to links on the way to them.
func (p *Plan) skeletonDirs() map[string]bool {
	dirs := map[string]bool{"/": true}
	above := func(place string) {
		for up := place; up != "/"; {
			up = abspath.Parent(up)
			if dirs[up] || p.on(up) != nil {
				return
			}
			dirs[up] = true
		}
	}
	for i := range p.Mounts {
		above(p.Mounts[i].Place)
	}
	for link := range p.links {
		above(link)
	}
	return dirs
}

// linkFinder finds the links that lead to something in a view. A directory of libraries has
// thousands, most of which lead to nothing that is granted; those are recognised by what they
// say, without looking at where that is.
type linkFinder struct {
	plan  *Plan
	dirs  map[string]bool
	links map[string]string // by their places, with the place that they name
}

// read reads the links in a directory; there are none if it cannot be listed.
func (l *linkFinder) read(dir string) {
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	list, _ := f.ReadDir(-1) // what was read before an error counts
	text := make([]byte, unix.PathMax)
	for _, e := range list {
		if e.Type()&os.ModeSymlink == 0 {
			continue
		}
		n, err := unix.Readlinkat(int(f.Fd()), e.Name(), text)
		if err != nil {
			continue
		}
		target := string(text[:n])
		if !strings.HasPrefix(target, "/") {
			target = dir + "/" + target
		}
		l.links[abspath.Join(dir, e.Name())] = path.Clean(target)
	}
}

// mayLead reports whether a place is in the view, or leads there by links that were read.
func (l *linkFinder) mayLead(place string, followed int) bool {
	if target, ok := l.links[place]; ok {
		return followed < mostLinks && l.mayLead(target, followed+1)
	}
	if l.dirs[place] || l.plan.Shows(place) {
		return true
	}
	for up := place; up != "/"; {
		up = abspath.Parent(up)
		if target, ok := l.links[up]; ok {
			return followed < mostLinks && l.mayLead(abspath.Join(target, abspath.Relative(up, place)), followed+1)
		}
	}
	return false
}
