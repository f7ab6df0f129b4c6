package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
)

// published returns the image of an architecture as it is in the archive.
func published(t *testing.T, archive, arch string) v1.Image {
	t.Helper()
	dir := t.TempDir()
	command(t, "tar", "-xf", archive, "-C", dir)
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	images, err := partial.FindImages(mustIndex(t, index), func(d v1.Descriptor) bool {
		return d.Platform != nil && d.Platform.OS == "linux" && d.Platform.Architecture == arch
	})
	if err != nil || len(images) != 1 {
		t.Fatalf("%d images for %s, %v", len(images), arch, err)
	}
	return images[0]
}

// mustIndex returns the only index that an index lists.
func mustIndex(t *testing.T, index v1.ImageIndex) v1.ImageIndex {
	t.Helper()
	list, err := partial.FindIndexes(index, func(v1.Descriptor) bool { return true })
	if err != nil || len(list) != 1 {
		t.Fatalf("%d indexes, %v", len(list), err)
	}
	return list[0]
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return string(out)
}

// TestImage unpacks the image as an engine does and runs it with runc: memjail itself, a
// program under it, and the attempts, which have their controls.
func TestImage(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the namespaces that runc runs in here are made by root")
	}
	image := published(t, one(t, packages(t, "0.1.0"), "memjail-*-oci.tar"), "amd64")
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	bundle := t.TempDir()
	rootfs := filepath.Join(bundle, "rootfs")
	if err := os.Mkdir(rootfs, 0o755); err != nil {
		t.Fatal(err)
	}
	unpack := exec.Command("tar", "-x", "-C", rootfs)
	content := mutate.Extract(image)
	defer content.Close()
	unpack.Stdin = content
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", unpack, err, out)
	}
	command(t, "runc", "spec", "--bundle", bundle)
	room, err := filepath.Abs(filepath.Join("..", "..", "testdata", "containers", "room"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, want string }{
		{"version", "memjail 0.1.0\n"},
		{"run -- /usr/bin/memjail version", "memjail 0.1.0\n"},
		{"probe --only proc-mem/open/self/read", " 0 open"},
	} {
		argv := append(config.Config.Entrypoint, strings.Fields(c.args)...)
		setCommand(t, filepath.Join(bundle, "config.json"), argv)
		if out := command(t, "bash", room, "runc", "run", "--bundle", bundle, "image"); !strings.Contains(out, c.want) {
			t.Errorf("%s: %s", c.args, out)
		}
	}
}

// setCommand puts the command into a bundle's config.json.
func setCommand(t *testing.T, file string, argv []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var spec map[string]any
	if err := json.Unmarshal(text, &spec); err != nil {
		t.Fatal(err)
	}
	process := spec["process"].(map[string]any)
	process["args"], process["terminal"] = argv, false
	root := spec["root"].(map[string]any) // the probe writes below /tmp
	root["readonly"] = false
	if text, err = json.Marshal(spec); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
}
