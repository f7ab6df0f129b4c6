// Faults fails each system call that memjail makes on its own behalf, once with each errno
// that it can have, and judges what comes of it.
//
//	faults [-most N] [-sample N] [-seed N] [-only SCENARIO/CALL] [-page FILE] MEMJAIL COMMAND
//
// COMMAND is testdata/attacks/c/faulted.c, compiled. It tries to write its own memory and
// says what happened. The calls are failed by a tracer outside, so nothing is compiled in:
// strace(1) can inject faults too, but counts by thread, and the Go runtime moves memjail
// from thread to thread; and it cannot leave out what the command calls.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// limit is how long a run may take: what takes longer hangs.
const limit = 10 * time.Second

// scenario is a way to start memjail.
type scenario struct {
	name string
	args []string // before the command
	left bool     // the command leaves a process behind
	user bool     // as an ordinary user
	// threads is a call that the Go runtime has all threads make, which the kernel answers alike;
	// the runtime ends where they do not. Only the first thread's fails.
	threads string
}

var scenarios = []scenario{
	{name: "run", args: []string{"run", "--"}},
	{name: "exec", args: []string{"exec", "--"}},
	{name: "left-behind", args: []string{"run", "--"}, left: true},
	{name: "pin", args: []string{"run", "--pin", "--"}},
	{name: "paths", args: []string{"run", "-p", "workspace", "--add-exec", "--rwx", "DIR", "--"}},
	{name: "view", args: []string{"run", "-p", "workspace", "--add-exec", "--rwx", "DIR", "--view", "private", "--"}},
	{name: "user", args: []string{"run", "--"}, user: true},
	{name: "user-exec", args: []string{"exec", "--"}, user: true, left: true},
	{name: "user-view", user: true, threads: "capset",
		args: []string{"run", "-p", "workspace", "--add-exec", "--rwx", "DIR", "--view", "private", "--"}},
}

// The outcomes of a run. What comes after runtimes is wrong.
const (
	right      = "right"                   // the command ran as without a fault
	less       = "less"                    // it ran, and could open less
	notStarted = "not started"             // one line and 125, or 126 and 127 where the command cannot be executed
	ended      = "ended"                   // it was killed with its supervisor, and a line says so
	unheard    = "ended unheard"           // the same, of a detached supervisor, a guard, or without a standard error: nobody to tell
	runtimes   = "ended by the Go runtime" // which has no descriptors for its poller, and says so by a trace
	opened     = "OPEN"
	hangs      = "HANGS"
	traces     = "A TRACE"
	silent     = "WITHOUT A WORD"
	untrue     = "A WRONG STATUS"
	leaves     = "SOMETHING LEFT"
)

// outcome is a run that was judged.
type outcome struct {
	fault
	verdict, detail string
	reached         bool
}

type bench struct {
	memjail, command, dir string
}

func main() {
	most := flag.Int("most", 16, "fail at most `N` of the calls of one name")
	sample := flag.Int("sample", 0, "run only `N` cases of each scenario, chosen by -seed")
	seed := flag.Uint64("seed", 1, "the `N` that chooses")
	only := flag.String("only", "", "only `SCENARIO/CALL`")
	page := flag.String("page", "", "write the tables between the marks of `FILE`")
	flag.Parse()
	if flag.NArg() != 2 || arch == 0 || os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "faults needs root, an x86-64 processor, and MEMJAIL COMMAND")
		os.Exit(2)
	}
	b := &bench{memjail: flag.Arg(0), command: flag.Arg(1)}
	wrong, err := b.all(*most, *sample, *seed, *only, *page)
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(2)
	}
	if wrong > 0 {
		os.Exit(1)
	}
}

// all runs all scenarios and returns how many outcomes were wrong.
func (b *bench) all(most, sample int, seed uint64, only, page string) (wrong int, err error) {
	if b.dir, err = os.MkdirTemp("", "faults-"); err != nil {
		return 0, err
	}
	defer os.RemoveAll(b.dir)
	if err := os.Chmod(b.dir, 0o755); err != nil {
		return 0, err
	}
	wantScenario, wantCall, _ := strings.Cut(only, "/")
	results := map[string][]outcome{}
	for _, s := range scenarios {
		if only != "" && wantScenario != s.name {
			continue
		}
		counts, err := b.control(s)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", s.name, err)
		}
		cases := slices.DeleteFunc(faults(counts, most), func(f fault) bool {
			return f.call == s.threads && f.nth > 1
		})
		if wantCall != "" {
			cases = slices.DeleteFunc(cases, func(f fault) bool { return f.call != wantCall })
		}
		if sample > 0 {
			r := rand.New(rand.NewPCG(seed, 0))
			r.Shuffle(len(cases), func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })
			cases = cases[:min(sample, len(cases))]
		}
		for _, f := range cases {
			o, err := b.judged(s, f)
			if err != nil {
				return 0, err
			}
			results[s.name] = append(results[s.name], o)
			if o.wrong() {
				wrong++
				fmt.Printf("%s: %s: %s: %s\n", s.name, f, o.verdict, o.detail)
			}
		}
		fmt.Println(row(s, results[s.name]))
	}
	if page != "" {
		err = writePage(page, results)
	}
	return wrong, err
}

func (o outcome) wrong() bool {
	return !slices.Contains([]string{right, less, notStarted, ended, unheard, runtimes}, o.verdict)
}

// control runs without a fault, which has to be right, and returns the calls; the most of
// some runs, since not every run makes the same.
func (b *bench) control(s scenario) (map[string]int, error) {
	counts := map[string]int{}
	for range 3 {
		t, out, err := b.once(s, fault{})
		if err != nil {
			return nil, err
		}
		if verdict, detail := out.judge(s, t); verdict != right {
			return nil, fmt.Errorf("without a fault: %s: %s", verdict, detail)
		}
		for call, n := range t.counts {
			counts[call] = max(counts[call], n)
		}
	}
	return counts, nil
}

func (b *bench) judged(s scenario, f fault) (outcome, error) {
	t, out, err := b.once(s, f)
	if err != nil {
		return outcome{}, err
	}
	verdict, detail := out.judge(s, t)
	return outcome{f, verdict, detail, t.reached}, nil
}

// output is what a run printed and left.
type output struct{ stdout, stderr, later, litter string }

// once makes one run in a directory of its own.
func (b *bench) once(s scenario, f fault) (t trace, out output, err error) {
	dir, err := os.MkdirTemp(b.dir, "")
	if err != nil {
		return t, out, err
	}
	defer os.RemoveAll(dir)
	work, temp := filepath.Join(dir, "work"), filepath.Join(dir, "tmp")
	var as *syscall.Credential
	if s.user {
		as = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	for _, d := range []string{dir, work, temp} {
		if err := cmp.Or(os.MkdirAll(d, 0o755), os.Chmod(d, 0o777)); err != nil {
			return t, out, err
		}
	}
	var files [2]*os.File
	for i, name := range []string{"stdout", "stderr"} {
		if files[i], err = os.Create(filepath.Join(dir, name)); err != nil {
			return t, out, err
		}
		defer files[i].Close()
	}
	argv := append([]string{b.memjail}, s.args...)
	for i := range argv {
		argv[i] = strings.ReplaceAll(argv[i], "DIR", b.dir)
	}
	argv = append(argv, b.command)
	if s.left {
		argv = append(argv, "later")
	}
	before := mounts()
	env := []string{"PATH=/usr/bin:/bin", "HOME=" + work, "TMPDIR=" + temp, "LANG=C"}
	if t, err = run(argv, env, work, files[0], files[1], as, f, limit); err != nil {
		return t, out, err
	}
	for name, text := range map[string]*string{"stdout": &out.stdout, "stderr": &out.stderr, "work/later": &out.later} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return t, out, err
		}
		*text = string(content)
	}
	left, err := os.ReadDir(temp)
	for _, entry := range left {
		out.litter += " " + entry.Name()
	}
	if after := mounts(); after != before {
		out.litter += " a mount"
	}
	return t, out, err
}

func mounts() string {
	text, _ := os.ReadFile("/proc/self/mountinfo") // without it both are empty
	return string(text)
}

// line is what the command prints.
var line = regexp.MustCompile(`^ran mem=([A-Z]+) vm=([A-Z]+) value=(\w+) stat=(\w+) file=(\w+) child=(\w+)\n$`)

// What memjail reports: lines, of which warnings are no reason.
var (
	reported = regexp.MustCompile(`(?m)^.+$`)
	warning  = regexp.MustCompile(`(?m)^memjail: warning: `)
)

// judge says what came of a run.
func (o output) judge(s scenario, t trace) (verdict, detail string) {
	said := o.stdout + o.later
	code := t.status.ExitStatus()
	detail = strings.TrimSpace(fmt.Sprintf("status %#x, printed %q, later %q, reported %q, hung %q, left %q",
		uint32(t.status), o.stdout, o.later, o.stderr, t.hung, o.litter))
	lines := len(reported.FindAllString(o.stderr, -1)) - len(warning.FindAllString(o.stderr, -1))
	switch m, later := line.FindStringSubmatch(o.stdout), line.FindStringSubmatch(o.later); {
	case strings.Contains(said, "OPENED") || strings.Contains(said, "CHANGED"):
		return opened, detail
	case t.hung != nil:
		return hangs, detail
	case strings.Contains(o.stderr, "runtime.netpoll"):
		return runtimes, detail
	case strings.Contains(o.stderr, "goroutine ") || strings.Contains(o.stderr, "panic:"):
		return traces, detail
	case strings.Contains(said, "WRONG"):
		return "A WRONG FILE", detail
	case o.litter != "":
		return leaves, detail
	case m == nil && o.stdout == "" && code >= 125 && code <= 127 && lines == 1 && strings.HasPrefix(o.stderr, "memjail: "):
		return notStarted, detail
	case t.status.Signaled() || code == 128+int(unix.SIGKILL):
		return s.ending(t, o), detail
	case m == nil || code != 0:
		return untrue, detail
	case s.left && later == nil:
		return s.ending(t, o), detail
	case m[4] != "ok" || m[5] != "ok" || m[6] != "old" || s.left && (later[4] != "ok" || later[5] != "ok" || later[6] != "old"):
		return less, detail
	}
	return right, detail
}

// ending is what the end of a command that was killed with its supervisor is called. A
// detached supervisor that fails has no standard error, nor has the guard of exec, which can
// end before the command is executed.
func (s scenario) ending(t trace, o output) string {
	detached := t.started && (s.left || s.args[0] == "exec")
	switch {
	case strings.Contains(o.stderr, "memjail: "):
		return ended
	case detached || t.pipe || t.guard:
		return unheard
	}
	return silent
}

// row is a line of the table.
func row(s scenario, all []outcome) string {
	counts, calls := map[string]int{}, map[string]bool{}
	reached := 0
	for _, o := range all {
		if o.reached {
			counts[o.verdict]++
			calls[o.call] = true
			reached++
		}
	}
	wrong := reached
	for _, verdict := range []string{right, less, notStarted, ended, unheard, runtimes} {
		wrong -= counts[verdict]
	}
	return fmt.Sprintf("| %s | %d | %d | %d | %d | %d | %d | %d | %d | %d |", s.name, len(calls), reached, counts[right],
		counts[less], counts[notStarted], counts[ended], counts[unheard], counts[runtimes], wrong)
}

const (
	mark    = "<!-- faults: written by make faults -->\n"
	endMark = "<!-- end of faults -->\n"
)

// writePage replaces what is between the marks of a page.
func writePage(name string, results map[string][]outcome) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), mark)
	old, after, closed := strings.Cut(rest, endMark)
	if !ok || !closed {
		return fmt.Errorf("%s lacks the marks of the table", name)
	}
	var table strings.Builder
	table.WriteString("\n| start | different calls | faults | right | less | not started | ended | ended unheard | ended by the Go runtime | wrong |\n" +
		"|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	calls, rows := map[string]bool{}, map[string]string{}
	for line := range strings.Lines(old) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			rows[strings.TrimSpace(cells[1])] = line
		} else if list, is := strings.CutPrefix(line, "The calls: "); is {
			for call := range strings.SplitSeq(strings.TrimSuffix(list, ".\n"), ", ") {
				calls[call] = true
			}
		}
	}
	for _, s := range scenarios {
		if results[s.name] != nil {
			rows[s.name] = row(s, results[s.name]) + "\n"
		}
		table.WriteString(rows[s.name])
		for _, o := range results[s.name] {
			calls[o.call] = calls[o.call] || o.reached
		}
	}
	fmt.Fprintf(&table, "\nThe calls: %s.\n\n", strings.Join(slices.Sorted(maps.Keys(calls)), ", "))
	return os.WriteFile(name, []byte(before+mark+table.String()+endMark+after), 0o644)
}
