package main

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const ordinaryFile = "/etc/hostname"

// openCases are single calls: what a program pays for each.
func openCases() []benchCase {
	mediated := []goal{{"a mediated open, by the bare limit", "memjail", "limit", 1.15}}
	plain := []string{"--memory", "no-write", "--allow", "procfs.write="}
	cases := []benchCase{
		openCase{"open/1-thread", mediated, "continue", nil, []string{"30000", "1", "1", ordinaryFile}}.build(),
		openCase{"open/missing", nil, "continue", nil,
			[]string{"30000", "1", "1", "/usr/include/nothing/here.h"}}.build(),
		openCase{"open/no-write", []goal{
			{"an open under no-write, by a bare domain", "memjail", "limit", 1.03},
			{"the domain itself, by native", "memjail", "native", 1.25},
		}, "landlock", plain, []string{"60000", "1", "1", ordinaryFile}}.build(),
		crowdedCase("open/8x4-one-cpu", 1),
		crowdedCase("open/8x4-two-cpus", 2),
		openCase{"call/getppid", []goal{{"a call that is not mediated, by a bare domain", "memjail", "limit", 1.03}},
			"landlock", nil, []string{"1000000", "1", "1", "-"}}.build(),
	}
	files := []string{"/proc/self/status", "/proc/self/stat", "/proc/self/maps", "/proc/self/mountinfo",
		"/proc/self/cgroup", "/proc/meminfo",
		"/proc/cpuinfo", "/proc/stat", "/proc/loadavg", "/proc/filesystems"}
	cases = append(cases, openCase{"inject/ten-files",
		[]goal{{"an injected open, by the bare limit", "memjail", "limit", 1.5}},
		"inject", nil, append([]string{"10000", "1", "1"}, files...)}.build())
	cases = append(cases, stepsCase())
	for _, file := range files {
		name := "inject/" + strings.ReplaceAll(strings.TrimPrefix(file, "/proc/"), "/", "-")
		cases = append(cases, openCase{name, nil, "inject", nil, []string{"5000", "1", "1", file}}.build())
	}
	return cases
}

// openCase is one thread that does the same again and again: natively, under the
// least that such a sandbox can cost, and in memjail.
type openCase struct {
	name  string
	goals []goal
	limit string   // what programs/limit.c is to do
	flags []string // memjail's
	args  []string // those of programs/opens.c
}

func (o openCase) build() benchCase {
	return benchCase{name: o.name, unit: nanoseconds, runs: 11, goals: o.goals, prepare: func(s *stage) error {
		program := append([]string{s.opens}, o.args...)
		s.printing("native", program...)
		s.printing("limit", slices.Concat([]string{s.limit, o.limit}, program)...)
		s.printing("memjail", slices.Concat(s.inside(o.flags...), program)...)
		return nil
	}}
}

// stepsCase is what it costs to add a descriptor first and to answer the call with its
// number afterwards, which memjail does, against both in one step.
func stepsCase() benchCase {
	return benchCase{name: "inject/steps", unit: nanoseconds, runs: 25, prepare: func(s *stage) error {
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
	return benchCase{name: name, unit: nanoseconds, runs: 9, goals: goals, prepare: func(s *stage) error {
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
