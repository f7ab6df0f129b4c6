package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// manyOpens is how much a supervisor has to do before it is looked at.
const manyOpens = 1_000_000

// clockTick is the unit of times in /proc/PID/stat, which is the same everywhere.
const clockTick = 10e6 // nanoseconds

// supervisorCases are what the supervisor itself takes. memjail is the supervisor of
// what it runs.
func supervisorCases() []benchCase {
	return []benchCase{
		{name: "supervisor/memory", unit: kibibytes, runs: 1, prepare: prepareMemory, goals: []goal{
			{"resident after 1,000,000 opens", "after-1000000-opens", "", 12 * 1024}}},
		{name: "supervisor/cpu", unit: nanoseconds, runs: 3, seconds: 6, prepare: prepareCPU},
	}
}

func prepareMemory(s *stage) error {
	for _, look := range []struct {
		name, field string
		opens       int
	}{{"after-1-open", "VmRSS", 1}, {"after-1000000-opens", "VmRSS", manyOpens}, {"at-most", "VmHWM", manyOpens}} {
		s.add(look.name, func() (kib float64, err error) {
			err = s.supervised(look.opens, ordinaryFile, func(pid int) error {
				kib, err = statusField(pid, look.field)
				return err
			})
			return kib, err
		})
	}
	return nil
}

// prepareCPU counts the supervisor's time for each open, ordinary and injected.
func prepareCPU(s *stage) error {
	const opens = 100_000
	for _, look := range [][2]string{{"open", ordinaryFile}, {"missing", "/etc/nothing"},
		{"inject", "/proc/self/stat"}} {
		name, file := look[0], look[1]
		s.add(name, func() (took float64, err error) {
			err = s.supervised(opens, file, func(pid int) error {
				took, err = cpuTime(pid)
				return err
			})
			return took / opens, err
		})
	}
	return nil
}

// supervised has a program in a sandbox open a file and looks at the supervisor
// before it ends.
func (s *stage) supervised(opens int, file string, look func(pid int) error) error {
	script := `"$@" >/dev/null && echo opened && read end`
	argv := append(s.inside(), "sh", "-c", script, "sh", s.opens, strconv.Itoa(opens), "1", "1", file)
	cmd := exec.Command(argv[0], argv[1:]...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		err = look(cmd.Process.Pid)
	}
	io.WriteString(in, "\n")
	if waited := cmd.Wait(); err == nil && waited != nil {
		return fmt.Errorf("%q: %w", argv, waited)
	}
	if err != nil {
		return fmt.Errorf("%q said %q: %w", argv, line, err)
	}
	return nil
}

// statusField reads a number, of kibibytes where it is a size, from /proc/PID/status.
func statusField(pid int, name string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "\n"+name+":")
	var kib float64
	_, err = fmt.Sscan(rest, &kib)
	return kib, err
}

// cpuTime is the time of all threads of a process, in user and system mode.
func cpuTime(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	const user, system = 11, 12 // of proc_pid_stat(5), less the two before
	if len(fields) <= system {
		return 0, fmt.Errorf("/proc/%d/stat is %q", pid, text)
	}
	a, err := strconv.ParseFloat(fields[user], 64)
	if err != nil {
		return 0, err
	}
	b, err := strconv.ParseFloat(fields[system], 64)
	return (a + b) * clockTick, err
}
