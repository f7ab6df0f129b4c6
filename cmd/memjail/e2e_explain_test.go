package main_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestExplainAgreesWithTheKernel asks "policy explain" about random accesses under
// random policies, and tries each of them for real in the sandbox of that policy.
// Only what can be done without the sandbox is counted: the rest has no control.
func TestExplainAgreesWithTheKernel(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		t.Parallel()
		d := newDifference(t, as)
		for seed := range uint64(30) {
			d.compare(t, seed)
		}
		t.Logf("%d accesses compared, %d of them refused", d.compared, d.refused)
		if least := 2000; d.compared < least {
			t.Errorf("only %d of the accesses can be done outside: want %d", d.compared, least)
		}
		if d.refused == 0 || d.refused == d.compared {
			t.Error("all answers are the same")
		}
	})
}

// difference is a scratch tree and what is asked about it.
type difference struct {
	as       account
	home     string
	try      string
	tree     []string // directories, files and links, to be named by policies
	asked    []access
	outside  []int // the errno of each access without the sandbox
	compared int
	refused  int
}

type access struct {
	action string
	object string
}

func newDifference(t *testing.T, as account) *difference {
	d := &difference{as: as, home: as.workDir(t), try: attackProgram(t, "c/try.c")}
	d.plant(t)
	objects := append([]string{"/", "/usr", "/usr/bin/env", "/bin/sh", "/etc", "/etc/hostname", "/etc/mtab", "/tmp", "/dev", "/dev/null", "/dev/urandom",
		"/dev/pts", "/proc", "/proc/self/status", "/proc/self/mem", "/proc/self/maps", "/proc/self/environ", "/proc/meminfo", "/proc/1/status",
		"/proc/sys/kernel/ostype", "/sys", "/sys/kernel", "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/class", "/var/lib/dpkg", d.home}, d.tree...)
	for _, object := range objects {
		d.asked = append(d.asked, access{"read", object}, access{"execute", object})
		// Nothing is opened for writing that others use.
		if strings.HasPrefix(object, d.home) || object == "/dev/null" || object == "/proc/self/comm" || object == "/proc/self/mem" {
			d.asked = append(d.asked, access{"write", object})
		}
	}
	for port := 9; port < 12; port++ { // the discard service and its neighbours: nobody listens
		d.asked = append(d.asked, access{"connect", strconv.Itoa(port)})
	}
	d.outside = d.attempts(t, []string{d.try})
	return d
}

// plant makes directories, files, programs and links.
func (d *difference) plant(t *testing.T) {
	for _, dir := range []string{"a", "a/b", "a/b/c", "d", "d/e"} {
		d.made(t, dir, os.Mkdir(filepath.Join(d.home, dir), 0o755))
		for name, mode := range map[string]os.FileMode{"data": 0o644, "tool": 0o755} {
			file := filepath.Join(dir, name)
			d.made(t, file, os.WriteFile(filepath.Join(d.home, file), []byte("#!/bin/sh\n"), mode))
		}
	}
	for link, to := range map[string]string{"a/link": "../d", "d/link": "e/data", "d/e/up": "../..", "link": "a/b/c"} {
		if err := os.Symlink(to, filepath.Join(d.home, link)); err != nil {
			t.Fatal(err)
		}
		d.tree = append(d.tree, filepath.Join(d.home, link))
	}
	d.tree = append(d.tree, filepath.Join(d.home, "a/new"), filepath.Join(d.home, "a/link/new"))
}

func (d *difference) made(t *testing.T, name string, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(d.home, name)
	d.as.own(t, path)
	d.tree = append(d.tree, path)
}

// attempts makes all accesses, by the program that argv starts.
func (d *difference) attempts(t *testing.T, argv []string) []int {
	t.Helper()
	var lines strings.Builder
	for _, a := range d.asked {
		fmt.Fprintf(&lines, "%s %s\n", a.action, a.object)
	}
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	stdin, err := os.Open(list)
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	o := job{as: d.as, dir: d.home, argv: argv, stdin: stdin}.run(t)
	var results []int
	for _, field := range strings.Fields(o.stdout) {
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatalf("%v printed %v", argv, o)
		}
		results = append(results, n)
	}
	if len(results) != len(d.asked) {
		t.Fatalf("%v made %d of %d accesses: %v", argv, len(results), len(d.asked), o)
	}
	return results
}

// flags is a random policy under which the trying program itself can run.
func (d *difference) flags(random *rand.Rand) []string {
	var flags []string
	if random.IntN(6) > 0 {
		flags = append(flags, "--rox", "/usr", "--rox", filepath.Dir(d.try), "--ro", "/etc/ld.so.cache")
		for _, dir := range []string{"/lib", "/lib64", "/bin"} {
			if _, err := os.Stat(dir); err == nil {
				flags = append(flags, "--rox", dir)
			}
		}
		named := map[string]bool{}
		for range random.IntN(6) {
			path := d.tree[random.IntN(len(d.tree))]
			if _, err := os.Stat(path); err == nil && !named[path] {
				named[path] = true
				flags = append(flags, []string{"--ro", "--rox", "--rw", "--rwx"}[random.IntN(4)], path)
			}
		}
	}
	for option, value := range map[string]string{"--connect-tcp": "10", "--allow": "code-files=allow"} {
		if random.IntN(2) == 0 {
			flags = append(flags, option, value)
		}
	}
	return flags
}

// told are the refusals of rules in a log. Each says what would allow it.
func (d *difference) told(t *testing.T, log string) map[access]bool {
	t.Helper()
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	told := map[access]bool{}
	for line := range strings.Lines(string(data)) {
		var e struct {
			Comm, Path, Access, Reason, Allow string
			Predicted                         bool
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if e.Comm != "attack-try" || !e.Predicted {
			continue
		}
		path := strings.TrimSuffix(strings.TrimPrefix(e.Path, "TCP port "), "/made-by-try")
		told[access{e.Access, path}] = true
		if e.Reason == "" {
			t.Errorf("a refusal without a reason: %s", line)
		}
	}
	return told
}

// compare holds one random policy's answers to what happens.
func (d *difference) compare(t *testing.T, seed uint64) {
	t.Helper()
	flags := d.flags(rand.New(rand.NewPCG(seed, uint64(len(d.as.name)))))
	explain := append([]string{memjailPath(t), "policy", "explain", "--json"}, flags...)
	for _, a := range d.asked {
		explain = append(explain, map[string]string{"read": "--read", "write": "--write", "execute": "--exec", "connect": "--connect"}[a.action], a.object)
	}
	o := job{as: d.as, dir: d.home, argv: explain}.run(t)
	var answers []struct {
		Allowed bool   `json:"allowed"`
		Why     string `json:"why"`
		Layer   string `json:"layer"`
		Request struct {
			Action string `json:"action"`
			Path   string `json:"path"`
			Port   int    `json:"port"`
		} `json:"request"`
	}
	if err := json.Unmarshal([]byte(o.stdout), &answers); err != nil || len(answers) != len(d.asked) {
		t.Fatalf("%v: %v\n%v", explain, err, o)
	}
	said := map[access]int{}
	for i, a := range answers {
		object := a.Request.Path
		if object == "" {
			object = strconv.Itoa(a.Request.Port)
		}
		said[access{a.Request.Action, object}] = i
	}
	log := filepath.Join(d.home, fmt.Sprintf("log-%d", seed))
	inside := d.attempts(t, append(append([]string{memjailPath(t), "run", "-q", "--log", log, "--log-format", "json"}, flags...), "--", d.try))
	told := d.told(t, log)
	for i, a := range d.asked {
		if outside := d.outside[i]; outside != 0 && !(a.action == "connect" && outside == int(unix.ECONNREFUSED)) {
			continue
		}
		d.compared++
		answer := answers[said[a]]
		if strings.HasPrefix(a.object, "/proc") || answer.Why == "a device cannot be executed" {
			delete(told, a) // reported by what they are, not by rules
		} else if refused := inside[i] == int(unix.EACCES); refused != told[a] {
			t.Errorf("policy %q: %s %s: errno %v, but reported=%v", flags, a.action, a.object, unix.ErrnoName(unix.Errno(inside[i])), told[a])
		}
		allowed := inside[i] == d.outside[i]
		if !allowed {
			d.refused++
		}
		if allowed != answer.Allowed {
			t.Errorf("policy %q: %s %s: explained as allowed=%v (%s: %s), but errno %v", flags, a.action, a.object,
				answer.Allowed, answer.Layer, answer.Why, unix.ErrnoName(unix.Errno(inside[i])))
		}
	}
}
