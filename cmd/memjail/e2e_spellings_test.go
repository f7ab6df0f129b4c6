package main_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// spellingShapes are the forms of a sandbox in which opens are compared with those outside.
func spellingShapes(dir string) map[string][]string {
	rules := []string{"run", "-p", "workspace", "--add-exec", "--rw", dir}
	return map[string][]string{
		"run":      {"run", "--"},
		"exec":     {"exec", "--"},
		"no-write": {"run", "--memory", "no-write", "--"},
		"paths":    append(rules, "--"),
		"view":     append(rules, "--view", "private", "--"),
		"nested":   {"run", "--", "memjail", "run", "--"},
	}
}

// spellingsTree makes what testdata/attacks/c/spellings.c opens things through.
func spellingsTree(t *testing.T, as account) string {
	t.Helper()
	dir := as.workDir(t)
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("harmless\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"tomem": "/proc/self/mem", "m2": "tomem", "toproc": "/proc",
		"toself": "toproc/self", "far": "d/../toself/task/../mem", "totask": "/proc/self/task", "tof": "f",
		"tostat": "/proc/self/stat", "d/up": "../tomem", "loop": "loop", "toroot": "/proc/self/root",
		"tocwd": "/proc/self/cwd", "tofd": "/proc/self/fd"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"d", "f", "fifo"} {
		as.own(t, filepath.Join(dir, name))
	}
	return dir
}

// spelt is an attempt of the program: how, on what, and what came of it.
var spelt = regexp.MustCompile(`^\d+ by (\d) flags (\d+) resolve ([0-9a-f]+) at \S+ (.*) \| (.*)$`)

// held matches attempts that start from a descriptor, which may be of another process's
// directory.
var held = regexp.MustCompile(`at 1\d\d |/fd/1\d\d`)

// sameOpen reports whether what an attempt came to inside is right, by what it came to
// outside. memory: it was memory, which is refused.
func sameOpen(outside, inside, shape string) (right, memory bool) {
	out, in := spelt.FindStringSubmatch(outside), spelt.FindStringSubmatch(inside)
	if out == nil || in == nil || out[4] != in[4] {
		return outside == inside, false
	}
	flags, _ := strconv.ParseUint(out[2], 8, 32)
	resolve, _ := strconv.ParseUint(out[3], 16, 64)
	writes := flags&unix.O_ACCMODE != 0
	was, is := out[5], in[5]
	refused := is == "errno EACCES" || is == "errno EPERM"
	switch word, target, _ := strings.Cut(was, " "); {
	case word == "CHANGED" || word == "READ" || word == "OPENED":
		if shape == "no-write" && !writes {
			return refused || is == was, true
		}
		return refused, true
	case was == is:
		return true, false
	case out[1] == "4": // by handle: never inside
		return is == "errno EPERM" || is == "errno EOPNOTSUPP", false
	case strings.HasSuffix(out[4], "fifo"): // whether the other thread reads it is chance
		return !refused, false
	case shape == "view" && was == "errno EACCES" && is == "errno ENOENT": // below /root, which is not there
		return true, false
	case shape == "view" && is == "errno EXDEV": // each granted path is a mount there
		return resolve&unix.RESOLVE_NO_XDEV != 0, false
	case word == "ok" && strings.HasPrefix(target, "/proc/"):
		const resolves = unix.RESOLVE_BENEATH | unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_XDEV
		// The links of another process, such as of the parent of who holds its directory, are
		// not followed to procfs.
		others := !strings.HasPrefix(in[4], "/proc/self") && strings.Contains(in[4], "root/proc/") ||
			held.MatchString(in[0]) && strings.Contains(in[4], "cwd/")
		return refused && (writes || resolve&resolves != 0 || others || target == "/proc/N/maps text"), false
	}
	return false, false
}

// TestSpellings opens memory and harmless files by random spellings, through links,
// descriptors and working directories, by several calls, in threads, children, after an exec
// and a chroot. Inside each attempt comes to what it comes to outside, but for memory, which
// is never opened, and the canary stays as it was. MEMJAIL_SOAK goes on with random seeds for
// a time; MEMJAIL_SEED is one seed to try again.
func TestSpellings(t *testing.T) {
	program := attackProgram(t, "c/spellings.c")
	soak, _ := time.ParseDuration(os.Getenv("MEMJAIL_SOAK"))
	one, oneErr := strconv.ParseUint(os.Getenv("MEMJAIL_SEED"), 10, 64)
	forAccounts(t, func(t *testing.T, as account) {
		for shape := range spellingShapes("") {
			t.Run(shape, func(t *testing.T) {
				t.Parallel()
				dir := spellingsTree(t, as)
				launcher := append([]string{memjailPath(t)}, spellingShapes(dir)[shape]...)
				end := time.Now().Add(soak)
				attempts, memory := 0, 0
				try := func(seed uint64) {
					tried, reached := compareSpellings(t, as, dir, shape, seed, launcher, program)
					attempts, memory = attempts+tried, memory+reached
				}
				switch {
				case oneErr == nil:
					try(one)
				case soak > 0:
					for seed := uint64(time.Now().UnixNano()); time.Now().Before(end) && !t.Failed(); seed++ {
						try(seed)
					}
				default:
					for seed := uint64(1); seed <= 3; seed++ {
						try(seed)
					}
				}
				t.Logf("%d attempts, of which %d reach memory outside", attempts, memory)
				if memory < 10 {
					t.Errorf("outside memory was opened %d times only", memory)
				}
			})
		}
	})
}

// compareSpellings runs the program outside and inside, and returns how many attempts it made,
// and how many of them reached memory outside.
func compareSpellings(t *testing.T, as account, dir, shape string, seed uint64, launcher []string,
	program string) (attempts, memory int) {
	t.Helper()
	argv := []string{program, strconv.FormatUint(seed, 10), "150", dir}
	outside := job{as: as, dir: dir, argv: argv}.run(t)
	inside := job{as: as, dir: dir, argv: append(launcher, argv...)}.run(t)
	out, in := strings.Split(outside.stdout, "\n"), strings.Split(inside.stdout, "\n")
	if outside.code != 0 || inside.code != 0 || len(out) != len(in) || len(out) < 200 {
		t.Errorf("MEMJAIL_SEED=%d: %d lines outside (status %d), %d inside (status %d)\n%s", seed, len(out),
			outside.code, len(in), inside.code, inside.stderr)
		return 0, 0
	}
	wrong := 0
	for i := range out {
		right, reached := sameOpen(out[i], in[i], shape)
		if reached {
			memory++
		}
		if wrong++; !right && wrong <= 10 {
			t.Errorf("MEMJAIL_SEED=%d, %s\n\toutside %s\n\tinside  %s", seed, shape, out[i], in[i])
		}
		if right {
			wrong--
		}
	}
	if content, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(content) != "harmless\n" {
		t.Errorf("MEMJAIL_SEED=%d: the harmless file is %q, %v", seed, content, err)
	}
	return len(out), memory
}
