package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/memjail/memjail/policy"
)

// TestMakeCaches: what is made are the caches of installed tools that the policy lets be
// written and may miss, below the user's own home directory, and nothing through a link.
func TestMakeCaches(t *testing.T) {
	const rw = policy.MayRead | policy.MayWrite
	for _, test := range []struct {
		name   string
		tools  []string
		change func(o *Options, home string)
		want   []string
	}{
		{"two tools", []string{"go", "cargo"}, nil,
			[]string{".cache/go-build", ".cargo/.package-cache", ".cargo/registry", "go/pkg/mod"}},
		{"another tool", []string{"npm"}, nil, nil},
		{"the key is not set", []string{"go"},
			func(o *Options, _ string) { o.Policy.Paths.MakeCaches = false }, nil},
		{"nothing is started", []string{"go"}, func(o *Options, _ string) { o.Unstarted = true }, nil},
		{"a private home", []string{"go"}, func(o *Options, _ string) { o.Policy.Home.Private = true }, nil},
		{"denied", []string{"go"}, func(o *Options, home string) {
			o.Policy.Paths.Deny = []policy.DeniedPath{{Path: home + "/go"}}
		}, []string{".cache/go-build"}},
		{"a link on the way", []string{"go"}, func(_ *Options, home string) {
			if err := os.Symlink(t.TempDir(), home+"/go"); err != nil {
				t.Fatal(err)
			}
		}, []string{".cache/go-build"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			home, bin := t.TempDir(), t.TempDir()
			for _, tool := range test.tools {
				if err := os.WriteFile(filepath.Join(bin, tool), []byte("#!/bin/sh\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			o := &Options{}
			o.Policy.Paths.MakeCaches = true
			caches := []string{".cache/go-build", "go/pkg/mod", ".cargo/registry", ".cargo/.package-cache"}
			var rules []policy.Rule
			for _, name := range caches {
				rules = append(rules, policy.Rule{Path: filepath.Join(home, name), Rights: rw, Optional: true})
			}
			// A rule that may not miss its path, and one that does not let it be written.
			rules = append(rules, policy.Rule{Path: filepath.Join(home, ".cargo/git"), Rights: rw},
				policy.Rule{Path: filepath.Join(home, ".cache/golangci-lint"), Rights: policy.MayRead, Optional: true})
			o.Policy.Paths.Rules = policy.OnlyThese(rules...)
			if test.change != nil {
				test.change(o, home)
			}
			o.makeCaches([]string{"HOME=" + home, "PATH=" + bin})
			var made []string
			for _, name := range append(caches, ".cargo/git", ".cache/golangci-lint") {
				if st, err := os.Lstat(filepath.Join(home, name)); err == nil {
					made = append(made, name)
					if st.Mode().Perm()&0o077 != 0 {
						t.Errorf("%s: mode %v", name, st.Mode())
					}
				}
			}
			slices.Sort(made)
			if !slices.Equal(made, test.want) {
				t.Errorf("made %q, want %q", made, test.want)
			}
		})
	}
}
