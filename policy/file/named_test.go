package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
)

// policies makes directories of policies below one that only the user can change, and
// returns a Loader that looks in them.
func policies(t *testing.T, texts map[string]string) (l Loader, top string) {
	t.Helper()
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range texts {
		path := filepath.Join(top, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"version = 1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Loader{Directories: []string{filepath.Join(top, "user"), filepath.Join(top, "system")}}, top
}

func TestNames(t *testing.T) {
	l, top := policies(t, map[string]string{
		"user/site.toml":   "# site: what this site allows\nmin-abi = 1\n",
		"system/site.toml": "min-abi = 2\n",
		"system/base.toml": "extends = [\"strict\"]\nmin-abi = 3\n",
		"user/over.toml":   "extends = [\"base\"]\nmemory.ptrace = \"children\"\n",
		"user/strict.toml": "min-abi = 4\n",
		"user/loop.toml":   "extends = [\"loop\"]\n",
		"user/.toml":       "",
		"user/readme.txt":  "",
	})
	for _, c := range []struct {
		name, want string // the error, or the lowest ABI, the name and the file
		abi        int
	}{
		{"site", "user/site.toml", 1},
		{"base", "system/base.toml", 3},
		{"over", "user/over.toml", 3},
		{"workspace", "", 0},
		{"strict", `user/strict.toml" has the name of a built-in policy: rename the file`, 0},
		{"loop", "extend each other in a circle", 0},
		{"sit", `(did you mean "site"?)`, 0},
	} {
		p, err := Loader{Directories: l.Directories, Env: here.Env, Dir: here.Dir}.Load(c.name)
		if err != nil {
			if !strings.Contains(err.Error(), c.want) || c.want == "" {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		found, err := l.Find(c.name)
		if c.want != "" {
			c.want = filepath.Join(top, c.want)
		}
		if err != nil || found != c.want || p.MinABI != c.abi || p.Name != c.name {
			t.Errorf("%s: found %s, %v, named %s, min-abi = %d", c.name, found, err, p.Name, p.MinABI)
		}
	}
	if _, err := l.Load("sit"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an unknown name: %v", err)
	}
	// What a built-in policy extends is built in, whatever the directories have.
	if err := os.WriteFile(filepath.Join(top, "user", "workspace.toml"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	build := Loader{Directories: l.Directories, Env: here.Env, Dir: here.Dir}
	if _, err := build.Load("build"); err != nil {
		t.Error(err)
	}
	var got []string
	for _, n := range l.Named() {
		if n.File != "" {
			got = append(got, n.Name+": "+n.Text+n.Unusable)
		}
	}
	want := []string{"loop: ", "over: ", "site: what this site allows", "strict: it has the name of a built-in policy",
		"workspace: it has the name of a built-in policy", "base: ",
		"site: " + filepath.Join(top, "user/site.toml") + " comes before it"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// A name never leads to a file that somebody else could have written.
func TestNamesOfOthers(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(dir string) error
		want   string
	}{
		{"as it should be", func(string) error { return nil }, ""},
		{"a file that all can write", func(dir string) error {
			return os.Chmod(filepath.Join(dir, "user/site.toml"), 0o666)
		}, "every user can write it"},
		{"a directory that all can write",
			func(dir string) error { return os.Chmod(filepath.Join(dir, "user"), 0o777) },
			"every user can write it"},
		{"a directory above", func(dir string) error { return os.Chmod(dir, 0o777) }, "every user can write it"},
		{"a link into such a directory", func(dir string) error {
			open := filepath.Join(dir, "open")
			return errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777),
				os.Rename(filepath.Join(dir, "user/site.toml"), filepath.Join(open, "x")),
				os.Symlink("../open/x", filepath.Join(dir, "user/site.toml")))
		}, "every user can write it"},
		{"a link to a safe place", func(dir string) error {
			return errors.Join(os.Rename(filepath.Join(dir, "user"), filepath.Join(dir, "kept")),
				os.Symlink("./kept/../kept", filepath.Join(dir, "user")))
		}, ""},
		{"an endless link", func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "user/site.toml")),
				os.Symlink("site.toml", filepath.Join(dir, "user/site.toml")))
		}, "too many symbolic links"},
		{"another user's file", func(dir string) error {
			return os.Chown(filepath.Join(dir, "user/site.toml"), 65534, -1)
		}, "belongs to user 65534"},
		{"another user's directory above", func(dir string) error { return os.Chown(dir, 65534, -1) },
			"belongs to user 65534"},
		{"another group's directory", func(dir string) error {
			return errors.Join(os.Chown(dir, -1, 65533), os.Chmod(dir, 0o770))
		}, "group 65533 can write it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, top := policies(t, map[string]string{"user/site.toml": ""})
			err := c.change(top)
			if errors.Is(err, fs.ErrPermission) {
				t.Skipf("only root can give files away: %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			_, err = l.Load("site")
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if named := l.Named(); c.want != "" && named[len(named)-1].Unusable == "" {
				t.Errorf("listed as usable: %+v", named[len(named)-1])
			}
			if _, err := l.Load(filepath.Join(top, "user/site.toml")); err != nil &&
				c.want != "too many symbolic links" {
				t.Errorf("by its path: %v", err)
			}
		})
	}
}

func TestDirectories(t *testing.T) {
	for _, c := range []struct {
		env  []string
		want string
	}{
		{nil, SystemPolicies},
		{[]string{"HOME=/h"}, "/h/.config/memjail/policies " + SystemPolicies},
		{[]string{"HOME=/h", "XDG_CONFIG_HOME=/c"}, "/c/memjail/policies " + SystemPolicies},
		{[]string{"HOME=h"}, SystemPolicies},
		{[]string{"HOME=/h", "XDG_CONFIG_HOME=c"}, "/h/.config/memjail/policies " + SystemPolicies},
	} {
		if got := strings.Join(Loader{Env: c.env}.directories(), " "); got != c.want {
			t.Errorf("%q: got %s", c.env, got)
		}
	}
}

// Several policies are layers, as if a file extended them.
func TestLayersByName(t *testing.T) {
	l, _ := policies(t, map[string]string{
		"user/a.toml":   "memory.ptrace = \"children\"\nenvironment.drop = [\"A\"]\nextends = [\"strict\"]\n",
		"user/b.toml":   "memory.ptrace = \"deny\"\nenvironment.drop = [\"!A\"]\n",
		"user/all.toml": "extends = [\"a\", \"b\"]\n",
	})
	p, err := l.Load("a", "b")
	if err != nil {
		t.Fatal(err)
	}
	want, err := l.Load("all")
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "a+b" || p.Memory.Ptrace != policy.PtraceDeny || len(p.Environment.Drop) != 2 {
		t.Errorf("%+v", p)
	}
	want.Name = p.Name
	same(t, p, want)
	q, err := l.Load("b", "a", DefaultName, "a")
	if err != nil || q.Memory.Ptrace != policy.PtraceChildren || q.Environment.DroppedBy("A") == "" {
		t.Errorf("in the other order: %v, %+v", err, q)
	}
	if _, err := l.Load("a", "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one is missing: %v", err)
	}
}

// A policy can be enforced where its tests could not be made.
func TestUntested(t *testing.T) {
	l := Loader{Dir: "/work", Directories: []string{}}
	if _, err := l.Load("workspace"); err == nil || !strings.Contains(err.Error(), "${HOME} is not set") {
		t.Errorf("to be tried: %v", err)
	}
	l.Untested = true
	p, err := l.Load("workspace")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range p.Tests {
		if c.Path == "" && c.Access == policy.ActionRead {
			t.Errorf("%+v", c)
		}
	}
}
