package landlock

import (
	slashpath "path"
	"strings"

	"github.com/memjail/memjail/policy/abspath"
)

// overlayLayer is a directory that an overlay is made of. whole marks the work directory,
// in which a copy of a file has another name.
type overlayLayer struct {
	path  string
	whole bool
}

// eachLayer reads the mount options of an overlay,
// Documentation/filesystems/overlayfs.rst, and calls do for each layer as it is
// written.
func eachLayer(options string, do func(path string, whole bool)) {
	for _, option := range splitEscaped(options, ',') {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "lowerdir":
			for _, path := range splitEscaped(value, ':') {
				do(unbackslash(path), false)
			}
		case "lowerdir+", "datadir+", "upperdir":
			do(unbackslash(value), false)
		case "workdir":
			do(unbackslash(value), true)
		}
	}
}

// overlayLayers lists the layers that can be found. Relative ones, which depend on the
// mounter's working directory, are left out: see [relativeLayer].
func overlayLayers(options string) []overlayLayer {
	var layers []overlayLayer
	eachLayer(options, func(path string, whole bool) {
		// A layer that was given as a descriptor cannot be found by that path.
		if strings.HasPrefix(path, "/") && !abspath.Within("/proc", path) {
			layers = append(layers, overlayLayer{slashpath.Clean(path), whole})
		}
	})
	return layers
}

// relativeLayer returns the first layer with a relative path, or "".
func relativeLayer(options string) (relative string) {
	eachLayer(options, func(path string, _ bool) {
		if relative == "" && !strings.HasPrefix(path, "/") {
			relative = path
		}
	})
	return relative
}

// splitEscaped splits at each separator that has no backslash before it.
func splitEscaped(s string, separator byte) []string {
	var parts []string
	start := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case separator:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

// unbackslash removes the backslashes that protect separators in a path.
func unbackslash(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}
