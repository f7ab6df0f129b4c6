package sandbox

import (
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/memjail/memjail/policy/abspath"
	"github.com/memjail/memjail/sandbox/landlock"
	"github.com/memjail/memjail/sandbox/view"
)

// coverSockets has a private view cover the UNIX sockets that exist in it and that the policy
// does not name (network.unix = "own"): a read-only mount does not keep a program from
// connecting. Program directories are not searched: they have no sockets, and many files. What
// cannot be read is left out, since nobody inside finds more.
func (o *Options) coverSockets(plan *view.Plan) []landlock.DeniedPlace {
	named := o.Policy.Network.UnixPaths()
	skipped := append(landlock.ProgramDirectories(), "/proc", "/sys")
	within := func(trees []string, path string) bool {
		return slices.ContainsFunc(trees, func(tree string) bool { return abspath.Within(tree, path) })
	}
	var covered []landlock.DeniedPlace
	seen := map[string]bool{}
	for _, m := range plan.Mounts {
		if m.Kind != view.Bind {
			continue
		}
		_ = filepath.WalkDir(m.Source, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return nil
			case entry.IsDir() && (within(skipped, path) || within(named, path) || seen[path]):
				return fs.SkipDir
			case entry.IsDir():
				seen[path] = true
			case entry.Type()&fs.ModeSocket != 0 && !within(named, path):
				for _, place := range plan.Cover(path, false) {
					covered = append(covered, landlock.DeniedPlace{Path: place})
				}
			}
			return nil
		})
	}
	return covered
}
