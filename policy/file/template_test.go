package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/profiles"
)

// A new policy means what it extends, and its commented lines are right.
func TestTemplate(t *testing.T) {
	for _, name := range profiles.Names() {
		text := Template("mine", []string{name})
		got, err := here.Parse("mine.toml", text, Default())
		if err != nil {
			t.Fatal(err)
		}
		want, err := here.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		if changes := policy.Diff(want, got); len(changes) > 0 {
			t.Errorf("%s: %+v", name, changes)
		}
		comment := regexp.MustCompile(`(?m)^#(\[|[a-z-]+ +=)`)
		lines := len(comment.FindAll(text, -1))
		all := comment.ReplaceAll(text, []byte("$1"))
		if _, err := here.Parse("mine.toml", all, Default()); err != nil || lines < 10 {
			t.Errorf("%s: %d lines: %v", name, lines, err)
		}
		if err := bySchema(t, all); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if first, _, _ := strings.Cut(string(text), "\n"); first != "# mine: "+name+", and what is added here" {
			t.Errorf("begins with %q", first)
		}
	}
	if _, err := here.Parse("m.toml", Template("m", []string{"build", "service"}), Default()); err != nil {
		t.Error(err)
	}
}

func TestNewNamed(t *testing.T) {
	home, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l := Loader{Env: []string{"HOME=" + home}}
	path, err := l.NewNamed("work")
	if err != nil || path != home+"/.config/memjail/policies/work.toml" {
		t.Fatalf("%s: %v", path, err)
	}
	if err := os.WriteFile(path, Template("work", []string{"memory"}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"work", "strict"} {
		if _, err := l.NewNamed(name); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if p, err := l.Load("work"); err != nil || p.Name != "work" {
		t.Error(err)
	}
	if _, err := (Loader{}).NewNamed("work"); err == nil {
		t.Error("made without a home directory")
	}
	// Nothing is made in a directory that others can write.
	other := filepath.Join(home, "other")
	if err := errors.Join(os.Mkdir(other, 0o700), os.Chmod(other, 0o777)); err != nil {
		t.Fatal(err)
	}
	if _, err := (Loader{Env: []string{"HOME=" + other}}).NewNamed("work"); err == nil {
		t.Error("made where others can write")
	}
	if found, _ := os.ReadDir(other); len(found) > 0 {
		t.Error("something was made where others can write")
	}
}
