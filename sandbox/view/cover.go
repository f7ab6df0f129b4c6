package view

import (
	"slices"
	"strings"

	"github.com/memjail/memjail/policy/abspath"
)

// Cover has the view cover a path outside, which has no links on the way, wherever it is shown,
// by something that cannot be opened. dir: it is a directory. It returns the places of the
// covers. They come after all mounts, so no mount hides one.
//
// A cover moves along when a directory above it is renamed, and something else could be made in
// its place. So each directory between it and the mount that it is in becomes a mount, which
// cannot be renamed.
func (p *Plan) Cover(path string, dir bool) []string {
	places := p.Shown(path)
	for _, place := range places {
		top := "/"
		if m := p.on(place); m != nil {
			top = m.Place
		}
		for up := abspath.Parent(place); up != top && abspath.Within(top, up); up = abspath.Parent(up) {
			p.addCover(Mount{Place: up, Kind: Same, Source: up, Writable: true})
		}
		kind := NoFile
		if dir {
			kind = NoDirectory
		}
		p.addCover(Mount{Place: place, Kind: kind})
	}
	slices.SortStableFunc(p.Covers, func(a, b Mount) int {
		switch {
		case a.Kind == Same && b.Kind != Same:
			return -1
		case a.Kind != Same && b.Kind == Same:
			return 1
		}
		return strings.Compare(a.Place, b.Place)
	})
	return places
}

// addCover adds a cover, unless there is one on the place.
func (p *Plan) addCover(m Mount) {
	for i := range p.Covers {
		if c := &p.Covers[i]; c.Place == m.Place {
			if c.Kind == Same {
				*c = m
			}
			return
		}
	}
	p.Covers = append(p.Covers, m)
}
