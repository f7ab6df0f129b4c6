package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestManuals: the section OPTIONS of each page has the command's flags and no others.
func TestManuals(t *testing.T) {
	b := builder{version: "0.0.0", time: time.Unix(0, 0)}
	option := regexp.MustCompile(`(?m)^\\fB(?:-[a-zA-Z]\\fP, \\fB)?--([a-z][a-z0-9-]*)\\fP`)
	pages := 0
	err := eachCommand(root(), func(c *cobra.Command) error {
		if c.Parent() == nil {
			return nil
		}
		text, err := b.manual(c)
		if err != nil {
			return err
		}
		pages++
		_, options, _ := strings.Cut(string(text), ".SH OPTIONS\n")
		options, _, _ = strings.Cut(options, ".SH ")
		var have, want []string
		for _, m := range option.FindAllStringSubmatch(options, -1) {
			have = append(have, m[1])
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				want = append(want, f.Name)
			}
		})
		if slices.Sort(have); !slices.Equal(have, want) {
			t.Errorf("%s: OPTIONS has %q, the command %q", c.CommandPath(), have, want)
		}
		return nil
	})
	if err != nil || pages < 15 {
		t.Errorf("%d pages, %v", pages, err)
	}
}

func TestMarkdown(t *testing.T) {
	const text = "a *b*:\n\n  x *  y\n  z\n\nc_d\n"
	if got := markdown(text); got != "a \\*b\\*:\n\n\n      x *  y\n      z\n\nc\\_d\n" {
		t.Errorf("%q", got)
	}
}

// packages is where `make packages` has put them, or where this test does.
func packages(t *testing.T, version string) string {
	t.Helper()
	if dir := os.Getenv("MEMJAIL_PACKAGES"); dir != "" && version == os.Getenv("MEMJAIL_VERSION") {
		return dir
	}
	dir := t.TempDir()
	b := builder{version: version, out: dir, top: filepath.Join("..", "..")}
	if err := b.run([]string{"amd64"}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// one returns the file of a directory that a pattern matches.
func one(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %q, %v", pattern, found, err)
	}
	return found[0]
}

// TestReproducible builds twice, in different directories: all files are the same.
func TestReproducible(t *testing.T) {
	var sums [2]string
	for i := range sums {
		dir := t.TempDir()
		b := builder{version: "0.1.0", out: dir, top: filepath.Join("..", "..")}
		if err := b.run([]string{"amd64"}); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = string(text)
	}
	if n := strings.Count(sums[0], "\n"); n != 6 || sums[0] != sums[1] {
		t.Errorf("%d files; once\n%s, then\n%s", n, sums[0], sums[1])
	}
}

// TestInstall installs the package in a fresh Debian, uses it, upgrades and removes it. The
// root directory is a temporary layer over MEMJAIL_CONTAINERS_ROOT, or over a new system.
func TestInstall(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a root directory with a Debian system can be made and entered only by root")
	}
	root := os.Getenv("MEMJAIL_CONTAINERS_ROOT")
	if root == "" {
		root = filepath.Join(t.TempDir(), "root")
		if out, err := exec.Command("debootstrap", "--variant=minbase", "bookworm", root).CombinedOutput(); err != nil {
			t.Fatalf("debootstrap: %v\n%s", err, out)
		}
	}
	first, second := packages(t, "0.1.0"), packages(t, "0.1.1")
	dir := t.TempDir()
	for name, from := range map[string]string{"first.deb": one(t, first, "memjail_*_amd64.deb"),
		"second.deb": one(t, second, "memjail_*_amd64.deb"), "install.sh": filepath.Join("testdata", "install.sh")} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "sh", "-ec", `
		mount -t tmpfs tmpfs "$2" && mkdir "$2/upper" "$2/work" "$2/root"
		mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
		mount -t proc proc "$2/root/proc" && mount --rbind /dev "$2/root/dev" && mount -t tmpfs tmpfs "$2/root/tmp"
		cp "$3"/* "$2/root/tmp"
		exec chroot "$2/root" sh /tmp/install.sh`, "-", root, t.TempDir(), dir)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8",
		"DEBIAN_FRONTEND=noninteractive"}
	out, err := cmd.CombinedOutput()
	const want = `installed: memjail 0.1.0
run: closed
files: 0 changed
triggered: memjail: the drop-in of x.service is out of date: see "memjail systemd check x.service"
upgraded: memjail 0.1.1
refused: memjail: x.service is started by memjail: "memjail systemd remove x.service" undoes that
removed: nothing is left
`
	if err != nil || string(out) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, out, want)
	}
}

// TestRPM installs the package with rpm in an empty root directory.
func TestRPM(t *testing.T) {
	rpm, err := exec.LookPath("rpm")
	if err != nil {
		t.Skip("this machine has no rpm")
	}
	root := t.TempDir()
	file := one(t, packages(t, "0.1.0"), "memjail-*.x86_64.rpm")
	for _, args := range [][]string{{"--initdb"}, {"-i", "--nodeps", "--noscripts", "--nosignature", file},
		{"-V", "--nodeps", "memjail"}} {
		cmd := exec.Command(rpm, append([]string{"--root", root, "--dbpath", "/rpm"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd, err, out)
		}
	}
	out, err := exec.Command(filepath.Join(root, "usr/bin/memjail"), "version").Output()
	if err != nil || string(out) != "memjail 0.1.0\n" {
		t.Errorf("%q, %v", out, err)
	}
	if target, err := os.Readlink(filepath.Join(root, "usr/bin/memjail-oci")); err != nil || target != "memjail" {
		t.Errorf("memjail-oci leads to %q, %v", target, err)
	}
}

// TestAPK: the package is three gzip streams of tar files, the last of which has the files.
func TestAPK(t *testing.T) {
	f, err := os.Open(one(t, packages(t, "0.1.0"), "memjail_*_x86_64.apk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	for _, want := range []string{".PKGINFO", "usr/bin/memjail", "usr/bin/memjail-oci", "usr/share/man/man1/memjail.1.gz"} {
		if !slices.Contains(names, want) {
			t.Errorf("no %s in %q", want, names)
		}
	}
}
