package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// raceLine is what the race program says at its end.
var raceLine = regexp.MustCompile(`RACE opens (\d+) harmless (\d+) refused (\d+) torn (\d+) memory (\d+) changed (\d+)`)

// race is how a race went, in counts of opens.
type race struct{ opens, harmless, refused, torn, memory, changed int }

func parseRace(t *testing.T, o outcome) race {
	t.Helper()
	m := raceLine.FindStringSubmatch(o.stdout)
	if m == nil {
		t.Fatalf("the race says nothing: %v", o)
	}
	var n [6]int
	for i := range n {
		n[i], _ = strconv.Atoi(m[i+1])
	}
	t.Logf("%s", m[0])
	return race{n[0], n[1], n[2], n[3], n[4], n[5]}
}

// raceFile is a harmless file that may be read and written.
func raceFile(t *testing.T, as account, dir string) string {
	t.Helper()
	name := filepath.Join(dir, "harmless")
	if err := os.WriteFile(name, []byte("harmless\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	as.own(t, name)
	return name
}

// TestRace has one thread flip a path between a harmless file and its memory
// while three others open it: a million tries, and none may win. The harmless
// file is an ordinary one, or one of procfs that the supervisor opens itself.
// MEMJAIL_SOAK is a duration that replaces the number of tries.
func TestRace(t *testing.T) {
	opens, seconds := 1_000_000, 240
	if testing.Short() {
		opens = 100_000
	}
	if soak, err := time.ParseDuration(os.Getenv("MEMJAIL_SOAK")); err == nil {
		opens, seconds = 1<<40, int(soak.Seconds())
	}
	as := accounts()[len(accounts())-1]
	for _, procfs := range []bool{false, true} {
		name, tries := "ordinary file", opens
		if procfs {
			// Each is opened and injected, which takes longer; the million stands above.
			name, tries = "granted procfs file", opens/5
		}
		t.Run(name, func(t *testing.T) {
			dir := as.workDir(t)
			harmless := raceFile(t, as, dir)
			if procfs {
				harmless = "/proc/self/comm"
			}
			argv := []string{attackProgram(t, "c/race.c"), "3", strconv.Itoa(tries), strconv.Itoa(seconds), harmless}
			timeout := time.Duration(seconds+30) * time.Second
			r := parseRace(t, job{as: as, dir: dir, argv: inside(t, argv...), timeout: timeout}.run(t))
			if r.memory != 0 || r.changed != 0 {
				t.Errorf("%d memory descriptors were got, %d changes made", r.memory, r.changed)
			}
			if r.opens < tries && os.Getenv("MEMJAIL_SOAK") == "" {
				t.Errorf("only %d tries in %d seconds, want %d", r.opens, seconds, tries)
			}
			// A race whose two sides were never both seen is none.
			if r.harmless == 0 || r.refused == 0 {
				t.Errorf("harmless %d, refused %d: the two paths were not both opened", r.harmless, r.refused)
			}
		})
	}
}

// TestRaceControl is the same race against a supervisor that checks the path and
// lets the kernel continue, with nothing behind it: it has to be won.
func TestRaceControl(t *testing.T) {
	as := accounts()[len(accounts())-1]
	dir := as.workDir(t)
	r := parseRace(t, job{as: as, dir: dir, argv: []string{
		attackProgram(t, "c/checkcontinue.c"),
		attackProgram(t, "c/race.c"), "3", "1000000", "20", raceFile(t, as, dir), "50",
	}}.run(t))
	if r.memory == 0 || r.changed == 0 {
		t.Errorf("the race against check-and-continue was not won: %+v", r)
	}
	if r.refused == 0 {
		t.Error("that supervisor refused nothing, so it was not at work")
	}
}

// TestRaceKinds exchanges what a path means in other ways: the directory behind a descriptor,
// the working directory and a symbolic link. Under a supervisor that checks and lets the
// kernel continue each is won. `make races` does the same ten million times.
func TestRaceKinds(t *testing.T) {
	t.Parallel()
	as := accounts()[len(accounts())-1]
	for _, kind := range []string{"dirfd", "cwd", "link"} {
		t.Run(kind, func(t *testing.T) {
			dir := as.workDir(t)
			harmless := filepath.Join(dir, "mem")
			if err := os.Rename(raceFile(t, as, dir), harmless); err != nil {
				t.Fatal(err)
			}
			argv := []string{attackProgram(t, "c/race.c"), "3", "1000000", "20", harmless, "20", kind}
			control := parseRace(t, job{as: as, dir: dir, argv: append([]string{attackProgram(t, "c/checkcontinue.c")},
				argv...)}.run(t))
			if control.memory == 0 || control.refused == 0 {
				t.Errorf("the race against check-and-continue was not won: %+v", control)
			}
			argv[2] = "20000"
			heldRace(t, parseRace(t, job{as: as, dir: dir, argv: inside(t, argv...)}.run(t)))
		})
	}
}

// heldRace complains if a race was won, or was none.
func heldRace(t *testing.T, r race) {
	t.Helper()
	if r.memory != 0 || r.changed != 0 {
		t.Errorf("%d memory descriptors were got, %d changes made", r.memory, r.changed)
	}
	if r.harmless == 0 || r.refused == 0 {
		t.Errorf("harmless %d, refused %d: not both were opened", r.harmless, r.refused)
	}
}

// TestRaceProcesses has threads open their memory, and harmless files about themselves, while
// the leader of their group exits and others execute a program; and has the numbers of
// processes inside taken over by processes outside, while threads open what has that number.
func TestRaceProcesses(t *testing.T) {
	t.Parallel()
	as := accounts()[len(accounts())-1]
	dir := as.workDir(t)
	leaders := func(opens string) []string { return []string{attackProgram(t, "c/leaders.c"), opens, "20"} }
	meet := raceFile(t, as, dir)
	if err := os.WriteFile(meet, make([]byte, 64), 0); err != nil {
		t.Fatal(err)
	}
	reuse := func(opens string) []string { return []string{attackProgram(t, "c/reuse.c"), opens, "20", meet} }
	user := []string{"setpriv"}
	if as.uid > 0 {
		user = append(user, "--reuid", strconv.Itoa(as.uid), "--regid", strconv.Itoa(as.uid), "--clear-groups")
	}
	victims := exec.Command("setpriv", append(user[1:], "--inh-caps=+checkpoint_restore",
		"--ambient-caps=+checkpoint_restore", attackProgram(t, "c/reuse.c"), "victims", meet, "outside")...)
	victims.Stderr = os.Stderr
	victims.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the signal comes when the thread ends
	defer runtime.UnlockOSThread()
	if err := victims.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { victims.Process.Kill(); victims.Wait() }()
	for _, c := range []struct {
		name  string
		argv  func(opens string) []string
		flags []string
	}{{"leaders", leaders, nil}, {"numbers", reuse, []string{"--allow", "procfs.processes=sandbox"}}} {
		if control := parseRace(t, job{as: as, dir: dir, argv: c.argv("20000")}.run(t)); control.memory == 0 ||
			control.changed == 0 {
			t.Errorf("%s: not even the control reaches memory: %+v", c.name, control)
		}
		for _, shape := range []string{"run", "exec"} {
			argv := append(append([]string{memjailPath(t), shape, "-q"}, c.flags...), "--")
			o := job{as: as, dir: dir, argv: append(argv, c.argv("10000")...)}.run(t)
			heldRace(t, parseRace(t, o))
			if m := regexp.MustCompile(`REUSE rounds \d+ outside (\d+)`).FindStringSubmatch(o.stdout); m != nil && m[1] == "0" {
				t.Errorf("no number was taken over: %s", o.stdout)
			}
		}
	}
}
