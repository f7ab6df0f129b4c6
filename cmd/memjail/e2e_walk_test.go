package main_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// walkProgram opens every file below its arguments and closes it again, without
// reading or writing: some block, and some consume. Of other processes it looks at
// nothing, and only procfs is opened for writing.
const walkProgram = `
import errno, os, stat, sys
def tried(path, access, flags):
    try:
        os.close(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
        print(path, access, "ok")
    except OSError as e:
        print(path, access, errno.errorcode[e.errno])
def walk(directory):
    try:
        entries = list(os.scandir(directory))
        print(directory, "list ok")
    except OSError as e:
        print(directory, "list", errno.errorcode[e.errno])
        return
    for e in entries:
        if directory == "/proc" and (e.name.isdigit() or e.name in ("self", "thread-self")) or e.is_symlink():
            continue
        if e.path in ("/sys/devices", "/sys/kernel/slab", "/sys/module", "/proc/self/fd", "/proc/self/map_files"):
            continue
        if e.path.startswith("/proc/self/task/") and e.name in ("fd", "fdinfo"):
            continue
        if e.is_dir(follow_symlinks=False):
            walk(e.path)
        elif e.is_file(follow_symlinks=False):
            tried(e.path, "read", os.O_RDONLY)
            if e.path.startswith("/proc/"):
                tried(e.path, "write", os.O_WRONLY)
for root in sys.argv[1:]:
    walk(root)
`

// documented is a row of docs/differences.md.
type documented struct{ patterns, accesses []string }

func readDifferences(t *testing.T) []documented {
	t.Helper()
	file, err := os.Open(filepath.Join("..", "..", "docs", "differences.md"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	quoted := regexp.MustCompile("`([^`]+)`")
	var rows []documented
	for lines := bufio.NewScanner(file); lines.Scan(); {
		cells := strings.Split(lines.Text(), " | ")
		if !strings.HasPrefix(lines.Text(), "| `/") || len(cells) < 3 {
			continue
		}
		var d documented
		for _, m := range quoted.FindAllStringSubmatch(cells[0], -1) {
			d.patterns = append(d.patterns, m[1])
		}
		d.accesses = strings.Split(cells[1], ", ")
		rows = append(rows, d)
	}
	return rows
}

func (d documented) covers(name, access string) bool {
	return slices.Contains(d.accesses, access) &&
		slices.ContainsFunc(d.patterns, func(pattern string) bool { return matches(pattern, name) })
}

func matches(pattern, name string) bool {
	if dir, whole := strings.CutSuffix(pattern, "/**"); whole {
		return name == dir || strings.HasPrefix(name, dir+"/")
	}
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

// claims counts, for each pattern and access of the document, what could be opened outside,
// and what of it was refused inside.
type claims map[string]*struct{ tried, refused int }

func (c claims) count(rows []documented, name, access string, refused bool) {
	for _, d := range rows {
		for _, pattern := range d.patterns {
			if !slices.Contains(d.accesses, access) || !matches(pattern, name) {
				continue
			}
			key := pattern + " to " + access
			if c[key] == nil {
				c[key] = &struct{ tried, refused int }{}
			}
			c[key].tried++
			if refused {
				c[key].refused++
			}
		}
	}
}

// TestDifferences walks the system without memjail and inside. What can be opened
// only outside is a row of docs/differences.md; nothing can be opened only inside, and
// under each pattern of a row something is refused, if there is anything.
func TestDifferences(t *testing.T) {
	rows, claimed := readDifferences(t), claims{}
	for _, who := range accounts() {
		walk := func(launcher ...string) map[string]string {
			dir := who.workDir(t)
			argv := append(launcher, "/usr/bin/python3", "-c", walkProgram, "/proc", "/proc/self", "/sys",
				"/run", "/etc")
			cmd := exec.Command(argv[0], argv[1:]...)
			cmd.Dir, cmd.Env, cmd.SysProcAttr = dir, who.environ(t,
				dir), &syscall.SysProcAttr{Credential: who.credential()}
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s: %q: %v", who.name, launcher, err)
			}
			found := map[string]string{}
			task := regexp.MustCompile(`^/proc/self/task/\d+`)
			for line := range strings.Lines(string(out)) {
				if what, answer, ok := cutLast(strings.TrimSpace(line)); ok {
					found[task.ReplaceAllString(what, "/proc/self/task/N")] = answer
				}
			}
			return found
		}
		outside, inside := walk(), walk(memjailPath(t), "run", "-q", "--")
		if len(outside) < 1000 {
			t.Fatalf("%s: the control opened only %d files", who.name, len(outside))
		}
		var missing []string
		for what, answer := range outside {
			name, access, _ := cutLast(what)
			got, seen := inside[what]
			if seen && answer == "ok" {
				claimed.count(rows, name, access, got != "ok")
			}
			switch {
			case !seen || got == answer || answer == "ENOENT" || answer == "ENODEV" || got == "ENOENT":
			case answer == "ok" && !slices.ContainsFunc(rows,
				func(d documented) bool { return d.covers(name, access) }):
				missing = append(missing, fmt.Sprintf("%s: %s to %s", name, got, access))
			case got == "ok":
				t.Errorf("%s: %s can be opened inside to %s, and outside: %s", who.name, name, access, answer)
			}
		}
		slices.Sort(missing)
		if len(missing) > 0 {
			t.Errorf("%s: docs/differences.md lacks %d:\n%s", who.name, len(missing),
				strings.Join(missing[:min(60, len(missing))], "\n"))
		}
	}
	for what, n := range claimed {
		if n.refused == 0 {
			t.Errorf("docs/differences.md has %s, where nothing of %d is refused", what, n.tried)
		}
	}
}

// cutLast cuts at the last space.
func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ' ')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}
