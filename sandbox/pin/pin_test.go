package pin

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// scratch is a directory under its canonical name.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func newLayout() *layout {
	return &layout{files: map[string]bool{}, links: map[string]string{}, dirs: map[string]bool{}}
}

func TestTrace(t *testing.T) {
	dir := scratch(t)
	for _, d := range []string{"a/b", "c"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "a/b/file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"c/up": "../a", "whole": filepath.Join(dir, "c/up/b/file"),
		"loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	l := newLayout()
	if err := l.trace(filepath.Join(dir, "whole")); err != nil {
		t.Fatal(err)
	}
	if got, want := l.sortedFiles(), []string{filepath.Join(dir, "a/b/file")}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	for _, d := range []string{"", "a", "a/b", "c"} {
		if !l.dirs[filepath.Join(dir, d)] {
			t.Errorf("%q is not among the directories %q", d, l.sortedDirs())
		}
	}
	if want := map[string]string{filepath.Join(dir, "whole"): filepath.Join(dir, "c/up/b/file"),
		filepath.Join(dir, "c/up"): "../a"}; !reflect.DeepEqual(l.links, want) {
		t.Errorf("links %q, want %q", l.links, want)
	}
	for path, want := range map[string]error{"loop": unix.ELOOP, "a": unix.EISDIR, "none": unix.ENOENT} {
		if err := newLayout().trace(filepath.Join(dir, path)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
	if err := newLayout().trace("/proc/self/exe"); err == nil || !strings.Contains(err.Error(), "cannot be replaced") {
		t.Errorf("/proc/self/exe: %v", err)
	}
}

// TestSumsFile: what is written is read again, and is what sha256sum understands,
// names with odd bytes included.
func TestSumsFile(t *testing.T) {
	dir := scratch(t)
	var files []string
	for _, name := range []string{"plain", "with two  blanks", "back\\slash", "new\nline"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
		files = append(files, path)
	}
	sums, err := sumAll(files, os.Open)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := (&Sums{byPath: sums}).Write(&text); err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "sums")
	if err := os.WriteFile(list, text.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	back, err := ReadSums(list)
	if err != nil || !reflect.DeepEqual(back.byPath, sums) {
		t.Errorf("%v, %q, want %q", err, back, sums)
	}
	if tool, err := exec.LookPath("sha256sum"); err == nil {
		if out, err := exec.Command(tool, "-c", "--strict", list).CombinedOutput(); err != nil {
			t.Errorf("sha256sum: %v\n%s%s", err, out, &text)
		}
	}
}

func TestReadSumsRefuses(t *testing.T) {
	sum := strings.Repeat("0a", 32)
	for text, want := range map[string]string{
		"":                                 "it has no sums",
		"\n":                               "it has no sums",
		sum + "  /x\nrubbish\n":            ":2: want a SHA-256 sum",
		sum + " /x\n":                      ":1: want",
		sum + "  x\n":                      ":1: want",
		sum[1:] + "g  /x\n":                ":1: want",
		sum + "  /x\n" + sum + "  /x\n":    "",
		sum + " */x\n":                     "",
		strings.ToUpper(sum) + "  /x\n":    "",
		sum + "  /x\n1" + sum[1:] + "  /x": `:2: "/x" is listed twice`,
	} {
		name := filepath.Join(t.TempDir(), "sums")
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := ReadSums(name)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestCompare(t *testing.T) {
	recorded := &Sums{Source: "list", byPath: map[string]string{"/same": "1", "/other": "2", "/gone": "3"}}
	err := recorded.compare(map[string]string{"/same": "1", "/other": "x", "/new": "4"})
	var mismatch *MismatchError
	if !errors.As(err, &mismatch) {
		t.Fatal(err)
	}
	want := &MismatchError{Source: "list", Changed: []string{"/other"}, Missing: []string{"/new"},
		Extra: []string{"/gone"}}
	if !reflect.DeepEqual(mismatch, want) {
		t.Errorf("%+v, want %+v", mismatch, want)
	}
	if err := recorded.compare(recorded.byPath); err != nil {
		t.Error(err)
	}
}
