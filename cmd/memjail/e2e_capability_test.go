package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// buildCapabilityAttack makes testdata/attacks/capability/attack.c, a static program.
var buildCapabilityAttack = sync.OnceValues(func() (string, error) {
	dir, err := e2eDir()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "attack-capability")
	out, err := exec.Command("gcc", "-O1", "-Wall", "-Wno-unused-result", "-static-pie", "-pthread", "-z",
		"noexecstack", "-o", bin,
		attackSource("capability/attack.c")).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("compiling the attacks: %w\n%s", err, out)
	}
	return bin, nil
})

func capabilityGuest(t *testing.T, kernel, arguments string) guest {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("this machine has no gcc")
	}
	attack, err := buildCapabilityAttack()
	if err != nil {
		t.Fatal(err)
	}
	return guest{kernel: kernel, append: arguments, memory: 1024, limit: 20 * time.Minute, files: map[string]string{
		"/usr/local/bin/memjail": memjailPath(t), "/bin/attack": attack,
		"/capability.sh": kernelFile(t, "capability.sh")}}
}

// sections splits what capability.sh printed at its headings.
func sections(out string) map[string][]string {
	all, title := map[string][]string{}, ""
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "== "); ok {
			title = name
		} else if line != "" {
			all[title] = append(all[title], line)
		}
	}
	return all
}

// harmlessAttempts must succeed for a process that has dropped the capability, too.
var harmlessAttempts = []string{"receive_plain", "receive_own", "own_files", "own_thread_by_number", "own_core_limit",
	"own_id_maps", "child_id_maps", "prctl_answers", "supervisor_of_it", "reused_tasks", "counted_before",
	"shared_until_exec"}

// bareAttempts succeed after a bare prctl; docs/capability.md explains each of them.
var bareAttempts = []string{"own_process_vm", "outside_fd", "ring_inherited", "outside_descriptor_kept"}

// TestCapability attacks the memory capability on stock kernels: every attempt
// succeeds before it is installed, and none does by or on a process that dropped it.
func TestCapability(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		kernel, arguments string
		short             bool
	}{
		{"6.1", "", true}, {"6.1", "", false}, {"6.12", "", false}, {"6.12-rt", "", false}, {"newest", "", false},
	} {
		g := guest{always: test.short}
		if !g.wanted() {
			continue
		}
		name := test.kernel
		command := []string{"sh", "/capability.sh"}
		if test.short {
			name, command = name+" short", append(command, "short")
		}
		t.Run(name, func(t *testing.T) {
			out, _ := capabilityGuest(t, test.kernel, test.arguments).boot(t, command...)
			got := sections(out)
			control, dropped := got["control"], got["drop"]
			if len(control) < 10 || len(dropped) < 10 {
				t.Fatalf("the attempts were not made:\n%s", out)
			}
			attempts := 0
			for _, line := range control {
				name, outcome, ok := strings.Cut(line, " ")
				if !ok || strings.Contains(outcome, " ") {
					continue // not an attempt
				}
				attempts++
				if outcome != "open" {
					t.Errorf("control: %s; it proves nothing", line)
				}
				want := name + " closed"
				if slices.Contains(harmlessAttempts, name) {
					want = name + " open"
				}
				if !slices.Contains(dropped, want) && !slices.Contains(bareAttempts, name) {
					t.Errorf("missing %q", want)
				}
			}
			if attempts < 12 {
				t.Errorf("%d attempts", attempts)
			}
			if !test.short {
				harmless := len(harmlessAttempts) + len(bareAttempts)
				record(t, rowAttempts, test.kernel, fmt.Sprintf("%d of %d closed", attempts-harmless,
					attempts-harmless))
			}
			for _, want := range capabilityLines(test.short) {
				if !strings.Contains(out, want) {
					t.Errorf("missing %q", want)
				}
			}
			// Controls, and what no kernel of these lacks a hook for.
			for _, unwanted := range []string{"while taken out: race: 0 of", "not in force", "a user can: ",
				"\nuninstalled: droppers: 0 of 0", "uninstalled by force: droppers: 0 of"} {
				if strings.Contains(out, unwanted) {
					t.Errorf("unexpected %q", unwanted)
				}
			}
			if t.Failed() {
				t.Log(out)
			}
		})
	}
}

// capabilityLines returns what capability.sh has to print in addition to the attempts.
func capabilityLines(short bool) []string {
	lines := []string{"ftrace open 0", "ftrace closed 1", "other settings open",
		"kernel.ftrace_enabled is 0", "install while ftrace is off: status 3",
		"root is needed", "install as a user: status 125",
		"\ninstall: status 0", "root lists the pins: 1, and the FIFO", "\nstatus: status 0",
		"status as a user: status 0",
		"living: 100 have dropped it, 100 threads", "ended: 100 have dropped it, 0 threads",
		"== still open\n" + strings.Join(bareAttempts, " open\n") + " open\ninside_mem open"}
	if short {
		return lines
	}
	return append(lines, "while installed again: race: 0 of", "opens, 0 of",
		"a drop while it is being uninstalled: droppers: 0 of 0 lost", "\nuninstalled: droppers: 0 of ",
		"a user who wants to keep others from it: Operation not permitted", "dropped: own_mem closed",
		"would get it back", "uninstall while it lives: status 125",
		"upgrade: status 0", "after the upgrade: own_mem closed",
		"outsiders now: outside_fd closed, without the drop: outside_fd open",
		"after umount of the pins: own_mem closed", "new drops then: own_mem closed",
		"the pins are gone", "uninstall without the pins: status 125", "uninstall by force: status 0",
		"after the end of the holder, too: own_mem open", // the control of the two above
		"\nstatus: status 3", "installed again: status 0", "\nuninstall: status 0", "after that: own_mem open")
}

// TestCapabilityUnsupported: a kernel that cannot have the capability says so, and
// nothing of it stays.
func TestCapabilityUnsupported(t *testing.T) {
	const script = "memjail capability install 2>&1; echo install $?; memjail capability status; echo " +
		"status $?; ls -A /sys/fs/bpf"
	for _, test := range []struct{ name, kernel, arguments, says string }{
		{"too old", "5.10", "", "BPF LSM is not active"},
		{"left out at boot", "6.1", "lsm=lockdown,landlock,yama", "BPF LSM is not active"},
		{"lockdown", "6.1", "lockdown=confidentiality", "lockdown is \"confidentiality\""},
		{"lockdown", "6.12", "lockdown=confidentiality", "lockdown is \"confidentiality\""},
	} {
		if !(guest{}).wanted() {
			continue
		}
		t.Run(test.kernel+" "+test.name, func(t *testing.T) {
			out, _ := capabilityGuest(t, test.kernel, test.arguments).boot(t, "sh", "-c", script)
			record(t, rowUnsupported, test.kernel, "refused")
			if !strings.Contains(out, test.says) || !strings.HasSuffix(strings.TrimSpace(out),
				"install 3\nnot installed (as root: memjail capability install)\nstatus 3") {
				t.Errorf("got\n%s", out)
			}
		})
	}
}

// TestCapabilityHooks: where other BPF programs leave no room at a hook, nothing is half
// installed; and where a mark cannot be stored, a fork fails instead of losing it.
func TestCapabilityHooks(t *testing.T) {
	const full = "too many BPF programs are already attached to the LSM hook "
	for _, test := range []struct{ kernel, argument string }{{"6.1", "hooks"}, {"6.12", "all"}, {"newest", "hooks"}} {
		if !(guest{}).wanted() {
			continue
		}
		t.Run(test.kernel, func(t *testing.T) {
			bin := filepath.Join(t.TempDir(), "hooks")
			build := exec.Command("go", "build", "-trimpath", "-o", bin, "./testdata/kernels/hooks")
			build.Dir, build.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("building testdata/kernels/hooks: %v\n%s", err, out)
			}
			g := capabilityGuest(t, test.kernel, "")
			g.memory = 2500
			g.files["/bin/hooks"], g.files["/hooks.sh"] = bin, kernelFile(t, "hooks.sh")
			out, _ := g.boot(t, "sh", "/hooks.sh", test.argument)
			record(t, rowHooks, test.kernel, "refused, or said")
			want := []string{full + "file_open\ncore hook full: status 3, left 0\n", "room for one: status 0",
				"not in force, limit: another process of the same user can make a process dump core (" + full +
					"task_setrlimit)", "optional hook full: status 0",
				"  not in force, limit: another process of the same user can make a process dump core\n",
				"\nstatus: 0", "handles: Operation not supported"}
			if test.argument == "all" {
				want = append(want, "\nunlimited children: 300 of 300 born, 0 with memory open\n")
				_, limited, _ := strings.Cut(out, "\nlimited children: ")
				if !strings.HasSuffix(strings.TrimSpace(limited), " of 3000 born, 0 with memory open") {
					t.Errorf("with no memory for marks: %q", limited)
				}
				if strings.HasPrefix(limited, "3000 of") {
					t.Error("no fork failed: nothing is proven about marks that cannot be stored")
				}
			}
			for _, w := range want {
				if !strings.Contains(out, w) {
					t.Errorf("missing %q", w)
				}
			}
			if t.Failed() {
				t.Log(out)
			}
		})
	}
}

// TestCapabilityRace opens memory and starts children in a race with everything else that a
// preemptible kernel does: the mark is never missed, in a million tries and more.
func TestCapabilityRace(t *testing.T) {
	const script = "attack control race 3; memjail capability install && attack drop race $0"
	for _, kernel := range []string{"6.1", "6.12"} {
		if !(guest{}).wanted() {
			continue
		}
		t.Run(kernel, func(t *testing.T) {
			out, _ := capabilityGuest(t, kernel, "preempt=full").boot(t, "sh", "-c", script, "180")
			var lines []string
			for line := range strings.Lines(out) {
				if strings.HasPrefix(line, "race: ") {
					lines = append(lines, strings.TrimSpace(line))
				}
			}
			if len(lines) != 2 || strings.HasPrefix(lines[0], "race: 0 ") || strings.Contains(lines[0], ", 0 of") {
				t.Fatalf("the control: %q\n%s", lines, out)
			}
			record(t, rowRace, kernel, "lost: "+strings.TrimPrefix(lines[1], "race: "))
			var lost, opens, children int
			if _, err := fmt.Sscanf(lines[1], "race: %d of %d opens, %d of", &lost, &opens,
				&children); err != nil || lost+children > 0 || opens < 1_000_000 {
				t.Errorf("lost, or too few tries: %s (%v)", lines[1], err)
			}
		})
	}
}

// TestCapabilityShape holds the promise of run and exec where the kernel decides what of
// procfs may be read: as root, as a user, inside another memjail, with a supervisor for
// what may be written and without one.
func TestCapabilityShape(t *testing.T) {
	for _, kernel := range []string{"6.1", "6.12", "newest"} {
		if !(guest{}).wanted() {
			continue
		}
		t.Run(kernel, func(t *testing.T) {
			g := capabilityGuest(t, kernel, "")
			record(t, rowShape, kernel, "closed; 0 of 200,000 opens fail with EINTR")
			g.memory = 1500
			g.files["/bin/eintr"] = staticAttack(t, "capability/eintr.c")
			g.files["/shape.sh"] = kernelFile(t, "shape.sh")
			out, _ := g.boot(t, "sh", "/shape.sh")
			got := sections(out)
			if len(got["control"]) < 5 {
				t.Fatalf("no control:\n%s", out)
			}
			if slices.ContainsFunc(got["control"][:5],
				func(line string) bool { return !strings.HasSuffix(line, ": open") }) {
				t.Errorf("the control: %q", got["control"])
			}
			want := []string{"memory to write: closed", "memory to read: closed", "maps: open",
				"of another: closed", "status of another: open"}
			for _, who := range []string{"root", "user"} {
				for _, command := range []string{"run -q", "exec -q", "run -q -p /tmp/writes-nothing.toml",
					"run -q -- memjail run -q"} {
					comm := "comm: renamed"
					if strings.HasSuffix(command, ".toml") {
						comm = "comm: sh"
					}
					if lines := got[who+" "+command]; !slices.Equal(lines, append(slices.Clone(want), comm)) {
						t.Errorf("%s %s: %q", who, command, lines)
					}
				}
				more := strings.Join(got[who+" more"], "\n") + "\n"
				for _, line := range []string{"explained: capability capability landlock supervisor\n",
					"memfds: 0\n", "shown: the memory capability decides\n",
					"examined: 1\n", "shape: the memory capability decides\n",
					"shape without a supervisor: none can be written (no supervisor)\n",
					"shape without it: a supervisor grants its harmless files\n",
					"proc can be listed under path rules: 1\n",
					"procfs mounted elsewhere:\n", "interrupted: 0 of 200000 opens failed, interrupted\n"} {
					if !strings.Contains(more, line) {
						t.Errorf("%s: missing %q in %q", who, line, more)
					}
				}
			}
			for _, line := range []string{"procfs mounted elsewhere, outside: open",
				"interrupted, outside: 0 of 20000"} {
				if !strings.Contains(out, line) {
					t.Errorf("missing %q", line)
				}
			}
			if strings.Contains(out, "interrupted, with a supervisor: 0 of") {
				t.Log("no open failed under a supervisor either: this machine is too fast for the attempt")
			}
		})
	}
}

// TestDrop: memjail drop becomes its command, which has dropped the capability and keeps
// everything else.
func TestDrop(t *testing.T) {
	const script = `memjail capability install || exit
exec 9</proc/self/mem; memjail drop -- true 2>&1; echo "held: $?"; exec 9<&-
for kind in nothing ring userfaultfd perf; do
	for command in "drop" "run -q" "exec -q"; do
		attack hold $kind memjail $command -- true 2>/tmp/said; echo "$kind before $command: $?"
		grep -c "$kind" /tmp/said
	done
done
for command in "drop" "run -q" "exec -q"; do
	attack count memjail $command -- true; echo "counted $command: $?"
	attack record memjail $command -- true 2>/tmp/said; echo "recorded $command: $?"
	grep -c "perf" /tmp/said
done
for who in root user; do
	as() { if [ $who = root ]; then sh -c "$1"; else su user -c "$1"; fi; }
	as "attack control own_process_vm own_mem"
	as "memjail drop -- attack control own_process_vm own_mem own_files" | sed 's/^/dropped: /'
	as "memjail drop -- sh -c 'exit 5'"; echo "$who exit: $?"
	as "memjail drop -- nosuch" 2>/dev/null; echo "$who missing: $?"
	as "memjail drop -- /etc/passwd" 2>/dev/null; echo "$who not executable: $?"
	as "memjail drop -- sh -c 'kill \$\$'" 2>/dev/null; echo "$who killed: $?"
	as "memjail drop -- sh -c 'ulimit -c; cat /proc/self/coredump_filter'" | tr '\n' ' '; echo
done
memjail drop --keep-capabilities -- true 2>&1
memjail drop -- memjail run -q -- sh -c 'head -n 1 /proc/self/maps | wc -l; (exec 3</proc/self/mem) 2>/dev/null || echo nested'`
	if !(guest{}).wanted() {
		return
	}
	record(t, rowDrop, "6.1", "closed")
	out, _ := capabilityGuest(t, "6.1", "").boot(t, "sh", "-c", script)
	for _, who := range []string{"root", "user"} {
		for _, line := range []string{" exit: 5\n", " missing: 127\n", " not executable: 126\n", " killed: 143\n"} {
			if !strings.Contains(out, who+line) {
				t.Errorf("missing %q", who+line)
			}
		}
	}
	for _, command := range []string{"drop", "run -q", "exec -q"} {
		for _, line := range []string{"counted " + command + ": 0\n", "recorded " + command + ": 125\n1\n"} {
			if !strings.Contains(out, line) {
				t.Errorf("missing %q", line)
			}
		}
	}
	for line, count := range map[string]int{"\nown_process_vm open\nown_mem open\n": 2,
		"dropped: own_process_vm closed\ndropped: own_mem closed\ndropped: own_files open\n": 2,
		"which gives access to memory\nheld: 125\n":                                          1,
		"\n0 00000000 \n": 2, "warning: root keeps its Linux capabilities": 1, "\n1\nnested\n": 1} {
		if got := strings.Count(out, line); got != count {
			t.Errorf("%q %d times, want %d", line, got, count)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

// staticAttack builds a program of testdata/attacks without libraries.
func staticAttack(t *testing.T, source string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "attack")
	if out, err := exec.Command("gcc", "-O1", "-Wall", "-static", "-o", bin,
		attackSource(source)).CombinedOutput(); err != nil {
		t.Fatalf("compiling %s: %v\n%s", source, err, out)
	}
	return bin
}

// TestCapabilitySnippets runs what docs/capability.md gives to runtimes in C, Rust and
// Python: before the capability is installed it does nothing, afterwards it drops it.
func TestCapabilitySnippets(t *testing.T) {
	if !(guest{}).wanted() {
		return
	}
	snippet := func(name string) string { return attackSource("../capability/" + name) }
	g := capabilityGuest(t, "6.1", "")
	g.files["/bin/drop-c"] = staticAttack(t, "../capability/drop.c")
	script := "drop-c"
	want := map[string]string{"c": "c: 38, memory open\nc: 0, memory closed\n"}
	if _, err := exec.LookPath("rustc"); err == nil {
		rust := filepath.Join(t.TempDir(), "rust")
		if out, err := exec.Command("rustc", "-O", "-C", "target-feature=+crt-static", "-o", rust,
			snippet("drop.rs")).CombinedOutput(); err != nil {
			t.Fatalf("compiling drop.rs: %v\n%s", err, out)
		}
		g.files["/bin/drop-rust"] = rust
		script += "; drop-rust"
		want["rust"] = "rust: Ok(false), memory open\nrust: Ok(true), memory closed\n"
	}
	const python = "/usr/bin/python3"
	// What Python has loaded, it needs in the guest, too.
	const loaded = `import runpy, sys; runpy.run_path(sys.argv[1])
files = {m.__file__ for m in list(sys.modules.values()) if getattr(m, "__file__", None)} | {l.split()[-1] for l in open("/proc/self/maps") if " /" in l}
print(*sorted(files), sep="\n")`
	if out, err := exec.Command(python, "-IBSc", loaded, snippet("drop.py")).Output(); err == nil {
		g.files["/drop.py"], g.files[python] = snippet("drop.py"), python
		for line := range strings.Lines(string(out)) {
			if path := strings.TrimSpace(line); strings.HasPrefix(path, "/") {
				g.files[path] = path
				// The loader looks for libz.so.1, and libz.so.1.2.13 is mapped.
				if stem, version, ok := strings.Cut(path, ".so."); ok {
					major, _, _ := strings.Cut(version, ".")
					g.files[stem+".so."+major] = path
				}
			}
		}
		// The loader goes by another name than the one that is mapped.
		g.files["/lib64/ld-linux-x86-64.so.2"] = "/lib64/ld-linux-x86-64.so.2"
		script += "; PYTHONHOME=/usr " + python + " -IBS /drop.py"
		want["python"] = "python: False memory open\npython: True memory closed\n"
	}
	out, _ := g.boot(t, "sh", "-c", script+"; memjail capability install; "+script)
	for name, lines := range want {
		var got strings.Builder
		for line := range strings.Lines(out) {
			if strings.HasPrefix(line, name+": ") {
				got.WriteString(line)
			}
		}
		if got.String() != lines {
			t.Errorf("%s: %q, want %q in\n%s", name, got.String(), lines, out)
		}
	}
	if len(want) < 3 {
		t.Logf("tried only %d languages: this machine lacks the others", len(want))
	}
}

// TestKernelProbe makes every attempt of memjail probe on stock kernels, with the memory
// capability and without it. With it, it is what refuses to read procfs. Below ABI 6 of
// Landlock (6.1) signals can leave the sandbox, which disturbs others and reaches no memory.
func TestKernelProbe(t *testing.T) {
	for _, test := range []struct{ kernel, who, shape string }{
		{"6.1", "root", "capability"}, {"6.12", "root", "capability"}, {"6.12", "user", "capability"},
		{"newest", "root", "capability"}, {"newest", "user", "capability"}, {"6.12", "root", "supervised"},
		{arm64Kernel, "root", "capability"}, {arm64Kernel, "root", "supervised"},
	} {
		if !(guest{}).wanted() {
			continue
		}
		t.Run(test.kernel+" "+test.who+" "+test.shape, func(t *testing.T) {
			g := guest{kernel: test.kernel, memory: 1500, limit: 25 * time.Minute, files: map[string]string{
				"/usr/local/bin/memjail": memjailFor(t, test.kernel), "/probe.sh": kernelFile(t, "probe.sh")}}
			out, _ := g.boot(t, "sh", "/probe.sh", test.who, test.shape)
			results := probeResults(out)
			if !strings.Contains(out, "shape: "+test.shape) || len(results) < 100 {
				t.Fatalf("the attempts were not made:\n%s", out)
			}
			counts := map[string]int{}
			for _, r := range results {
				counts[r.verdict]++
				if r.verdict == "open" && (test.kernel != "6.1" || !strings.Contains(r.name, "/disturb")) {
					t.Errorf("open: %s", r.name)
				}
				if reads := strings.HasPrefix(r.name, "proc-mem/open/self/read"); reads && r.verdict == "held" &&
					(r.layer == "capability") != (test.shape == "capability") {
					t.Errorf("%s is refused by %q", r.name, r.layer)
				}
			}
			row := rowProbeOther
			if test.shape == "capability" {
				row = map[string]string{"root": rowProbeRoot, "user": rowProbeUser}[test.who]
			}
			cell := fmt.Sprintf("%d held, %d open, %d open by policy, %d not proven", counts["held"], counts["open"],
				counts["open-by-policy"], counts["not-proven"])
			if test.kernel == "6.1" {
				cell += " (signals)"
			}
			record(t, row, test.kernel, cell)
		})
	}
}

// probeResult is a line of probe.sh.
type probeResult struct{ name, verdict, layer string }

func probeResults(out string) (results []probeResult) {
	for line := range strings.Lines(out) {
		if text, ok := strings.CutPrefix(line, "result: "); ok {
			fields := append(strings.Fields(text), "", "", "")
			results = append(results, probeResult{fields[0], fields[1], fields[2]})
		}
	}
	return results
}

// TestCapabilityUnit boots a real systemd in a guest, with the unit that installs the
// memory capability and the drop-in by which every service drops it.
func TestCapabilityUnit(t *testing.T) {
	if !(guest{}).wanted() {
		return
	}
	g := capabilityGuest(t, "6.12", "")
	library := filepath.Join(t.TempDir(), "library.so")
	if out, err := exec.Command("gcc", "-shared", "-fPIC", "-O2", "-Wall", "-DLIBRARY", "-o", library,
		attackSource("../capability/drop.c")).CombinedOutput(); err != nil {
		t.Fatalf("compiling the library: %v\n%s", err, out)
	}
	g.files["/usr/local/lib/libmemorydrop.so"] = library
	g.files["/10-memory.conf"] = attackSource("../capability/10-memory.conf")
	g.files["/etc/systemd/system/memjail-capability.service"] = attackSource("../capability/memjail-capability.service")
	g.files["/unit.sh"] = kernelFile(t, "unit.sh")
	for _, program := range []string{"/lib/systemd/systemd", "/usr/bin/systemctl", "/usr/bin/dash"} {
		addProgram(t, g.files, program)
	}
	units, err := filepath.Glob("/lib/systemd/system/*.target")
	if err != nil || len(units) == 0 {
		t.Fatalf("this machine has no systemd: %v", err)
	}
	for _, unit := range units {
		g.files[unit] = unit
	}
	record(t, rowUnit, "6.12", "in force")
	out, _ := g.boot(t, "sh", "/unit.sh")
	const inForce = "installed, and every attack on it failed"
	for _, want := range []string{
		"before: not installed", "booted: active running, " + inForce + ", 0", "limit: infinity",
		"a service: open\n", "a service with drop: closed\n", "a service with the drop-in for all: closed\n",
		"a service that keeps it: open\n",
		"restarted: active running, " + inForce + ", 0", "after its end: active running, " + inForce + ", 0",
		"stopped: inactive dead, " + inForce + ", 1", "a service where it is not installed: open\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("missing %q", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

// addProgram adds a program and the libraries that it is linked with.
func addProgram(t *testing.T, files map[string]string, program string) {
	t.Helper()
	out, err := exec.Command("ldd", program).Output()
	if err != nil {
		t.Fatalf("looking for the libraries of %s: %v", program, err)
	}
	files[program] = program
	for word := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(word, "/") {
			files[word] = word
		}
	}
}
