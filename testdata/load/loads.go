package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The headings of the tables.
const (
	stressTable = "| stress-ng's class | stressors that work outside | inside | only outside | canaries | " +
		"memory of the supervisor | its descriptors |\n|---|--:|--:|---|---|--:|--:|\n"
	otherTable = "| load | how many | what came of it | memory of a supervisor | its descriptors |\n|---|--:|---|--:|--:|\n"
)

// left out: they wait for a signal, need a terminal, or only measure how fast memory can be
// exhausted.
const leftOut = "bigheap,oom-pipe,stack,resources,smi,softlockup,cpu-online,sleep"

var classes = []string{"cpu", "cpu-cache", "device", "filesystem", "interrupt", "io", "memory", "network", "os", "pipe",
	"scheduler", "vm"}

var metric = regexp.MustCompile(`(?m)metrc: \[\d+\] (\S+) +(\d+) +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+$`)

// stress runs the stressors of each class, one after the other for a second each, outside and
// inside.
func (b *bench) stress() error {
	for _, class := range classes {
		if !b.only.MatchString("stress " + class) {
			continue
		}
		list, err := b.command("stress-ng", "--class", class+"?").CombinedOutput()
		_, names, ok := strings.Cut(string(list), ":")
		if !ok {
			return fmt.Errorf("stress-ng --class %s?: %q, %v", class, list, err)
		}
		argv := []string{b.self, canaryRole, "stress-ng", "--class", class, "--sequential", "1", "--exclude", leftOut,
			"--timeout", "1", "--oomable", "--temp-path", b.dir + "/work", "--metrics-brief"}
		text, _ := b.command(argv...).CombinedOutput()
		outside := worked(string(text))
		out, early, last, err := b.run(time.Duration(len(strings.Fields(names)))*time.Second, argv...)
		inside, canaries := worked(out), "as they were"
		if !strings.Contains(out, canaryHeld) || !strings.Contains(string(text), canaryHeld) {
			canaries = "CHANGED OR GONE"
			b.complain("%s: %v\n%s", class, err, out)
		}
		var only []string
		for _, name := range outside {
			if slices.Contains(inside, name) {
				continue
			}
			// A second may be too short on a busy machine.
			again, _, _, _ := b.run(5*time.Second, "stress-ng", "--"+name, "1", "--timeout", "5", "--oomable",
				"--temp-path", b.dir+"/work", "--metrics-brief")
			if inside = append(inside, worked(again)...); !slices.Contains(inside, name) {
				only = append(only, name)
			}
		}
		b.row(stressTable, "| %s | %d | %d | %s | %s | %s | %s |", class, len(outside), len(inside), strings.Join(only, " "),
			canaries, growth(early.memory, last.memory, "KiB"), growth(early.descriptors, last.descriptors, ""))
	}
	return nil
}

// worked are the stressors that did something.
func worked(output string) []string {
	var names []string
	for _, m := range metric.FindAllStringSubmatch(output, -1) {
		if m[2] != "0" {
			names = append(names, m[1])
		}
	}
	return names
}

func growth(early, last int, unit string) string {
	return strings.TrimSpace(fmt.Sprintf("%d, then %d %s", early, last, unit))
}

func (b *bench) row(table, format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	fmt.Println(line)
	b.rows[table] = append(b.rows[table], line)
	if b.page == "" {
		return
	}
	if err := b.writePage(b.page); err != nil { // at once: a later load may not end
		b.complain("writing %s: %v", b.page, err)
	}
}

// sequence starts sandboxes one after the other.
func (b *bench) sequence(n int) error {
	if !b.only.MatchString("sequence") {
		return nil
	}
	failed := 0
	begin := time.Now()
	for range n {
		if out, err := b.command(b.memjail, "run", "--", "true").CombinedOutput(); err != nil || len(out) > 0 {
			failed++
			b.complain("a start: %v, %s", err, out)
		}
	}
	each := time.Since(begin) / time.Duration(max(n, 1))
	b.row(otherTable, "| sandboxes one after the other | %d | %d failed; %.1f ms each, with what makes the limits | | |", n,
		failed, float64(each.Microseconds())/1000)
	return b.nobody("one after the other")
}

// atOnce keeps sandboxes open at once, each with a canary, and ends them together.
func (b *bench) atOnce(n int) error {
	if !b.only.MatchString("at once") {
		return nil
	}
	release := b.dir + "/work/release"
	wait := "while [ ! -e " + release + " ]; do sleep 1; done; read x </proc/self/stat; [ -n \"$x\" ]"
	var all sync.WaitGroup
	var mu sync.Mutex
	failed, pids := 0, []int{}
	for i := range n {
		cmd := b.command(b.memjail, "run", "--", b.self, canaryRole, "sh", "-c", wait)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			return err
		}
		pids = append(pids, cmd.Process.Pid)
		all.Add(1)
		go func() {
			defer all.Done()
			if err := cmd.Wait(); err != nil || out.String() != canaryHeld {
				mu.Lock()
				defer mu.Unlock()
				if failed++; failed <= 5 {
					b.complain("sandbox %d of %d at once: %v, %s", i, n, err, &out)
				}
			}
		}()
		if i%20 == 19 { // as fast as two processors start them
			time.Sleep(200 * time.Millisecond)
		}
	}
	time.Sleep(5 * time.Second)
	most := usage{}
	for _, pid := range pids {
		if u, err := usageOf(pid); err == nil {
			most.memory, most.descriptors = max(most.memory, u.memory), max(most.descriptors, u.descriptors)
		}
	}
	if err := os.WriteFile(release, nil, 0o644); err != nil {
		return err
	}
	all.Wait()
	b.row(otherTable, "| sandboxes at once, with a canary each | %d | %d failed, no canary changed | at most %d KiB | at most %d |",
		n, failed, most.memory, most.descriptors)
	return b.nobody("at once")
}

// grow has one sandbox open files of procfs, granted and refused, and make processes.
func (b *bench) grow() error {
	if !b.only.MatchString("long") {
		return nil
	}
	loop := fmt.Sprintf("end=$(($(date +%%s)+%d)); n=0; while [ $(date +%%s) -lt $end ]; do for i in 1 2 3 4 5 6 7 8 9; do "+
		"read x </proc/self/stat; read x </proc/loadavg; (read x </proc/self/status; : </proc/self/mem); "+
		"cat /proc/$$/comm /proc/self/maps >/dev/null; n=$((n+1)); done; done 2>/dev/null; echo rounds $n", int(b.time.Seconds()))
	out, early, last, err := b.run(b.time, b.self, canaryRole, "sh", "-c", loop)
	if err != nil || !strings.Contains(out, canaryHeld) {
		b.complain("the long run: %v, %s", err, out)
	}
	if last.memory > early.memory*5/4 || last.descriptors > early.descriptors+2 || last.threads > early.threads+4 {
		b.complain("the supervisor grew from %+v to %+v", early, last)
	}
	_, rounds, _ := strings.Cut(out, "rounds ")
	n, _ := strconv.Atoi(strings.Fields(rounds + " 0")[0])
	b.row(otherTable, "| opens of `/proc`, granted and refused, and forks | %d in %v | %s | %s | %s |", n*6, b.time,
		"the canary as it was", growth(early.memory, last.memory, "KiB"), growth(early.descriptors, last.descriptors, ""))
	return b.nobody("the long run")
}

// nobody complains about processes that are left, but for the canary outside.
func (b *bench) nobody(after string) error {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		entries, err := os.ReadDir("/proc")
		if err != nil {
			return err
		}
		var left []string
		for _, e := range entries {
			if command, err := os.ReadFile("/proc/" + e.Name() + "/cmdline"); err == nil && e.Name() != "1" &&
				bytes.Contains(command, []byte(b.memjail)) {
				left = append(left, string(bytes.ReplaceAll(command, []byte{0}, []byte{' '})))
			}
		}
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(end) {
			b.complain("after %s %d processes are left: %q", after, len(left), left)
			return nil
		}
	}
}

const (
	beginMark = "<!-- load: written by make load -->\n"
	endMark   = "<!-- end of load -->\n"
)

// writePage writes the tables.
func (b *bench) writePage(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, found := bytes.Cut(text, []byte(beginMark))
	_, after, closed := bytes.Cut(rest, []byte(endMark))
	if !found || !closed {
		return fmt.Errorf("%s has no marks", file)
	}
	var tables strings.Builder
	written, _, _ := bytes.Cut(rest, []byte(endMark))
	for _, heading := range []string{stressTable, otherTable} {
		rows := b.merged(heading, string(written))
		if len(rows) > 0 {
			fmt.Fprintf(&tables, "\n%s%s\n", heading, strings.Join(rows, "\n"))
		}
	}
	tables.WriteByte('\n')
	return os.WriteFile(file, bytes.Join([][]byte{before, []byte(beginMark), []byte(tables.String()), []byte(endMark), after},
		nil), 0o644)
}

// merged are the rows that a page has, with those of this run in their places.
func (b *bench) merged(heading, page string) []string {
	_, rest, _ := strings.Cut(page, heading)
	var rows []string
	for line := range strings.Lines(rest) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		rows = append(rows, strings.TrimSuffix(line, "\n"))
	}
	first := func(row string) string { return strings.SplitN(row, "|", 3)[1] }
	for _, row := range b.rows[heading] {
		same := slices.IndexFunc(rows, func(old string) bool { return first(old) == first(row) })
		if same < 0 {
			rows = append(rows, row)
		} else {
			rows[same] = row
		}
	}
	return rows
}
