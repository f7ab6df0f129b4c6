package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Metapackages name today's kernel of each release of Debian: their versions there depend
// on the package with the kernel.
const (
	cloudKernel    = "linux-image-cloud-amd64"
	realtimeKernel = "linux-image-rt-amd64" // PREEMPT_RT
	arm64Kernel    = "linux-image-cloud-arm64"
)

// kernels are those that can be booted. The version "" is the newest.
var kernels = []kernel{
	{"5.10", "5.10.", cloudKernel}, // Debian 11: no Landlock
	{"6.1", "6.1.", cloudKernel},   // Debian 12: Landlock ABI 2
	{"6.12", "6.12.", cloudKernel}, // Debian 13: Landlock ABI 6
	{"6.12-rt", "6.12.", realtimeKernel},
	{"newest", "", cloudKernel},
	{"6.1-arm64", "6.1.", arm64Kernel},
	{"6.12-arm64", "6.12.", arm64Kernel},
}

// kernel is a name with the start of the wanted version and the metapackage.
type kernel struct{ name, version, metapackage string }

// machine is the architecture that a kernel is for.
func (k kernel) machine() machine {
	if k.metapackage == arm64Kernel {
		return arm64
	}
	return amd64
}

// suites are the suites of Debian that have these versions.
var suites = []struct{ archive, suite string }{
	{"debian", "bullseye"}, {"debian-security", "bullseye-security"},
	{"debian", "bookworm"}, {"debian-security", "bookworm-security"},
	{"debian", "trixie"}, {"debian-security", "trixie-security"},
	{"debian", "sid"},
}

// keepLists is how long apt's lists are used before they are fetched again.
const keepLists = 24 * time.Hour

// image is a kernel that can be booted, with a static busybox of its architecture.
type image struct{ release, path, busybox string }

func names() []string {
	var all []string
	for _, k := range kernels {
		all = append(all, k.name)
	}
	return all
}

// findKernel returns a kernel and fetches it if the cache lacks it. If the mirror cannot be
// reached it returns a kernel that was fetched earlier.
func findKernel(cache, name string) (image, error) {
	i := slices.IndexFunc(kernels, func(k kernel) bool { return k.name == name })
	if i < 0 {
		return image{}, fmt.Errorf("unknown kernel %q: there are %s", name, strings.Join(names(), ", "))
	}
	dir := filepath.Join(cache, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return image{}, err
	}
	unlock, err := lock(filepath.Join(cache, "lock"))
	if err != nil {
		return image{}, err
	}
	defer unlock()
	found, err := fetchKernel(cache, dir, kernels[i])
	if err != nil {
		old, _ := filepath.Glob(filepath.Join(dir, "vmlinuz-*"))
		if len(old) == 0 {
			return image{}, unavailableError{fmt.Sprintf("no kernel %s: %v", name, err)}
		}
		found.path = old[len(old)-1]
		found.release = strings.TrimPrefix(filepath.Base(found.path), "vmlinuz-")
	}
	found.busybox, err = findBusybox(cache, kernels[i].machine())
	return found, err
}

// findBusybox returns a static busybox: this machine's own, or one that is fetched.
func findBusybox(cache string, m machine) (string, error) {
	if m.name == runtime.GOARCH {
		path, err := exec.LookPath("busybox")
		if err != nil {
			err = unavailableError{"there is no busybox (Debian: busybox-static)"}
		}
		return path, err
	}
	path := filepath.Join(cache, "busybox-"+m.name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	a := newAPT(cache, m)
	err := a.update()
	if err == nil {
		var deb string
		if deb, err = a.download("busybox-static"); err == nil {
			err = takeFile(deb, "./bin/busybox", path)
			if err != nil { // from Debian 13 on
				err = takeFile(deb, "./usr/bin/busybox", path)
			}
		}
	}
	if err != nil {
		return "", unavailableError{fmt.Sprintf("no busybox for %s: %v", m.name, err)}
	}
	return path, nil
}

// lock keeps two runs from filling the same cache.
func lock(name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", name, err)
	}
	return func() { f.Close() }, nil
}

func fetchKernel(cache, dir string, k kernel) (image, error) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return image{}, errors.New("there is no apt-get here to fetch it")
	}
	a := newAPT(cache, k.machine())
	if err := a.update(); err != nil {
		return image{}, err
	}
	pkg, err := a.kernelPackage(k)
	if err != nil {
		return image{}, err
	}
	release := strings.TrimPrefix(pkg.name, "linux-image-")
	path := filepath.Join(dir, "vmlinuz-"+release+"_"+pkg.version)
	if _, err := os.Stat(path); err != nil {
		if err := a.unpackKernel(pkg, path); err != nil {
			return image{}, err
		}
	}
	old, _ := filepath.Glob(filepath.Join(dir, "vmlinuz-*"))
	for _, other := range old {
		if other != path {
			os.Remove(other)
		}
	}
	return image{release: release, path: path}, nil
}

// apt is apt(8) for an architecture, with its own lists, cache and sources, apart from
// those of the system.
type apt struct{ dir, architecture string }

func newAPT(cache string, m machine) apt {
	dir := "apt"
	if m.name != runtime.GOARCH {
		dir += "-" + m.name
	}
	return apt{filepath.Join(cache, dir), m.name}
}

type pkg struct{ name, version string }

func (a apt) run(name string, args ...string) ([]byte, error) {
	settings := []string{
		"-q", "-o", "Dir::Etc::sourcelist=" + filepath.Join(a.dir, "sources.list"),
		"-o", "Dir::Etc::sourceparts=/dev/null", "-o", "Dir::Etc::preferences=/dev/null",
		"-o", "Dir::Etc::preferencesparts=/dev/null", "-o", "Dir::State=" + filepath.Join(a.dir, "state"),
		"-o", "Dir::State::status=/dev/null", "-o", "Dir::Cache=" + filepath.Join(a.dir, "cache"),
		"-o", "APT::Architecture=" + a.architecture, "-o", "APT::Architectures=" + a.architecture, "-o", "Acquire::Languages=none",
		"-o", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false", "-o", "APT::Sandbox::User=root",
		"-o", "Acquire::http::Timeout=20", "-o", "Acquire::Retries=2",
	}
	cmd := exec.Command(name, append(settings, args...)...)
	cmd.Dir = a.dir
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(complaint.String()), "\n")
		return nil, fmt.Errorf("%s %s: %w: %s", name, args[0], err, lines[len(lines)-1])
	}
	return out, nil
}

// update fetches the lists if they are older than [keepLists].
func (a apt) update() error {
	stamp := filepath.Join(a.dir, "updated")
	if s, err := os.Stat(stamp); err == nil && time.Since(s.ModTime()) < keepLists {
		return nil
	}
	for _, dir := range []string{"state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.dir, dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(a.dir, "sources.list"), []byte(sources()), 0o644); err != nil {
		return err
	}
	// apt-get fails if a mirror no longer has a suite, but it has fetched the lists of the
	// others. A missing kernel is noticed below.
	_, err := a.run("apt-get", "update")
	if lists, _ := filepath.Glob(filepath.Join(a.dir, "state/lists/*Packages*")); len(lists) == 0 {
		if err == nil {
			err = errors.New("apt-get update fetched no list")
		}
		return err
	}
	return os.WriteFile(stamp, nil, 0o644)
}

// sources returns a sources.list with the mirror of this system if it is a Debian, and with
// Debian's own otherwise.
func sources() string {
	mirror := map[string]string{"debian": "http://deb.debian.org/debian",
		"debian-security": "http://deb.debian.org/debian-security"}
	out, _ := exec.Command("apt-get", "indextargets", "--format", "$(REPO_URI)").Output()
	for uri := range strings.FieldsSeq(string(out)) {
		uri = strings.TrimSuffix(uri, "/")
		if i := strings.LastIndex(uri, "/"); mirror[uri[i+1:]] != "" {
			mirror[uri[i+1:]] = uri
		}
	}
	var text strings.Builder
	for _, s := range suites {
		fmt.Fprintf(&text, "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n",
			mirror[s.archive], s.suite)
	}
	return text.String()
}

// kernelPackage returns the package that the metapackage of this version depends on. apt
// prints the newest version first.
func (a apt) kernelPackage(k kernel) (pkg, error) {
	out, err := a.run("apt-cache", "show", k.metapackage)
	if err != nil {
		return pkg{}, err
	}
	for stanza := range strings.SplitSeq(string(out), "\n\n") {
		found := field(stanza, "Version")
		if found == "" || !strings.HasPrefix(found, k.version) {
			continue
		}
		for depends := range strings.SplitSeq(field(stanza, "Depends"), ",") {
			name, _, _ := strings.Cut(strings.TrimSpace(depends), " ")
			if strings.HasPrefix(name, "linux-image-") {
				return pkg{name, found}, nil
			}
		}
	}
	return pkg{}, fmt.Errorf("the mirror has no %s of version %s*", k.metapackage, k.version)
}

func field(stanza, name string) string {
	for line := range strings.Lines(stanza) {
		if value, ok := strings.CutPrefix(line, name+": "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// unpackKernel downloads a package and extracts the kernel. Newer releases have it as
// /usr/lib/modules/RELEASE/vmlinuz, in a separate package.
func (a apt) unpackKernel(p pkg, path string) error {
	release := strings.TrimPrefix(p.name, "linux-image-")
	var err error
	for _, name := range []string{p.name, "linux-binary-" + release} {
		var deb string
		if deb, err = a.download(name); err != nil {
			continue
		}
		for _, member := range []string{"./boot/vmlinuz-" + release, "./usr/lib/modules/" + release + "/vmlinuz"} {
			if err = takeFile(deb, member, path); err == nil {
				return os.Remove(deb)
			}
		}
		os.Remove(deb)
	}
	return fmt.Errorf("extracting the kernel from %s: %w", p.name, err)
}

func (a apt) download(name string) (deb string, err error) {
	if _, err := a.run("apt-get", "download", name); err != nil {
		return "", err
	}
	debs, _ := filepath.Glob(filepath.Join(a.dir, name+"_*.deb"))
	if len(debs) == 0 {
		return "", fmt.Errorf("apt-get download %s left no file", name)
	}
	return debs[0], nil
}

// takeFile extracts one file of a package. It uses a temporary name first, so that path is
// complete if it exists.
func takeFile(deb, member, path string) error {
	dir, err := os.MkdirTemp(filepath.Dir(path), "unpack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	unpack := exec.Command("sh", "-c", `dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" "$3"`, "sh", deb, dir, member)
	if out, err := unpack.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return os.Rename(filepath.Join(dir, member), path)
}
