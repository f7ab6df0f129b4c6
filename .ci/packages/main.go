// Packages builds what is published of a version: packages for Debian, Red Hat and Alpine
// systems, an archive and a container image, for x86-64 and arm64, with manual pages,
// completions, a list of the modules in the program (SBOM) and checksums.
//
//	packages -version 0.1.0 -o DIR [-arch amd64,arm64]
//
// The same sources give the same bytes: times are those of SOURCE_DATE_EPOCH, or else of the
// last commit.
package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/apk"
	_ "github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

func main() {
	b := builder{}
	flag.StringVar(&b.version, "version", "", "the `VERSION`")
	flag.StringVar(&b.out, "o", "", "write to `DIR`")
	flag.StringVar(&b.top, "top", ".", "the `DIR` of the sources")
	arches := flag.String("arch", "amd64,arm64", "the `ARCHITECTURES`, as in GOARCH")
	flag.Parse()
	if err := b.run(strings.Split(*arches, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "packages:", err)
		os.Exit(1)
	}
}

// builder makes the files of one version.
type builder struct {
	version, out, top string
	time              time.Time
	built             []v1.Image // the images, one for each architecture
}

func (b *builder) run(arches []string) error {
	if b.version == "" || b.out == "" {
		return errors.New("-version and -o are needed")
	}
	var err error
	if b.top, err = filepath.Abs(b.top); err != nil {
		return err
	}
	if b.time, err = b.sourceTime(); err != nil {
		return err
	}
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		return err
	}
	for _, arch := range arches {
		if err := b.build(arch); err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
	}
	if err := b.images(); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	return b.checksums()
}

// sourceTime is the time that all files get.
func (b *builder) sourceTime() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		out, err := exec.Command("git", "-C", b.top, "log", "-1", "--format=%ct").Output()
		if err != nil {
			return time.Time{}, fmt.Errorf("the time of the last commit (or set SOURCE_DATE_EPOCH): %w", err)
		}
		text = strings.TrimSpace(string(out))
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	return time.Unix(seconds, 0).UTC(), err
}

// build makes the packages of an architecture, from the tree of files that they install.
func (b *builder) build(arch string) error {
	tree, err := os.MkdirTemp("", "memjail-packages-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tree)
	if err := b.stage(tree, arch); err != nil {
		return err
	}
	if err := b.archive(tree, arch); err != nil {
		return err
	}
	for _, format := range []string{"deb", "rpm", "apk"} {
		if err := b.pack(tree, arch, format); err != nil {
			return fmt.Errorf("%s: %w", format, err)
		}
	}
	image, err := b.image(tree, arch)
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	b.built = append(b.built, image)
	return b.bom(filepath.Join(tree, "usr/bin/memjail"), arch)
}

// pack makes one package with nfpm.
func (b *builder) pack(tree, arch, format string) error {
	scripts := filepath.Join(b.top, ".ci", "packages", "scripts")
	info := &nfpm.Info{
		Name: "memjail", Arch: arch, Platform: "linux", Version: b.version, Release: "1", Section: "admin",
		Priority: "optional", Maintainer: "The memjail authors <memjail@localhost>", License: "MIT", MTime: b.time,
		Homepage: "https://github.com/memjail/memjail", DisableGlobbing: true,
		Description: "run programs whose memory nobody else can read or write\n" +
			"memjail runs a program so that no process inside can read or write the memory\n" +
			"of a running process other than with that process's own instructions.",
	}
	info.Scripts = nfpm.Scripts{PostInstall: filepath.Join(scripts, "postinst"), PreRemove: filepath.Join(scripts, "prerm")}
	info.RPM.BuildHost, info.RPM.Group = "localhost", "System"
	info.RPM.Summary = "Run programs whose memory nobody else can read or write"
	info.Deb.Triggers.InterestNoAwait = []string{"/lib/systemd/system", "/usr/lib/systemd/system"}
	var err error
	if info.Contents, err = b.contents(tree, format); err != nil {
		return err
	}
	info = nfpm.WithDefaults(info)
	packager, err := nfpm.Get(format)
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(b.out, packager.ConventionalFileName(info)))
	if err != nil {
		return err
	}
	return errors.Join(packager.Package(info, f), f.Close())
}

// contents lists the staged files. Zsh's completions have another place in Debian.
func (b *builder) contents(tree, format string) (files.Contents, error) {
	var all files.Contents
	err := walk(tree, func(name string, info fs.FileInfo) error {
		c := &files.Content{Source: filepath.Join(tree, name), Destination: "/" + name,
			FileInfo: &files.ContentFileInfo{Mode: info.Mode().Perm(), MTime: b.time, Owner: "root", Group: "root"}}
		if format == "deb" {
			c.Destination = strings.Replace(c.Destination, "/zsh/site-functions/", "/zsh/vendor-completions/", 1)
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(c.Source)
			if err != nil {
				return err
			}
			c.Source, c.Type = target, files.TypeSymlink
		}
		all = append(all, c)
		return nil
	})
	return all, err
}

// walk calls f for each file of a tree, in the order of their names.
func walk(tree string, f func(name string, info fs.FileInfo) error) error {
	return filepath.WalkDir(tree, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(tree, file)
		if err != nil {
			return err
		}
		return f(filepath.ToSlash(name), info)
	})
}

// archive writes the tree as a tar file, below one directory.
func (b *builder) archive(tree, arch string) error {
	name := fmt.Sprintf("memjail-%s-linux-%s", b.version, arch)
	f, err := os.Create(filepath.Join(b.out, name+".tar.gz"))
	if err != nil {
		return err
	}
	z := gzip.NewWriter(f)
	w := tar.NewWriter(z)
	err = walk(tree, func(file string, _ fs.FileInfo) error {
		return b.addFile(w, tree, file, path.Join(name, strings.TrimPrefix(file, "usr/")))
	})
	return errors.Join(err, w.Close(), z.Close(), f.Close())
}

// addFile adds a file of a tree, which root owns, with the time that all files get.
func (b *builder) addFile(w *tar.Writer, tree, file, name string) error {
	from := filepath.Join(tree, file)
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if target, err = os.Readlink(from); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	h.Name, h.ModTime, h.Format = name, b.time, tar.FormatPAX
	h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
	h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "root", "root"
	if err := w.WriteHeader(h); err != nil || target != "" {
		return err
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

// checksums writes SHA256SUMS over all files, as sha256sum(1) does.
func (b *builder) checksums() error {
	entries, err := os.ReadDir(b.out)
	if err != nil {
		return err
	}
	var text strings.Builder
	slices.SortFunc(entries, func(x, y fs.DirEntry) int { return strings.Compare(x.Name(), y.Name()) })
	for _, e := range entries {
		if e.Name() == "SHA256SUMS" || e.IsDir() {
			continue
		}
		f, err := os.Open(filepath.Join(b.out, e.Name()))
		if err != nil {
			return err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		fmt.Fprintf(&text, "%x  %s\n", h.Sum(nil), e.Name())
	}
	return os.WriteFile(filepath.Join(b.out, "SHA256SUMS"), []byte(text.String()), 0o644)
}
