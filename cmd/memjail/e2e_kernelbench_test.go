package main_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestKernelBenchmark counts the instructions of real programs inside and outside on one
// kernel, in one run, for `make kernels-bench`; docs/capability.md has the figures.
func TestKernelBenchmark(t *testing.T) {
	if os.Getenv("MEMJAIL_KERNELS") != "bench" {
		return // it takes minutes, and says nothing about right or wrong
	}
	bin := filepath.Join(t.TempDir(), "bench")
	build := exec.Command("go", "build", "-trimpath", "-o", bin, "./testdata/kernels/bench")
	build.Dir, build.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building testdata/kernels/bench: %v\n%s", err, out)
	}
	files := filesUsedBy(t, bin)
	files["/bin/bench"], files["/usr/local/bin/memjail"] = bin, memjailPath(t)
	for _, kernel := range []string{"6.1", "6.12"} {
		t.Run(kernel, func(t *testing.T) {
			const script = "export HOME=/root; mkdir /tmp/w && bench prepare /tmp/w && memjail " +
				"capability install && bench measure /tmp/w 3"
			out, status := guest{kernel: kernel, memory: 2048, limit: 25 * time.Minute, files: files,
				instructions: true}.boot(t, "sh", "-c", script)
			if status != 0 || strings.Count(out, "\n| ") < 3 {
				t.Errorf("status %d", status)
			}
			t.Log(out)
		})
	}
}

// filesUsedBy runs all cases here and returns the files that they open, execute or look
// at, by the names that they use: what a guest needs to run the same.
func filesUsedBy(t *testing.T, bench string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	trace := filepath.Join(dir, "trace")
	cmd := exec.Command("strace", "-f", "-qq", "-s", "4096", "-e", "trace=%file", "-o", trace, bench, "all", dir)
	cmd.Env = append(os.Environ(), "HOME="+dir, "PATH=/usr/bin:/bin")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("running the cases here: %v\n%s", err, out)
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for line := range bytes.Lines(text) {
		for _, match := range quotedPath.FindAllSubmatch(line, -1) {
			path := filepath.Clean(string(match[1]))
			s, err := os.Stat(path)
			if err != nil || !s.Mode().IsRegular() || strings.HasPrefix(path, dir) || notForGuests.MatchString(path) {
				continue
			}
			files[path] = path
		}
	}
	return files
}

var (
	quotedPath   = regexp.MustCompile(`"(/[^"\\]*)"`)
	notForGuests = regexp.MustCompile(`^/(proc|sys|dev|tmp|root|home|etc/(passwd|group)$)`)
)
