package main_test

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkStart compares the start of a program that does nothing with and
// without memjail. The native run stands beside each mediated one, so that the
// ratio is of one moment on one machine.
func BenchmarkStart(b *testing.B) {
	memjail := benchBinary(b, ".")
	forms := []struct {
		name string
		args []string
	}{
		{"run", []string{memjail, "run", "-q", "--"}},
		{"run-no-write", []string{memjail, "run", "-q", "--memory", "no-write", "--"}},
	}
	for _, form := range forms {
		b.Run(form.name, func(b *testing.B) {
			var native time.Duration
			for b.Loop() {
				b.StopTimer()
				start := time.Now()
				benchRun(b, "/bin/true")
				native += time.Since(start)
				b.StartTimer()
				benchRun(b, append(form.args, "/bin/true")...)
			}
			b.ReportMetric(float64(native.Nanoseconds())/float64(b.N), "native-ns/op")
			b.ReportMetric(float64(b.Elapsed())/float64(native), "x-native")
		})
	}
}

// BenchmarkOpen compares opening and closing a file with and without memjail:
// one that the supervisor leaves to the kernel, and one of procfs that it opens
// for the program.
func BenchmarkOpen(b *testing.B) {
	memjail := benchBinary(b, ".")
	open := benchBinary(b, filepath.Join("..", "..", "testdata", "bench", "open"))
	tests := []struct {
		name, file string
		flags      []string
	}{
		{"ordinary", "/etc/passwd", nil},
		{"ordinary-no-write", "/etc/passwd", []string{"--memory", "no-write"}},
		{"procfs", "/proc/self/maps", nil},
	}
	for _, test := range tests {
		b.Run(test.name, func(b *testing.B) {
			// Too few opens would measure the first, which finds everything cold.
			count := max(b.N, 1000)
			inside := append([]string{memjail, "run", "-q"}, test.flags...)
			inside = append(inside, "--", open, test.file, strconv.Itoa(count))
			native := benchNanoseconds(b, open, test.file, strconv.Itoa(count))
			mediated := benchNanoseconds(b, inside...)
			b.ReportMetric(mediated/float64(count), "ns/op")
			b.ReportMetric(native/float64(count), "native-ns/op")
			b.ReportMetric(mediated/native, "x-native")
		})
	}
}

// benchBinary builds a program as the Makefile does.
func benchBinary(b *testing.B, dir string) string {
	b.Helper()
	binary := filepath.Join(b.TempDir(), "program")
	build := exec.Command("go", "build", "-trimpath", "-o", binary, ".")
	build.Dir = dir
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("building %s: %v\n%s", dir, err, out)
	}
	return binary
}

func benchRun(b *testing.B, args ...string) string {
	b.Helper()
	out, err := exec.Command(args[0], args[1:]...).Output()
	if err != nil {
		b.Fatalf("%q: %v", args, err)
	}
	return string(out)
}

func benchNanoseconds(b *testing.B, args ...string) float64 {
	b.Helper()
	out := benchRun(b, args...)
	ns, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
	if err != nil {
		b.Fatalf("%q printed %q", args, out)
	}
	return ns
}
