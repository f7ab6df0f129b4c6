package facts

import (
	"path/filepath"
	"slices"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/pin"
	"github.com/memjail/memjail/sandbox/program"
)

// Pin has the facts describe what pinning a program does to paths. Errors:
// [*program.Error], and those of looking at the files.
func (f *Facts) Pin(pol policy.Policy, name string, env []string) error {
	return program.With(pol.Environment, name, env, func(path string, env []string) error {
		pinned, err := pin.Find(path, env)
		f.pinned = pinned
		return err
	})
}

// pinning describes what pinning a program does to a path.
func (f *Facts) pinning(o *policy.Object) policy.Pinning {
	if f.pinned == nil {
		return policy.PinUnknown
	}
	in := func(sorted []string, path string) bool {
		_, found := slices.BinarySearch(sorted, path)
		return found
	}
	beside := in(f.pinned.Frozen, filepath.Dir(o.Path))
	switch {
	case in(f.pinned.Files, o.Path):
		return policy.PinCopy
	case o.Kind == policy.KindDirectory && in(f.pinned.Frozen, o.Path), o.Kind == policy.KindMissing && beside:
		return policy.PinWay
	case o.Kind == policy.KindFile && beside:
		return policy.PinBeside
	}
	return policy.PinApart
}
