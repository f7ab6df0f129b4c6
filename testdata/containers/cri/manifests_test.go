package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	node "k8s.io/api/node/v1"
	"sigs.k8s.io/yaml"
)

// documents decodes the documents of a file into the types of their kinds. An unknown field
// is an error.
func documents(t *testing.T, name string) map[string]any {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "kubernetes", name))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]any{}
	for _, doc := range bytes.Split(text, []byte("\n---\n")) {
		var kind struct {
			Kind string `json:"kind"`
		}
		if err := yaml.Unmarshal(doc, &kind); err != nil {
			t.Fatal(err)
		}
		types := map[string]any{"RuntimeClass": &node.RuntimeClass{}, "Pod": &core.Pod{}, "DaemonSet": &apps.DaemonSet{},
			"ConfigMap": &core.ConfigMap{}}
		v, ok := types[kind.Kind]
		if !ok {
			t.Fatalf("%s: kind %q", name, kind.Kind)
		}
		if err := yaml.UnmarshalStrict(doc, v); err != nil {
			t.Errorf("%s: %s: %v", name, kind.Kind, err)
		}
		found[kind.Kind] = v
	}
	return found
}

func TestRuntimeClass(t *testing.T) {
	docs := documents(t, "runtimeclass.yaml")
	class, pod := docs["RuntimeClass"].(*node.RuntimeClass), docs["Pod"].(*core.Pod)
	if *pod.Spec.RuntimeClassName != class.Name || class.Handler != "memjail" {
		t.Errorf("class %q, handler %q, pod of class %q", class.Name, class.Handler, *pod.Spec.RuntimeClassName)
	}
}

// TestInstaller runs the installer's script on a directory instead of a node.
func TestInstaller(t *testing.T) {
	docs := documents(t, "installer.yaml")
	set, settings := docs["DaemonSet"].(*apps.DaemonSet), docs["ConfigMap"].(*core.ConfigMap)
	if set.Spec.Selector.MatchLabels["app"] != set.Spec.Template.Labels["app"] {
		t.Error("the selector does not select the pods")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"memjail": "program", "oci.toml": settings.Data["oci.toml"]} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	command := set.Spec.Template.Spec.InitContainers[0].Command
	script := bytes.ReplaceAll([]byte(command[len(command)-1]), []byte("/usr/bin/memjail"), []byte(dir+"/memjail"))
	script = bytes.ReplaceAll(script, []byte("/settings/"), []byte(dir+"/"))
	for range 2 { // also over an installation
		cmd := exec.Command("sh", "-ec", string(script))
		cmd.Env = append(os.Environ(), "HOST="+dir+"/host")
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for name, want := range map[string]string{"usr/local/bin/memjail-oci": "program",
		"etc/memjail/oci.toml": settings.Data["oci.toml"]} {
		if got, err := os.ReadFile(filepath.Join(dir, "host", name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
