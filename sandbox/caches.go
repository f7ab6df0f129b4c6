package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/program"
	"golang.org/x/sys/unix"
)

// toolCaches are where tools keep what they have fetched and built, below the home directory.
// A name that ends in "?" is a file.
var toolCaches = []struct {
	tools  []string
	caches []string
}{
	{[]string{"go"}, []string{".cache/go-build", "go/pkg/mod"}},
	{[]string{"golangci-lint"}, []string{".cache/golangci-lint"}},
	{[]string{"cargo"}, []string{".cargo/registry", ".cargo/git", ".cargo/.package-cache?",
		".cargo/.package-cache-mutate?", ".cargo/.global-cache?"}},
	{[]string{"npm", "npx"}, []string{".npm", ".cache/node-gyp"}},
	{[]string{"yarn"}, []string{".cache/yarn"}},
	{[]string{"pnpm"}, []string{".local/share/pnpm/store"}},
	{[]string{"bun"}, []string{".bun/install/cache"}},
	{[]string{"pip", "pip3"}, []string{".cache/pip"}},
	{[]string{"uv"}, []string{".cache/uv"}},
	{[]string{"poetry"}, []string{".cache/pypoetry"}},
	{[]string{"mvn"}, []string{".m2/repository"}},
	{[]string{"gradle"}, []string{".gradle/caches", ".gradle/wrapper"}},
	{[]string{"dotnet"}, []string{".nuget/packages"}},
	{[]string{"ccache"}, []string{".cache/ccache"}},
	{[]string{"sccache"}, []string{".cache/sccache"}},
	{[]string{"bazel", "bazelisk"}, []string{".cache/bazel"}},
	{[]string{"zig"}, []string{".cache/zig"}},
}

// makeCaches makes the caches that a policy lets be written (paths.make-caches) and that are
// missing, where their tool is installed: no rule can be on what does not exist. What cannot
// be made stays missing, as without the key.
func (o *Options) makeCaches(env []string) {
	p := &o.Policy
	home := filepath.Clean(program.Getenv(env, "HOME"))
	if !p.Paths.MakeCaches || o.Unstarted || p.Home.Private || !filepath.IsAbs(home) || home == "/" {
		return
	}
	top, err := unix.Open(home, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(top)
	// By sudo root may have another user's HOME, in which nothing should belong to root.
	var st unix.Stat_t
	if unix.Fstat(top, &st) != nil || int(st.Uid) != unix.Geteuid() {
		return
	}
	for _, t := range toolCaches {
		for _, cache := range t.caches {
			name, file := strings.CutSuffix(cache, "?")
			path := filepath.Join(home, name)
			writable := func(r policy.Rule) bool {
				return r.Path == path && r.Optional && r.Rights&policy.MayWrite != 0
			}
			if !slices.ContainsFunc(p.Paths.Rules.List(), writable) || p.Paths.Denies(path) {
				continue
			}
			if _, err := os.Lstat(path); err == nil || !installed(t.tools, env) {
				continue
			}
			makeBelow(top, name, file)
		}
	}
}

// installed reports whether one of the programs is in PATH.
func installed(names []string, env []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		_, err := program.Find(name, env)
		return err == nil
	})
}

// makeBelow makes a directory, with those above it, or an empty file, for their owner only. It
// follows no symbolic link below top.
func makeBelow(top int, name string, file bool) {
	at, err := unix.Dup(top)
	if err != nil {
		return
	}
	defer func() { unix.Close(at) }()
	parts := strings.Split(name, "/")
	last := len(parts) - 1
	for i, part := range parts {
		if file && i == last {
			const flags = unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY | unix.O_CLOEXEC
			if fd, err := unix.Openat(at, part, flags, 0o600); err == nil {
				unix.Close(fd)
			}
			return
		}
		if err := unix.Mkdirat(at, part, 0o700); err != nil && err != unix.EEXIST {
			return
		}
		next, err := unix.Openat(at, part, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return
		}
		unix.Close(at)
		at = next
	}
}
