package main_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Tests with container engines, each in namespaces of its own (testdata/containers/room).
// They need packages of some hundred megabytes: `make containers` installs these and sets
// MEMJAIL_CONTAINERS=all. TestOCIBundle, which needs only the runtimes, is always run.

func withEngines() bool { return os.Getenv("MEMJAIL_CONTAINERS") == "all" }

// engine runs a script of testdata/containers in an empty directory and returns its output.
func engine(t *testing.T, dir, script string, args ...string) string {
	t.Helper()
	argv := append([]string{"sh", copyTestFile(t, script, dir)}, args...)
	root := accounts()[0]
	o := job{as: root, dir: dir, argv: inRoom(t, root, dir, argv...), timeout: 4 * time.Minute}.run(t)
	if o.code != 0 || o.stderr != "" {
		t.Logf("%s: %v", script, o)
	}
	return o.stdout
}

// busyboxRoot makes the root directory of a small image.
func busyboxRoot(t *testing.T) string {
	t.Helper()
	dir := accounts()[0].workDir(t)
	ociBundle(t, accounts()[0], dir)
	return filepath.Join(dir, "rootfs")
}

// compareEngines compares what a script printed without memjail, the control, and with it:
// the lines are the same except that no memory was read, and those that are listed.
func compareEngines(t *testing.T, plain, wrapped string, lines map[string]string) {
	t.Helper()
	if n := strings.Count(plain, "ELF"); n < 3 {
		t.Fatalf("control: memory was read %d times:\n%s", n, plain)
	}
	normal := func(text string) (list []string) {
		for line := range strings.Lines(strings.ReplaceAll(text, "ELF", "")) {
			list = append(list, strings.Join(strings.Fields(line), " "))
		}
		return list
	}
	want := normal(plain)
	for i, line := range want {
		if name, _, _ := strings.Cut(line, ":"); lines[name] != "" {
			want[i] = name + ": " + lines[name]
		}
	}
	if strings.Contains(wrapped, "ELF") || !slices.Equal(normal(wrapped), want) {
		t.Errorf("without memjail:\n%s\nwith memjail:\n%s", plain, wrapped)
	}
}

func TestContainersDocker(t *testing.T) {
	if !withEngines() {
		return
	}
	root := busyboxRoot(t)
	plain := engine(t, accounts()[0].workDir(t), "docker.sh", "runc", memjailOCI(t), root)
	wrapped := engine(t, accounts()[0].workDir(t), "docker.sh", "memjail", memjailOCI(t), root)
	const refused = "memjail: the container cannot run under memjail: "
	for _, reason := range []string{"the container's seccomp profile refuses landlock_add_rule",
		"the container has no /dev of its own"} {
		if line := refused + reason + "\n"; strings.Contains(wrapped, line) {
			wrapped = strings.Replace(wrapped, line, "", 1)
		} else {
			t.Errorf("Docker does not say: %s", line)
		}
	}
	compareEngines(t, plain, wrapped, nil)
}

func TestContainersPodman(t *testing.T) {
	if !withEngines() {
		return
	}
	root, dir := busyboxRoot(t), accounts()[0].workDir(t)
	policy, settings := filepath.Join(dir, "build.toml"), filepath.Join(dir, "oci.toml")
	for name, text := range map[string]string{
		policy:                          "version = 1\nextends = [\"./base.toml\"]\n",
		settings:                        fmt.Sprintf("policies = [%q]\n", policy),
		filepath.Join(dir, "base.toml"): "version = 1\n[memory]\ncode-files = \"allow\"\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	runc, err := exec.LookPath("runc")
	if err != nil {
		t.Fatal(err)
	}
	for _, flags := range [][]string{nil, {"--runtime-flag", "runtime=crun"}} {
		flags = append(flags, "--runtime-flag", "config="+settings)
		plain := engine(t, accounts()[0].workDir(t), "podman.sh", runc, root, policy)
		wrapped := engine(t, accounts()[0].workDir(t), "podman.sh",
			append([]string{memjailOCI(t), root, policy}, flags...)...)
		compareEngines(t, plain, wrapped, map[string]string{
			"health check":            "status 0", // it fails if it reads memory
			"signal from exec":        "status 1", // ipc.signals
			"annotation, not allowed": "not among what the administrator allows",
		})
	}
}

func TestContainersContainerd(t *testing.T) {
	if !withEngines() {
		return
	}
	client := filepath.Join(accounts()[0].workDir(t), "cri")
	build := exec.Command("go", "build", "-o", client, ".")
	build.Dir = filepath.Join("..", "..", "testdata", "containers", "cri")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", build.Dir, err, out)
	}
	image := filepath.Join(filepath.Dir(client), "image.tar")
	writeImage(t, busyboxRoot(t), "docker.io/library/busybox:1", image)
	runc, err := exec.LookPath("runc")
	if err != nil {
		t.Fatal(err)
	}
	outputs := map[string]string{}
	for runtime, binary := range map[string]string{"runc": runc, "memjail": memjailOCI(t)} {
		dir := accounts()[0].workDir(t)
		config := copyTestFile(t, "containerd.toml", dir)
		text, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.ReplaceAll(text, []byte("@DIR@"), []byte(dir))
		text = bytes.ReplaceAll(text, []byte("/usr/bin/memjail-oci"), []byte(memjailOCI(t)))
		if err := os.WriteFile(config, text, 0o644); err != nil {
			t.Fatal(err)
		}
		outputs[runtime] = engine(t, dir, "containerd.sh", runtime, binary, image, config, client)
	}
	compareEngines(t, outputs["runc"], outputs["memjail"], map[string]string{
		"pod": "handler memjail", "annotation, not allowed": "started false"})
}

// writeImage writes an OCI image layout with one layer, as a tar file.
func writeImage(t *testing.T, root, name, file string) {
	t.Helper()
	layer, err := exec.Command("tar", "-C", root, "-c", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	blobs := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)}
	blob := func(kind string, data []byte) map[string]any {
		sum := fmt.Sprintf("%x", sha256.Sum256(data))
		blobs["blobs/sha256/"+sum] = data
		return map[string]any{"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + sum,
			"size": len(data)}
	}
	encode := func(v any) []byte {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	content := blob("layer.v1.tar", layer)
	config := blob("config.v1+json", encode(map[string]any{"architecture": "amd64", "os": "linux",
		"config": map[string]any{"Cmd": []string{"sleep", "1000"}, "Env": []string{"PATH=/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []any{content["digest"]}}}))
	manifest := blob("manifest.v1+json", encode(map[string]any{"schemaVersion": 2,
		"mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": []any{content}}))
	manifest["annotations"] = map[string]string{"io.containerd.image.name": name}
	blobs["index.json"] = encode(map[string]any{"schemaVersion": 2, "manifests": []any{manifest}})
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	for name, data := range blobs {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestContainersServices serves a load from servers of Debian's packages in containers.
// MEMJAIL_CONTAINERS_ROOT is a root directory with them, which otherwise is made here.
func TestContainersServices(t *testing.T) {
	if !withEngines() {
		return
	}
	root := os.Getenv("MEMJAIL_CONTAINERS_ROOT")
	if root == "" {
		root = filepath.Join(accounts()[0].workDir(t), "root")
		bootstrap := exec.Command("debootstrap", "--variant=minbase", "--include=nginx-light,redis-server,postgresql",
			"bookworm", root)
		if out, err := bootstrap.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", bootstrap, err, out)
		}
	}
	plain := engine(t, accounts()[0].workDir(t), "services.sh", "runc", memjailOCI(t), root)
	wrapped := engine(t, accounts()[0].workDir(t), "services.sh", "memjail", memjailOCI(t), root)
	if strings.Count(plain, "memory: open") != 3 {
		t.Fatalf("control: %s", plain)
	}
	if want := strings.ReplaceAll(plain, "memory: open", "memory: "); wrapped != want {
		t.Errorf("without memjail:\n%s\nwith memjail:\n%s", plain, wrapped)
	}
	for _, line := range []string{"nginx: 2000 of 2000", "redis: 2\n", "processed: 1000/1000"} {
		if !strings.Contains(wrapped, line) {
			t.Errorf("with memjail not %q:\n%s", line, wrapped)
		}
	}
}
