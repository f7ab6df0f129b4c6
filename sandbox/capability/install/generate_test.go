package install

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestProgramsAreCurrent compiles the programs again and compares every byte.
func TestProgramsAreCurrent(t *testing.T) {
	if _, err := exec.LookPath("clang"); err != nil {
		t.Skip("this machine has no clang")
	}
	made, err := os.ReadFile("bpf/CLANG")
	if err != nil {
		t.Fatal(err)
	}
	version, err := exec.Command("clang", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	if have, _, _ := strings.Cut(string(version), "\n"); have != strings.TrimSpace(string(made)) {
		t.Skipf("the programs were compiled by %s, this is %s", bytes.TrimSpace(made), have)
	}
	source, err := os.ReadFile("generate.go")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(source)) {
		command, ok := strings.CutPrefix(line, "//go:generate go tool bpf2go ")
		if !ok {
			continue
		}
		dir := t.TempDir()
		generate := exec.Command("sh", "-c", "exec go tool bpf2go -output-dir '"+dir+"' "+command)
		generate.Env = append(os.Environ(), "GOPACKAGE=install")
		if out, err := generate.CombinedOutput(); err != nil {
			t.Fatalf("compiling the programs: %v\n%s", err, out)
		}
		for _, name := range []string{"programs_bpfel.o", "programs_bpfel.go"} {
			have, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(have, want) {
				t.Errorf("%s is not what bpf/capability.bpf.c says: run make generate", name)
			}
		}
		return
	}
	t.Fatal("generate.go does not say how to compile the programs")
}
