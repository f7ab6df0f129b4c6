package sandbox

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/abspath"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/landlock"
	"github.com/memjail/memjail/sandbox/view"
)

// coverSockets has a private view cover the UNIX sockets that exist in it and that the policy
// does not name (network.unix = "own"): a read-only mount does not keep a program from
// connecting. Program directories are not searched, which have many files, and directories cannot
// be that this user may search but not list: the kernel's list of bound sockets (unix(7),
// /proc/net/unix), which is that of this network namespace, names those in them.
func (o *Options) coverSockets(plan *view.Plan, mounts *landlock.MountTable) []landlock.DeniedPlace {
	named := o.Policy.Network.UnixPaths()
	skipped := append(landlock.ProgramDirectories(), "/proc", "/sys")
	within := func(trees []string, path string) bool {
		return slices.ContainsFunc(trees, func(tree string) bool { return abspath.Within(tree, path) })
	}
	var covered []landlock.DeniedPlace
	cover := func(path string) {
		for _, place := range plan.Cover(path, false) {
			covered = append(covered, landlock.DeniedPlace{Path: place})
		}
	}
	for _, path := range boundSockets() {
		if d, err := landlock.FollowDenied(policy.DeniedPath{Path: path}); err == nil && !d.Missing {
			for _, alias := range mounts.Aliases(d.Places[len(d.Places)-1]) {
				if !within(named, alias) {
					cover(alias)
				}
			}
		}
	}
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
				cover(path)
			}
			return nil
		})
	}
	return covered
}

// boundSockets lists the paths to which UNIX sockets of this network namespace are bound and
// that lead to sockets here.
func boundSockets() []string {
	if kernel.ProveOwnProcfs() != nil {
		return nil
	}
	text, err := os.ReadFile("/proc/self/net/unix")
	if err != nil {
		return nil
	}
	var list []string
	for line := range strings.Lines(string(text)) {
		// Num RefCount Protocol Flags Type St Inode Path; the path may contain blanks.
		i := strings.Index(line, " /")
		if i < 0 {
			continue
		}
		path := filepath.Clean(strings.TrimSuffix(line[i+1:], "\n"))
		if st, err := os.Lstat(path); err == nil && st.Mode()&fs.ModeSocket != 0 && !slices.Contains(list, path) {
			list = append(list, path)
		}
	}
	return list
}
