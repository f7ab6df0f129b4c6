// Races has programs inside try to win the races that a supervisor can lose, and counts: what
// a path means is exchanged while it is opened, leaders of thread groups exit and threads
// execute programs meanwhile, and process IDs change hands between a sandbox and processes
// outside. Each race is run as a control first, and has to be won there: under a supervisor
// that checks and lets the kernel continue, or, where that one has nothing to lose, without
// anything.
//
//	races [-tries N] [-seconds N] [-only PATTERN] [-page FILE] MEMJAIL DIR
//
// DIR has the programs race, leaders, reuse and checkcontinue. It needs root: the programs run
// as uid 65534, in a pid namespace. Rows of FILE that are not tried again stay.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type races struct {
	memjail, dir, work string
	tries, seconds     int
	only               *regexp.Regexp
	page               string
	wrong              int
}

// race is a kind of race.
type race struct {
	name    string
	argv    func(tries string, seconds string) []string
	control []string // what the control runs under
	victims bool
	flags   []string // of memjail
}

// shapes are how memjail is started.
var shapes = []string{"run", "exec"}

func main() {
	r := races{}
	flag.IntVar(&r.tries, "tries", 10_000_000, "how `MANY` opens")
	flag.IntVar(&r.seconds, "seconds", 3600, "end a race after so `MANY` seconds")
	only := flag.String("only", ".", "only races whose names and shapes match `PATTERN`")
	flag.StringVar(&r.page, "page", "", "write the table between the marks of `FILE`")
	flag.Parse()
	if flag.NArg() != 2 || os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "races needs root, the name of memjail and the directory of the programs")
		os.Exit(2)
	}
	r.memjail, r.dir, r.only = flag.Arg(0), flag.Arg(1), regexp.MustCompile(*only)
	if err := r.run(); err != nil {
		fmt.Fprintln(os.Stderr, "races:", err)
		os.Exit(2)
	}
	if r.wrong > 0 {
		os.Exit(1)
	}
}

func (r *races) run() (err error) {
	if r.work, err = os.MkdirTemp("", "races-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.work)
	harmless := r.work + "/work/mem"
	if err := errors.Join(os.Chmod(r.work, 0o755), os.Mkdir(r.work+"/work", 0o700),
		os.WriteFile(harmless, []byte("harmless\n"), 0o600), os.WriteFile(r.work+"/work/meet", make([]byte, 64), 0o600),
		os.Chown(harmless, 65534, 65534), os.Chown(r.work+"/work/meet", 65534, 65534),
		os.Chown(r.work+"/work", 65534, 65534)); err != nil {
		return err
	}
	for _, program := range []string{r.memjail, r.dir + "/race", r.dir + "/leaders", r.dir + "/reuse", r.dir + "/checkcontinue"} {
		text, err := os.ReadFile(program)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(r.work, filepath.Base(program)), text, 0o755); err != nil {
			return err
		}
	}
	for _, race := range r.kinds(harmless) {
		for _, shape := range shapes {
			if !r.only.MatchString(race.name + ", " + shape) {
				continue
			}
			if err := r.try(race, shape); err != nil {
				return fmt.Errorf("%s, %s: %w", race.name, shape, err)
			}
		}
	}
	return nil
}

func (r *races) kinds(harmless string) []race {
	path := func(kind, file string) func(tries, seconds string) []string {
		return func(tries, seconds string) []string {
			return []string{r.work + "/race", "3", tries, seconds, file, "1000000000", kind}
		}
	}
	checked := []string{r.work + "/checkcontinue"}
	return []race{
		{name: "text of a path, to an ordinary file", argv: path("path", harmless), control: checked},
		{name: "text of a path, to a granted file of procfs", argv: path("path", "/proc/self/comm"), control: checked},
		{name: "directory of a descriptor", argv: path("dirfd", harmless), control: checked},
		{name: "working directory", argv: path("cwd", harmless), control: checked},
		{name: "symbolic link", argv: path("link", harmless), control: checked},
		{name: "leaders exit, threads execute", argv: func(tries, seconds string) []string {
			return []string{r.work + "/leaders", tries, seconds}
		}},
		{name: "process IDs change hands", victims: true, flags: []string{"--allow", "procfs.processes=sandbox"},
			argv: func(tries, seconds string) []string {
				return []string{r.work + "/reuse", tries, seconds, r.work + "/work/meet"}
			}},
	}
}

// counts is what a program has seen.
type counts struct{ opens, harmless, refused, torn, memory, changed int }

// try runs the control of a race, and the race.
func (r *races) try(race race, shape string) error {
	control, _, err := r.once(race, race.control, race.argv("100000", "10"))
	if err != nil {
		return fmt.Errorf("the control: %w", err)
	}
	if control.memory == 0 || control.changed == 0 {
		return errors.New("the control does not win, so the race proves nothing")
	}
	begin := time.Now()
	under := append([]string{r.work + "/" + filepath.Base(r.memjail), shape, "-q"}, race.flags...)
	got, more, err := r.once(race, append(under, "--"), race.argv(strconv.Itoa(r.tries), strconv.Itoa(r.seconds)))
	if err != nil {
		return err
	}
	if got.memory != 0 || got.changed != 0 || got.harmless == 0 || got.refused == 0 {
		r.wrong++
		fmt.Print("WRONG: ")
	}
	line := fmt.Sprintf("| %s | `%s` | %d | %d | %d | %d | %d | %d | %d of %d |", race.name, shape, got.opens, got.harmless,
		got.refused, got.torn, got.memory, got.changed, control.memory, control.opens)
	fmt.Println(line, strings.TrimSpace(more), time.Since(begin).Round(time.Second))
	if r.page == "" {
		return nil
	}
	return r.writePage(line)
}

// once runs a program as an ordinary user in a pid namespace.
func (r *races) once(race race, under, argv []string) (c counts, more string, err error) {
	script := `"$@"`
	if race.victims {
		script = `setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=+checkpoint_restore ` +
			`--ambient-caps=+checkpoint_restore "` + r.work + `/reuse" victims "` + r.work + `/work/meet" outside & "$@"`
	}
	all := append([]string{"--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "sh", "-c", script, "-", "setpriv",
		"--reuid", "65534", "--regid", "65534", "--clear-groups"}, append(under, argv...)...)
	cmd := exec.Command("unshare", all...)
	cmd.Dir, cmd.Env = r.work+"/work", []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "HOME=" + r.work + "/work"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	line, more, found := strings.Cut(out.String(), "\n")
	if _, scanErr := fmt.Sscanf(line, "RACE opens %d harmless %d refused %d torn %d memory %d changed %d", &c.opens, &c.harmless,
		&c.refused, &c.torn, &c.memory, &c.changed); scanErr != nil || !found {
		return c, "", fmt.Errorf("it says %q: %w", out.String(), errors.Join(err, scanErr))
	}
	return c, more, nil
}

const (
	beginMark = "<!-- races: written by make races -->\n"
	endMark   = "<!-- end of races -->\n"
	heading   = "\n| what changes | under | opens | harmless | refused | neither | memory | canaries changed | " +
		"memory, in the control |\n|---|---|--:|--:|--:|--:|--:|--:|--:|\n"
)

// writePage puts a row in its place.
func (r *races) writePage(line string) error {
	text, err := os.ReadFile(r.page)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(text), beginMark)
	old, after, closed := strings.Cut(rest, endMark)
	if !found || !closed {
		return fmt.Errorf("%s has no marks", r.page)
	}
	key := func(row string) string { return strings.Join(strings.SplitN(row, "|", 4)[:3], "|") }
	rows := map[string]string{key(line): line}
	for row := range strings.Lines(strings.TrimPrefix(old, heading)) {
		if row = strings.TrimSpace(row); strings.HasPrefix(row, "|") && rows[key(row)] == "" {
			rows[key(row)] = row
		}
	}
	var b strings.Builder
	b.WriteString(before + beginMark + heading)
	for _, race := range r.kinds("") {
		for _, shape := range shapes {
			if row := rows[fmt.Sprintf("| %s | `%s` ", race.name, shape)]; row != "" {
				b.WriteString(row + "\n")
			}
		}
	}
	b.WriteString("\n" + endMark + after)
	return os.WriteFile(r.page, []byte(b.String()), 0o644)
}
