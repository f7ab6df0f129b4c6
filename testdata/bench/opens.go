package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const ordinaryFile = "/etc/hostname"

// openCases are single calls: what a program pays for each.
func openCases() []benchCase {
	cases := []benchCase{
		openCase{name: "open/file", limit: "continue", seconds: 12, count: "10000", files: []string{ordinaryFile},
			goals: []goal{
				{"a mediated open, by the bare limit", "memjail", "limit", 1.15},
				{"an open under no-write, by a bare domain", "memjail-no-write", "domain", 1.03},
			}}.build(),
		openCase{name: "open/missing", limit: "continue", count: "10000",
			files: []string{"/usr/include/nothing/here.h"}}.build(),
		openCase{name: "open/procfs", limit: "inject", seconds: 12, count: "5000", files: []string{"/proc/self/status"},
			goals: []goal{{"an injected open, by the bare limit", "memjail", "limit", 1.3}}}.build(),
		openCase{name: "call/getppid", count: "60000", files: []string{"-"},
			goals: []goal{{"a call that is not mediated, by a bare domain", "memjail", "domain", 1.03}}}.build(),
		interruptedCase(),
		crowdedCase("open/8x4-one-cpu", 1),
		crowdedCase("open/8x4-two-cpus", 2),
		stepsCase(),
	}
	for _, name := range []string{"self/stat", "self/maps", "self/mountinfo", "self/cgroup", "meminfo", "cpuinfo",
		"stat", "loadavg", "filesystems"} {
		c := openCase{name: "open/proc-" + strings.ReplaceAll(name, "/", "-"), limit: "inject", count: "5000",
			files: []string{"/proc/" + name}}.build()
		c.detail = true
		cases = append(cases, c)
	}
	return cases
}

// openCase is one thread that does the same again and again: natively, under the
// least that such a sandbox can cost, in memjail and in other launchers.
type openCase struct {
	name    string
	goals   []goal
	seconds float64
	limit   string   // what programs/limit.c is to do; nothing if there is nothing to do
	count   string   // how often
	files   []string // those of programs/opens.c
}

func (o openCase) build() benchCase {
	return benchCase{name: o.name, unit: nanoseconds, runs: 25, seconds: o.seconds, goals: o.goals,
		prepare: func(s *stage) error {
			program := append([]string{s.opens, o.count, "1", "1"}, o.files...)
			s.beside(0, program...)
			if o.limit != "" {
				s.printing("limit", slices.Concat([]string{s.limit, o.limit}, program)...)
			}
			if o.limit == "inject" {
				return nil // a bare domain refuses what lies in /proc
			}
			s.printing("domain", slices.Concat([]string{s.limit, "landlock"}, program)...)
			return nil
		}}
}

// interruptedCase counts opens that fail with EINTR while a timer fires a thousand times a
// second, of 200,000, in a program that does not ask for calls to be restarted.
func interruptedCase() benchCase {
	return benchCase{name: "open/interrupted", unit: times, runs: 5, prepare: func(s *stage) error {
		for _, l := range slices.Concat([]launcher{{name: "native"}}, s.modes()) {
			argv := slices.Concat(l.argv, []string{s.interrupted, "200000", "1000", ordinaryFile})
			s.add(l.name, func() (count float64, err error) {
				out, err := output(argv)
				if err == nil {
					_, err = fmt.Sscan(string(out), &count)
				}
				return count, err
			})
		}
		return nil
	}}
}

// stepsCase is what it costs to add a descriptor first and to answer the call with its
// number afterwards, which memjail does, against both in one step.
func stepsCase() benchCase {
	return benchCase{name: "open/inject-steps", detail: true, unit: nanoseconds, runs: 25, prepare: func(s *stage) error {
		program := []string{s.opens, "5000", "1", "1", "/proc/self/stat"}
		s.printing("one-step", slices.Concat([]string{s.limit, "inject"}, program)...)
		s.printing("two-steps", slices.Concat([]string{s.limit, "inject-in-two-steps"}, program)...)
		return nil
	}}
}

// crowdedCase is 8 processes of 4 threads each on some CPUs, beside a single thread,
// which keeps one CPU busy. The rate per CPU is not to fall below 0.8 of the single
// thread's.
func crowdedCase(name string, cpus int) benchCase {
	most := 1 / (0.8 * float64(cpus))
	goals := []goal{{"32 threads, by one thread on one CPU", "memjail", "memjail-1-thread", most}}
	return benchCase{name: name, unit: nanoseconds, runs: 9, seconds: 5, goals: goals, prepare: func(s *stage) error {
		taskset, err := look("taskset")
		if err != nil {
			return err
		}
		set, err := firstCPUs(cpus)
		if err != nil {
			return err
		}
		on := func(argv ...[]string) []string {
			return slices.Concat([]string{taskset, "-c", set}, slices.Concat(argv...))
		}
		single, crowd := []string{s.opens, "20000", "1", "1", ordinaryFile}, []string{s.opens, "1000", "8", "4",
			ordinaryFile}
		limit := []string{s.limit, "continue"}
		s.printing("native", on(crowd)...)
		s.printing("native-1-thread", on(single)...)
		s.printing("limit", on(limit, crowd)...)
		s.printing("limit-1-thread", on(limit, single)...)
		s.printing("memjail", on(s.inside(), crowd)...)
		s.printing("memjail-1-thread", on(s.inside(), single)...)
		return nil
	}}
}

// firstCPUs lists the first ones that this process may use.
func firstCPUs(count int) (string, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return "", err
	}
	if set.Count() < count {
		return "", skip("there are fewer CPUs")
	}
	var list []string
	for cpu := 0; len(list) < count; cpu++ {
		if set.IsSet(cpu) {
			list = append(list, strconv.Itoa(cpu))
		}
	}
	return strings.Join(list, ","), nil
}
