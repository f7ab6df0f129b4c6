// Mutation takes away or inverts one piece of memjail at a time, in a copy of the tree, and
// runs the tests that have to notice: a row of the table of grants, a rule of the filter, a
// condition of the carve, a step of the starter. A change that no test notices survives: it
// needs a test, or the reason why it does not matter (explained.txt).
//
//	mutation [-only FAMILY] [-time D] [-every N] [-survivors] [-slow] [-record FILE] [-page FILE] [-list]
//
// One change is tried after the other, in a pid and a mount namespace, because a memjail that
// is broken may kill or mount anything. Results are recorded by the content of the changed
// file, so that a later run goes on where this one ended. It needs root and unshare(1).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The results of a change.
const (
	killed   = "noticed"
	survived = "survived"
	invalid  = "no program" // it cannot be compiled
)

// result is what came of a change, and which test noticed.
type result struct {
	Result, Test string
}

// limit is how long tests may take, with what they took without a change times four: what
// hangs is noticed. Kernels in qemu take longer.
const limit, slowLimit = 3 * time.Second, 15 * time.Minute

type runner struct {
	top, copy  string
	record     map[string]result
	recordFile string
	until      time.Time
	again      bool // changes that survived
	every      int
	took       map[tests]time.Duration
	tested     map[string]bool
}

func main() {
	only := flag.String("only", "", "only families whose names match `PATTERN`")
	within := flag.Duration("time", 10*time.Minute, "begin no change after this time")
	again := flag.Bool("survivors", false, "try again what survived")
	slow := flag.Bool("slow", false, "the BPF programs too: needs clang and qemu")
	recordFile := flag.String("record", "bin/mutation.json", "keep the results in `FILE`")
	page := flag.String("page", "", "write the tables between the marks of `FILE`")
	every := flag.Int("every", 1, "try one change in `N`")
	list := flag.Bool("list", false, "list the changes")
	flag.Parse()
	r := &runner{record: map[string]result{}, recordFile: *recordFile, until: time.Now().Add(*within), again: *again,
		tested: map[string]bool{}, took: map[tests]time.Duration{}, every: max(*every, 1)}
	err := r.run(regexp.MustCompile(*only), *slow, *list)
	if err == nil && *page != "" {
		err = r.writePage(*page)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutation:", err)
		os.Exit(2)
	}
}

func (r *runner) run(only *regexp.Regexp, slow, list bool) (err error) {
	if r.top, err = os.Getwd(); err != nil {
		return err
	}
	if text, err := os.ReadFile(r.recordFile); err == nil {
		if err := json.Unmarshal(text, &r.record); err != nil {
			return fmt.Errorf("%s: %w", r.recordFile, err)
		}
	}
	if !list && os.Geteuid() != 0 {
		return errors.New("needs root: a memjail that is broken is shut in by namespaces")
	}
	if err := r.copyTree(); err != nil {
		return err
	}
	defer os.RemoveAll(r.copy)
	for i := range families {
		f := &families[i]
		if !only.MatchString(f.name) || f.slow && !slow && !list {
			continue
		}
		all, err := f.mutants(r.top)
		if err != nil {
			return err
		}
		if err := r.family(f, all, list); err != nil {
			return err
		}
	}
	return nil
}

// family tries the changes of a family: those of a file that can be switched at once, and
// then what is left.
func (r *runner) family(f *family, all []mutant, list bool) error {
	left := map[string][]mutant{}
	for i, m := range all {
		switch {
		case i%r.every != 0:
		case list:
			fmt.Println(f.name+":", m.what)
		case m.switches != nil && r.wanted(&m):
			left[m.file] = append(left[m.file], m)
		}
	}
	for _, file := range slices.Sorted(maps.Keys(left)) {
		if r.over() {
			return nil
		}
		if err := r.trySwitched(f, file, left[file]); err != nil {
			return err
		}
	}
	for i := range all {
		if i%r.every != 0 || list {
			continue
		}
		if err := r.try(f, &all[i]); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) over() bool { return time.Now().After(r.until) }

// wanted reports whether a change is to be tried.
func (r *runner) wanted(m *mutant) bool {
	old, known := r.record[m.id]
	return (!known || r.again && old.Result == survived) && !r.over()
}

// copyTree copies the files that git knows, or would add.
func (r *runner) copyTree() (err error) {
	if r.copy, err = os.MkdirTemp("", "mutation-"); err != nil {
		return err
	}
	if err = os.Chmod(r.copy, 0o755); err != nil { // tests run as other users, too
		return err
	}
	files, err := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return fmt.Errorf("listing the tree: %w", err)
	}
	tar := exec.Command("tar", "--create", "--null", "--files-from=-")
	tar.Stdin = strings.NewReader(string(files))
	untar := exec.Command("tar", "--extract", "--directory", r.copy)
	if untar.Stdin, err = tar.StdoutPipe(); err != nil {
		return err
	}
	return errors.Join(tar.Start(), untar.Run(), tar.Wait())
}

// try makes a change, runs the tests and takes it back.
func (r *runner) try(f *family, m *mutant) error {
	if !r.wanted(m) {
		return nil
	}
	if !r.tested[f.name] { // the control
		if got := r.test(f); got.Result != survived {
			return fmt.Errorf("%s: without any change %s fails: %s", f.name, got.Test, got.Result)
		}
		r.tested[f.name] = true
	}
	path := filepath.Join(r.copy, m.file)
	source, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, m.apply(source), 0o644); err != nil {
		return err
	}
	got := r.test(f)
	if err := os.WriteFile(path, source, 0o644); err != nil {
		return err
	}
	return r.keep(m, got)
}

// keep records what came of a change.
func (r *runner) keep(m *mutant, got result) error {
	r.record[m.id] = got
	fmt.Printf("%s: %s %s: %s\n", got.Result, got.Test, m.family, m.what)
	text, err := json.MarshalIndent(r.record, "", " ")
	if err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(filepath.Dir(r.recordFile), 0o755), os.WriteFile(r.recordFile, text, 0o644))
}

// generate compiles the BPF programs of the copy.
func (r *runner) generate() error {
	cmd := exec.Command("go", "generate", "./sandbox/capability/install")
	cmd.Dir = r.copy
	return cmd.Run()
}

var failed = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// test runs the tests of a family until one notices.
func (r *runner) test(f *family) result {
	if f.slow {
		if err := r.generate(); err != nil {
			return result{Result: invalid}
		}
	}
	built := map[string]bool{}
	for _, t := range f.tests {
		if !built[t.pkg] {
			if err := r.build(t.pkg); err != nil {
				return result{Result: invalid}
			}
			built[t.pkg] = true
		}
		if noticed := r.testOnce(t, f.slow); noticed != "" {
			return result{killed, noticed}
		}
	}
	return result{Result: survived}
}

// binary is the test program of a package.
func (r *runner) binary(pkg string) string {
	return filepath.Join(r.copy, pkg, "mutant.test")
}

// build compiles the tests of a package once, however many of them are run.
func (r *runner) build(pkg string) error {
	cmd := exec.Command("go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-o", r.binary(pkg), pkg)
	cmd.Dir = r.copy
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// testOnce runs tests of a package, and returns which noticed.
func (r *runner) testOnce(t tests, slow bool, env ...string) string {
	took, known := r.took[t]
	within := limit + 4*took
	if slow || !known {
		within = slowLimit
	}
	if !known {
		begin := time.Now()
		defer func() { r.took[t] = time.Since(begin) }()
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc",
		r.binary(t.pkg), "-test.failfast", "-test.run="+t.pattern, fmt.Sprintf("-test.short=%t", t.short))
	cmd.Env = append(append(os.Environ(), "MEMJAIL_KERNELS=6.12"), env...) // for the tests in qemu
	cmd.Dir, cmd.WaitDelay = filepath.Join(r.copy, t.pkg), 5*time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	names := failed.FindAllSubmatch(out, -1)
	switch {
	case ctx.Err() != nil:
		return "a test that hangs"
	case err == nil:
		return ""
	case len(names) > 0:
		return string(names[0][1])
	}
	return t.pkg // its process ended
}
