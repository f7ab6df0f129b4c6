package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTracer: a debugger sets a breakpoint in a position-independent program, for which
// it reads auxv and maps of its tracee. Those of a process that it does not trace stay
// closed, and so does all memory by file.
func TestTracer(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		as.needs(t, "gdb", "gcc")
		dir := as.workDir(t)
		source := filepath.Join(dir, "a.c")
		if err := os.WriteFile(source, []byte("int main(void) { return 0; }\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("gcc", "-g", "-pie", "-fPIE", "-o", filepath.Join(dir, "a"),
			source).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		gdb := []string{"gdb", "-nx", "-batch", "-ex", "break main", "-ex", "run", "-ex", "info proc mappings", "./a"}
		const hit = "Breakpoint 1, main"
		if o := (job{as: as, dir: dir, argv: gdb}).run(t); !strings.Contains(o.stdout, hit) {
			t.Fatalf("control: %v", o)
		}
		for _, command := range []string{"run", "exec"} {
			memjail := []string{memjailPath(t), command, "--allow", "ptrace=children", "--"}
			o := job{as: as, dir: dir, argv: append(memjail, gdb...)}.run(t)
			if !strings.Contains(o.stdout, hit) || !strings.Contains(o.stdout, "libc.so") {
				t.Errorf("%s: no breakpoint, or no mappings: %v", command, o)
			}
			o = job{as: as, dir: dir,
				argv: append(memjail, "/bin/sh", "-c",
					"sleep 5 & cat /proc/$!/auxv | wc -c; cat /proc/$!/maps; kill $!")}.run(t)
			if !strings.Contains(o.stderr, "auxv: Permission denied") ||
				!strings.Contains(o.stderr, "maps: Permission denied") {
				t.Errorf("%s: a process that nobody traces: %v", command, o)
			}
		}
	})
}
