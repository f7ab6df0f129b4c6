package landlock

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/abspath"
)

func (p *Plan) warn(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if !slices.Contains(p.Warnings, line) {
		p.Warnings = append(p.Warnings, line)
	}
}

func (p *Plan) warnCarved(path, cause string) {
	p.warn("nothing new can be created directly in %s, because of %s", path, cause)
}

// warnWorkDirs compares by inode: $HOME may be spelled through a symbolic link.
func (p *Plan) warnWorkDirs(busy []string) {
	if !slices.ContainsFunc(p.Carved, func(c Carved) bool { return c.unusual }) {
		return
	}
	for _, dir := range busy {
		var b unix.Stat_t
		if unix.Stat(dir, &b) != nil {
			continue
		}
		for i := range p.Carved {
			c := &p.Carved[i]
			if c.unusual && c.inode == (inode{uint64(b.Dev), b.Ino}) {
				p.warnCarved(c.Path, c.Cause)
			}
		}
	}
}

// warnLayers warns of overlays on program directories that have layers which cannot be
// found, and so cannot be protected.
func (p *Plan) warnLayers(t *MountTable, code []string) {
	for i := range t.mounts {
		m := &t.mounts[i]
		if m.FSType != "overlay" ||
			!slices.ContainsFunc(code, func(dir string) bool { return abspath.Within(dir, m.Point) }) {
			continue
		}
		if layer := relativeLayer(m.SuperOptions); layer != "" {
			p.warn("the programs in %s are on an overlay whose layer %q has a relative path and cannot "+
				"be found: if it can be written inside, they can be changed", m.Point, layer)
		}
	}
}

// warnMissing warns of what this version of the ABI cannot enforce.
func (p *Plan) warnMissing(r Request) {
	v := r.ABI.Version
	if v < 2 {
		p.warn("landlock ABI %d refuses every rename and link from one directory to another", v)
	}
	if v < 3 {
		p.warn("landlock ABI %d does not see truncate(2): the seccomp filter refuses it by path, for every file", v)
	}
	if v < 6 && r.Policy.IPC.Signals == policy.ScopeSandbox {
		p.warn("landlock ABI %d cannot keep signals inside: only those that dump core are refused, to "+
			"every other process", v)
	}
	if v < 6 && (r.Policy.IPC.AbstractSockets == policy.ScopeSandbox || r.Policy.Network.OwnUnix()) {
		p.warn("landlock ABI %d cannot refuse abstract sockets of processes outside the sandbox", v)
	}
	// What the comments of a built-in policy say is not repeated at every start.
	builtIn := r.Policy.Origin("network.connect-tcp", "").Kind == policy.OriginBuiltin
	if p.HandlesTCP() && !builtIn && !r.Policy.Network.RestrictsUDP() && r.Policy.Network.MakesFamily("inet", "inet6") {
		p.warn("the rules about TCP ports do not restrict UDP: datagrams go to every port")
	}
}
