// Bench measures memjail beside the same without it, beside the least that such a
// sandbox can cost (limit.c), and beside other launchers that are installed. All
// variants of a case are run in turn, again and again, so that what else the machine
// does falls on all of them; what counts are the ratios.
//
//	go run ./testdata/bench -memjail bin/memjail [-only REGEXP] [-runs N] [-json FILE]
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	memjail := flag.String("memjail", "bin/memjail", "the program to be measured")
	only := flag.String("only", "", "only cases whose names match this regular expression")
	runs := flag.Int("runs", 0, "how often each variant is run; 0: as the case says")
	output := flag.String("json", "", "write the results to this file, too")
	flag.Parse()
	if err := run(*memjail, *only, *runs, *output); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(memjail, only string, runs int, output string) error {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	b, err := newBench(memjail)
	if err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	var results []result
	for _, c := range b.cases() {
		if !pattern.MatchString(c.name) {
			continue
		}
		if runs > 0 {
			c.runs = runs
		}
		r, err := c.measure()
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		r.print()
		results = append(results, r)
	}
	if output == "" {
		return nil
	}
	text, err := json.MarshalIndent(map[string]any{"machine": machine(), "results": results}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(output, append(text, '\n'), 0o644)
}

// machine is what the figures hang on.
func machine() map[string]any {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease") // for the reader only
	cpu := ""
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, rest, _ := strings.Cut(string(text), "model name\t: ")
		cpu, _, _ = strings.Cut(rest, "\n")
	}
	return map[string]any{"kernel": strings.TrimSpace(string(kernel)), "cpu": cpu, "cpus": runtime.NumCPU(), "go": runtime.Version()}
}

// bench is what the cases are made of.
type bench struct {
	memjail      string
	opens, limit string
	dir          string
}

func newBench(memjail string) (*bench, error) {
	path, err := filepath.Abs(memjail)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%w: make build", err)
	}
	dir, err := os.MkdirTemp("", "memjail-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{memjail: path, dir: dir, opens: filepath.Join(dir, "opens"), limit: filepath.Join(dir, "limit")}
	for _, program := range []string{b.opens, b.limit} {
		source := filepath.Join("testdata", "bench", filepath.Base(program)+".c")
		out, err := exec.Command("gcc", "-O2", "-Wall", "-static", "-pthread", "-o", program, source).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("compiling %s: %w\n%s", source, err, out)
		}
	}
	return b, nil
}

// benchCase is one thing that is measured.
type benchCase struct {
	name     string
	runs     int
	variants []variant
	// against and goal: memjail's variant is to take at most goal times as long as
	// the variant against.
	against, subject string
	goal             float64
}

// variant is one way to do it.
type variant struct {
	name string
	argv []string
	// each says that the program prints nanoseconds and a count; else the whole run
	// counts.
	each bool
}

func (b *bench) inside(flags ...string) []string {
	return append(append([]string{b.memjail, "run", "-q"}, flags...), "--")
}

// cases lists them all. Peers that are not installed are left out.
func (b *bench) cases() []benchCase {
	openCase := func(name string, prefix []string, limit, against string, goal float64, flags []string, args ...string) benchCase {
		program := append([]string{b.opens}, args...)
		with := func(front ...string) []string {
			return slices.Concat(prefix, front, program)
		}
		c := benchCase{name: name, runs: 7, against: against, subject: "memjail", goal: goal, variants: []variant{
			{"native", with(), true}, {"memjail", with(b.inside(flags...)...), true}}}
		if limit != "" {
			c.variants = append(c.variants, variant{"limit", with(b.limit, limit), true})
		}
		return c
	}
	procfs := []string{"/proc/self/status", "/proc/self/stat", "/proc/self/maps", "/proc/self/mountinfo", "/proc/self/cgroup", "/proc/meminfo",
		"/proc/cpuinfo", "/proc/stat", "/proc/loadavg", "/proc/filesystems"}
	const file = "/etc/hostname"
	plain := []string{"--memory", "no-write", "--allow", "procfs.write="}
	cases := []benchCase{
		openCase("open/1-thread", nil, "continue", "limit", 1.15, nil, "30000", "1", "1", file),
		openCase("open/one-cpu", []string{"taskset", "-c", "0"}, "continue", "limit", 1.15, nil, "30000", "1", "1", file),
		openCase("open/8-processes-4-threads", nil, "continue", "limit", 1.15, nil, "1500", "8", "4", file),
		openCase("inject/ten-files", nil, "inject", "limit", 1.5, nil, append([]string{"10000", "1", "1"}, procfs...)...),
		openCase("open/no-write", nil, "landlock", "limit", 1.03, plain, "50000", "1", "1", file),
		openCase("call/getppid", nil, "landlock", "limit", 1.03, nil, "500000", "1", "1", "-"),
	}
	cases = append(cases, b.starts()...)
	return append(cases, b.programs()...)
}

// peers are other launchers, as far as they are here.
func peers(program ...string) []variant {
	var found []variant
	for _, p := range [][]string{
		{"bwrap", "--dev-bind", "/", "/"},
		{"firejail", "--quiet", "--noprofile", "--seccomp"},
		{"landrun", "--rwx", "/"},
	} {
		if path, err := exec.LookPath(p[0]); err == nil {
			found = append(found, variant{p[0], slices.Concat([]string{path}, p[1:], program), false})
		}
	}
	return found
}

func (b *bench) starts() []benchCase {
	const nothing = "/bin/true"
	policy := filepath.Join(b.dir, "big.toml")
	var text strings.Builder
	text.WriteString("version = 1\n[paths]\nrox = [\"/\"]\nro = [")
	for i := range 300 {
		fmt.Fprintf(&text, "%q, ", filepath.Join(b.dir, strconv.Itoa(i)))
	}
	text.WriteString("]\noptional = [")
	for i := range 300 {
		fmt.Fprintf(&text, "%q, ", filepath.Join(b.dir, strconv.Itoa(i)))
	}
	text.WriteString("]\n")
	variants := []variant{
		{"native", []string{nothing}, false},
		{"run", append(b.inside(), nothing), false},
		{"exec", []string{b.memjail, "exec", "-q", "--", nothing}, false},
		{"exec-plain", []string{b.memjail, "exec", "-q", "--memory", "no-write", "--allow", "procfs.write=", "--", nothing}, false},
	}
	if os.WriteFile(policy, []byte(text.String()), 0o644) == nil {
		variants = append(variants, variant{"run-big-policy", append(b.inside("-p", policy), nothing), false})
	}
	return []benchCase{{name: "start", runs: 100, against: "bwrap", subject: "run", goal: 1, variants: append(variants, peers(nothing)...)}}
}

// programs are what people run.
func (b *bench) programs() []benchCase {
	var cases []benchCase
	add := func(name string, runs int, argv ...string) {
		if _, err := exec.LookPath(argv[0]); err != nil {
			return
		}
		cases = append(cases, benchCase{name: name, runs: runs, against: "native", subject: "memjail", goal: 1.03, variants: []variant{
			{"native", argv, false}, {"memjail", append(b.inside(), argv...), false}}})
	}
	tree := filepath.Join(b.dir, "tree")
	script := "set -e; mkdir -p $0 && cd $0 && for d in $(seq 100); do mkdir -p $d; for f in $(seq 100); do echo $d.$f >$d/$f; done; done; " +
		"git init -q . && git add . && git -c user.name=N -c user.email=n@example.org commit -qm all"
	if exec.Command("sh", "-c", script, tree).Run() == nil {
		add("program/git-status", 9, "git", "-C", tree, "status", "--short")
		add("program/find", 9, "find", tree, "-name", "*7")
	}
	work := filepath.Join(b.dir, "c")
	make := "set -e; mkdir -p $0 && cd $0 && for i in $(seq 60); do echo \"#include <stdio.h>\nint f$i(void){ return printf(\\\"$i\\\"); }\" >f$i.c; done; " +
		"printf 'OBJS=$(patsubst %%.c,%%.o,$(wildcard *.c))\\nall: $(OBJS)\\nclean:\\n\\trm -f *.o\\n' >Makefile"
	if exec.Command("sh", "-c", make, work).Run() == nil {
		add("program/make", 5, "make", "-s", "-C", work, "clean", "all")
	}
	add("program/python-imports", 9, "/usr/bin/python3", "-c", "import asyncio, ctypes, csv, decimal, difflib, email, glob, html.parser, http.client, "+
		"http.server, json, logging, mailbox, multiprocessing, optparse, pickle, pydoc, sqlite3, ssl, tarfile, tempfile, unittest, urllib.request, uuid, "+
		"xml.dom.minidom, xmlrpc.client, zipfile")
	add("program/node-start", 9, "node", "-e", "0")
	add("program/ps", 9, "ps", "-e", "-o", "pid,stat,args")
	return cases
}

// result is a case's outcome: nanoseconds of each variant.
type result struct {
	Name     string             `json:"name"`
	Median   map[string]float64 `json:"median_ns"`
	Spread   map[string]float64 `json:"spread"` // quarter to three quarters, by the median
	Ratio    float64            `json:"ratio,omitempty"`
	Against  string             `json:"against,omitempty"`
	Subject  string             `json:"subject,omitempty"`
	Goal     float64            `json:"goal,omitempty"`
	variants []variant
}

// measure runs the variants in turn.
func (c *benchCase) measure() (result, error) {
	samples := map[string][]float64{}
	for i := range c.runs + 1 {
		for _, v := range c.variants {
			ns, err := v.run()
			if err != nil {
				return result{}, fmt.Errorf("%s: %w", v.name, err)
			}
			if i > 0 { // the first one finds everything cold
				samples[v.name] = append(samples[v.name], ns)
			}
		}
	}
	r := result{Name: c.name, Median: map[string]float64{}, Spread: map[string]float64{}, variants: c.variants}
	for name, list := range samples {
		slices.Sort(list)
		r.Median[name] = list[len(list)/2]
		r.Spread[name] = (list[len(list)*3/4] - list[len(list)/4]) / list[len(list)/2]
	}
	if against := r.Median[c.against]; against > 0 {
		r.Ratio, r.Against, r.Subject, r.Goal = r.Median[c.subject]/against, c.against, c.subject, c.goal
	}
	return r, nil
}

func (v variant) run() (float64, error) {
	cmd := exec.Command(v.argv[0], v.argv[1:]...)
	start := time.Now()
	out, err := cmd.Output()
	took := float64(time.Since(start).Nanoseconds())
	if err != nil {
		return 0, fmt.Errorf("%q: %w", v.argv, err)
	}
	if !v.each {
		return took, nil
	}
	var ns, count float64
	if _, err := fmt.Sscan(string(out), &ns, &count); err != nil || count == 0 {
		return 0, fmt.Errorf("%q printed %q", v.argv, out)
	}
	return ns / count, nil
}

func (r *result) print() {
	fmt.Println(r.Name)
	for _, v := range r.variants {
		fmt.Printf("  %-15s %12.0f ns  ±%2.0f %%\n", v.name, r.Median[v.name], 50*r.Spread[v.name])
	}
	if r.Against != "" {
		verdict := "met"
		if r.Ratio > r.Goal {
			verdict = "missed"
		}
		fmt.Printf("  %s is %.2f × %s; the goal is %.2f: %s\n", r.Subject, r.Ratio, r.Against, r.Goal, verdict)
	}
}
