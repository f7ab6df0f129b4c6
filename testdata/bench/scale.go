package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// scalePattern is how `make scale` chooses its cases.
const scalePattern = "^scale/"

// scaleCases are how each cost grows with what it depends on.
func scaleCases() []benchCase {
	curve := func(name, axis string, prepare func(*stage) error) benchCase {
		return benchCase{name: "scale/" + name, axis: axis, unit: nanoseconds, runs: 15, seconds: 12, detail: true,
			prepare: prepare}
	}
	each := func(name, axis string, prepare func(*stage) error) benchCase {
		c := curve(name, axis, prepare)
		c.each = true
		return c
	}
	cases := []benchCase{
		curve("rules", "rules of a policy", curveOfRules),
		curve("denied", "files beside a denied one", curveOfSiblings),
		curve("view", "rules of a private view", curveOfViews),
		curve("layers", "policies on top of each other", curveOfLayers),
		curve("variables", "environment variables", curveOfVariables),
		curve("mounts", "mounts", curveOfMounts),
		curve("nested", "sandboxes in each other", curveOfNested),
		curve("rest", "processes killed at the end", curveOfRest),
		curve("ps", "processes that ps shows", curveOfPS),
		curve("learn", "files learned", curveOfLearning),
		curve("depth", "directories above the file", curveOfDepth),
		each("processes", "processes that open files", curveOfOpeners(func(n int) []string {
			return []string{strconv.Itoa(8192 / n), strconv.Itoa(n), "1"}
		})),
		each("threads", "threads that open files", curveOfOpeners(func(n int) []string {
			return []string{strconv.Itoa(8192 / n), "1", strconv.Itoa(n)}
		})),
		each("cpus", "CPUs, for 8 processes that open files", curveOfCPUs),
		each("refused", "refused files, each another one", curveOfRefusals),
		each("sandboxes-start", "other sandboxes, for one more start", curveOfSandboxes(false)),
		each("sandboxes-open", "other sandboxes, for an open", curveOfSandboxes(true)),
	}
	memory := each("memory-opens", "opens, and the supervisor's memory then", curveOfMemory)
	memory.unit, memory.runs = kibibytes, 1
	all := curve("memory-sandboxes", "sandboxes at once, and their memory", curveOfSandboxMemory)
	all.unit, all.runs = kibibytes, 1
	return append(cases, memory, all)
}

// at says where on the axis the variants are that were added last.
func (s *stage) at(x, count int) {
	for i := len(s.variants) - count; i < len(s.variants); i++ {
		s.variants[i].at = float64(x)
	}
}

// pair adds a command natively and in memjail at a point.
func (s *stage) pair(x int, flags []string, argv ...string) {
	s.whole("native", argv...)
	s.whole("memjail", append(s.inside(flags...), argv...)...)
	s.at(x, 2)
}

func curveOfRules(s *stage) error {
	for _, count := range []int{0, 250, 1000, 2000, 4000} {
		name, err := s.rulesPolicy(count)
		if err != nil {
			return err
		}
		s.whole("memjail", append(s.inside("-p", name), nothing)...)
		s.at(count, 1)
	}
	return nil
}

// curveOfSiblings: the kernel can only grant, so what is beside a denied file gets a rule each.
func curveOfSiblings(s *stage) error {
	policy, err := s.rulesPolicy(0)
	if err != nil {
		return err
	}
	for _, count := range []int{0, 250, 1000, 2000, 4000} {
		dir := filepath.Join(s.dir, fmt.Sprintf("beside-%d", count))
		if err := files(dir, count); err != nil {
			return err
		}
		denied := filepath.Join(dir, "denied")
		if err := os.WriteFile(denied, nil, 0o644); err != nil {
			return err
		}
		s.whole("memjail", append(s.inside("-p", policy, "--ro", dir, "--deny", denied), nothing)...)
		s.at(count, 1)
	}
	return nil
}

// files makes a directory with some.
func files(dir string, count int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for i := range count {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), nil, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func curveOfViews(s *stage) error {
	if os.Geteuid() != 0 {
		return skip("only root makes a mount namespace without a user namespace")
	}
	bwrap, err := s.find("bwrap")
	if err != nil {
		s.skipped = append(s.skipped, "bwrap is not installed")
	}
	for _, count := range []int{0, 50, 200, 400} {
		policy, err := s.rulesPolicy(count)
		if err != nil {
			return err
		}
		outside := []string{"env", "-C", "/"} // a directory that exists in the view
		s.whole("memjail", slices.Concat(outside, s.inside("-p", policy, "--view", "private"), []string{nothing})...)
		s.at(count, 1)
		if bwrap != "" {
			s.whole("bwrap", slices.Concat(outside, []string{bwrap}, bwrapView(s.dir, count), []string{nothing})...)
			s.at(count, 1)
		}
	}
	return nil
}

func curveOfLayers(s *stage) error {
	first, err := s.rulesPolicy(0)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(first)
	if err != nil {
		return err
	}
	var flags []string
	for count := 1; count <= 64; count++ {
		name := filepath.Join(s.dir, fmt.Sprintf("layer-%d.toml", count))
		if err := os.WriteFile(name, text, 0o644); err != nil {
			return err
		}
		flags = append(flags, "-p", name)
		if slices.Contains([]int{1, 8, 16, 32, 64}, count) {
			s.whole("memjail", append(s.inside(flags...), nothing)...)
			s.at(count, 1)
		}
	}
	return nil
}

func curveOfVariables(s *stage) error {
	for _, count := range []int{0, 500, 1000, 2000, 4000} {
		env := os.Environ()
		for i := range count {
			env = append(env, fmt.Sprintf("VARIABLE_%d=value", i))
		}
		for _, l := range []launcher{{name: "native"}, {name: "memjail", argv: s.inside("-p", "workspace")}} {
			argv := append(l.argv, nothing)
			// Not by env(1) or a shell, which look through all of them for each.
			s.add(l.name, func() (float64, error) {
				cmd := exec.Command(argv[0], argv[1:]...)
				cmd.Env = env
				begun := time.Now()
				err := cmd.Run()
				return float64(time.Since(begun).Nanoseconds()), err
			})
		}
		s.at(count, 2)
	}
	return nil
}

func curveOfMounts(s *stage) error {
	if os.Geteuid() != 0 {
		return skip("only root can mount")
	}
	for _, program := range []string{"unshare", "nsenter"} {
		if _, err := look(program); err != nil {
			return err
		}
	}
	for _, count := range []int{0, 250, 500, 1000, 2000} {
		holder, err := s.holdMounts(count)
		if err != nil {
			return err
		}
		enter := []string{"nsenter", "--mount", "--target", strconv.Itoa(holder)}
		s.whole("native", append(slices.Clone(enter), nothing)...)
		s.whole("memjail", slices.Concat(enter, s.inside(), []string{nothing})...)
		s.at(count, 2)
	}
	return nil
}

// curveOfNested: each start inside another sandbox is one more domain and one more filter.
func curveOfNested(s *stage) error {
	var prefix []string
	for depth := 1; depth <= 8; depth++ {
		prefix = slices.Concat(prefix, []string{s.memjail}, execPlain)
		if depth&(depth-1) == 0 {
			s.whole("memjail", append(slices.Clone(prefix), nothing)...)
			s.at(depth, 1)
		}
	}
	return nil
}

func curveOfRest(s *stage) error {
	for _, count := range []int{0, 250, 500, 1000, 2000} {
		s.whole("native", s.crowd, strconv.Itoa(count))
		s.whole("memjail", append(s.inside("--kill-rest"), s.crowd, strconv.Itoa(count), "leave")...)
		s.at(count, 2)
	}
	return nil
}

func curveOfPS(s *stage) error {
	ps, err := look("ps")
	if err != nil {
		return err
	}
	held := -1
	end := func() {}
	s.close(func() { end() })
	for _, count := range []int{0, 250, 500, 1000, 2000} {
		s.pair(count, nil, ps, "aux")
		for i := len(s.variants) - 2; i < len(s.variants); i++ {
			run := s.variants[i].run
			s.variants[i].run = func() (float64, error) {
				if held != count {
					end()
					_, ended, err := startHeld(s.crowd, strconv.Itoa(count))
					if err != nil {
						return 0, err
					}
					held, end = count, ended
				}
				return run()
			}
		}
	}
	return nil
}

func curveOfLearning(s *stage) error {
	dir := filepath.Join(s.dir, "learned")
	if err := files(dir, 4000); err != nil {
		return err
	}
	for _, count := range []int{0, 250, 1000, 2000, 4000} {
		s.whole("memjail", s.memjail, "learn", "-q", "--", s.opens, strconv.Itoa(count), "1", "1",
			filepath.Join(dir, "%d"))
		s.at(count, 1)
	}
	return nil
}

// opened adds a program that opens files in each way that is of interest.
func (s *stage) opened(x int, before []string, args ...string) {
	program := append([]string{s.opens}, args...)
	modes := s.modes()
	s.printing("native", slices.Concat(before, program)...)
	s.printing("limit", slices.Concat(before, []string{s.limit, "continue"}, program)...)
	s.printing("memjail", slices.Concat(before, modes[0].argv, program)...)
	s.printing("memjail-no-write", slices.Concat(before, modes[1].argv, program)...)
	s.at(x, 4)
}

func curveOfDepth(s *stage) error {
	dir := s.dir
	for depth := 0; depth <= 64; depth++ {
		if slices.Contains([]int{1, 8, 16, 32, 64}, depth) {
			file := filepath.Join(dir, "file")
			if err := os.WriteFile(file, nil, 0o644); err != nil {
				return err
			}
			s.opened(depth, nil, "4000", "1", "1", file)
		}
		dir = filepath.Join(dir, "d")
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

func curveOfOpeners(args func(n int) []string) func(*stage) error {
	return func(s *stage) error {
		for _, count := range []int{1, 2, 4, 8, 16, 32, 64} {
			s.opened(count, nil, append(args(count), ordinaryFile)...)
		}
		return nil
	}
}

func curveOfCPUs(s *stage) error {
	taskset, err := look("taskset")
	if err != nil {
		return err
	}
	for count := 1; count <= runtime.NumCPU(); count *= 2 {
		set, err := firstCPUs(count)
		if err != nil {
			return err
		}
		s.opened(count, []string{taskset, "-c", set}, "2000", "8", "1", ordinaryFile)
	}
	return nil
}

// curveOfRefusals: a refused open is told, in a log that nobody reads here.
func curveOfRefusals(s *stage) error {
	policy, err := s.rulesPolicy(0)
	if err != nil {
		return err
	}
	for _, count := range []int{100, 1000, 4000, 16000} {
		program := []string{s.opens, strconv.Itoa(count), "1", "1", "/srv/nothing-%d"}
		rules := []string{"-p", policy, "--rox", s.opens}
		s.printing("memjail", slices.Concat(s.inside(append(rules, "--report=off")...), program)...)
		s.printing("memjail-watched", slices.Concat(s.inside(append(rules, "--log", os.DevNull)...), program)...)
		s.at(count, 2)
	}
	return nil
}

// pool holds sandboxes in which nothing happens.
type pool struct {
	*stage
	held []func()
	pids []int
}

// hold makes it so many.
func (p *pool) hold(count int) error {
	for len(p.held) > count {
		last := len(p.held) - 1
		p.held[last]()
		p.held, p.pids = p.held[:last], p.pids[:last]
	}
	for len(p.held) < count {
		pid, end, err := startHeld(append(p.inside(), "sh", "-c", "echo ready; read end")...)
		if err != nil {
			return err
		}
		p.held, p.pids = append(p.held, end), append(p.pids, pid)
	}
	return nil
}

func (s *stage) newPool() *pool {
	p := &pool{stage: s}
	s.close(func() { p.hold(0) })
	return p
}

// curveOfSandboxes is a start, or an open, while others are there.
func curveOfSandboxes(open bool) func(*stage) error {
	return func(s *stage) error {
		p := s.newPool()
		for _, count := range []int{0, 50, 200, 500} {
			if open {
				s.printing("memjail", append(s.inside(), s.opens, "5000", "1", "1", ordinaryFile)...)
			} else {
				s.whole("memjail", append(s.inside(), nothing)...)
			}
			s.at(count, 1)
			last := &s.variants[len(s.variants)-1]
			run := last.run
			last.run = func() (float64, error) {
				if err := p.hold(count); err != nil {
					return 0, err
				}
				return run()
			}
		}
		return nil
	}
}

// curveOfSandboxMemory adds up the proportional set sizes of memjail's own processes: what they
// share counts once.
func curveOfSandboxMemory(s *stage) error {
	p := s.newPool()
	for _, count := range []int{1, 50, 100, 250, 500} {
		s.add("memjail", func() (float64, error) {
			if err := p.hold(count); err != nil {
				return 0, err
			}
			return proportional(s.memjail)
		})
		s.at(count, 1)
	}
	return nil
}

// proportional is the memory of all processes of a program, in KiB. A process that shares its
// parent's memory does not count.
func proportional(program string) (sum float64, err error) {
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return 0, err
	}
	for _, link := range links {
		if is, err := os.Readlink(link); err != nil || is != program {
			continue // of another program, or gone
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link)))
		if err != nil {
			return 0, err
		}
		parent, err := statusField(pid, "PPid")
		if err != nil || sameMemory(pid, int(parent)) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(filepath.Dir(link), "smaps_rollup"))
		if err != nil {
			return 0, err
		}
		_, rest, _ := strings.Cut(string(text), "\nPss:")
		var kib float64
		if _, err := fmt.Sscan(rest, &kib); err != nil {
			return 0, fmt.Errorf("%s: %w", link, err)
		}
		sum += kib
	}
	return sum, nil
}

// sameMemory asks the kernel, by kcmp(2).
func sameMemory(a, b int) bool {
	const vm = 1 // KCMP_VM
	differ, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), vm, 0, 0, 0)
	return errno == 0 && differ == 0
}

func curveOfMemory(s *stage) error {
	for _, count := range []int{1, 10_000, 100_000, 500_000, manyOpens} {
		s.add("memjail", func() (kib float64, err error) {
			err = s.supervised(count, ordinaryFile, func(pid int) error {
				kib, err = statusField(pid, "VmRSS")
				return err
			})
			return kib, err
		})
		s.at(count, 1)
	}
	return nil
}

// startHeld starts a process that says "ready" and ends with its input, which end closes.
func startHeld(argv ...string) (pid int, end func(), err error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, nil, err
	}
	if err := cmd.Start(); err != nil {
		return 0, nil, err
	}
	end = func() { in.Close(); cmd.Wait() }
	line := make([]byte, len("ready\n"))
	if _, err := io.ReadFull(out, line); err != nil || string(line) != "ready\n" {
		end()
		return 0, nil, fmt.Errorf("%q said %q: %w", argv, line, err)
	}
	return cmd.Process.Pid, end, nil
}
