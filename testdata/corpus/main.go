// Corpus runs the test suites of other projects as they are and under memjail, and compares
// the outcome of each of their tests.
//
//	corpus [-memjail FILE] [-only PATTERN] [-as root,user] [-with run,exec] [-cache DIR] [-page FILE]
//
// A suite is a script of suites/. Its sources come from Debian, PyPI or crates.io, and its
// programs are built outside. Then it runs twice outside and once inside, and again inside if
// a test came out otherwise. A difference is a test whose outcome inside was the same each
// time, and is another than both outside. Tests that differ between two runs on one side say
// nothing, and are counted as unstable. Differences that are known have their reason in
// [known]; others are errors.
//
// The user is uid 65534. It writes the table of docs/reliability.md with -page.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

func main() {
	var c corpus
	flag.StringVar(&c.memjail, "memjail", "bin/memjail", "the memjail that is tested: `FILE`")
	only := flag.String("only", ".", "the suites whose names match `PATTERN`")
	as := flag.String("as", "root,user", "`ACCOUNTS`: root, user")
	with := flag.String("with", "run,exec", "`COMMANDS` of memjail: run, exec")
	flag.StringVar(&c.cache, "cache", filepath.Join(os.TempDir(), "memjail-corpus"), "`DIR` for sources and results")
	flag.StringVar(&c.page, "page", "", "write the table into `FILE`")
	flag.DurationVar(&c.limit, "limit", 15*time.Minute, "a run of a suite ends after `D`")
	flag.Parse()
	if err := c.run(*only, strings.Split(*as, ","), strings.Split(*with, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "corpus:", err)
		os.Exit(1)
	}
}

// corpus is one run of this program.
type corpus struct {
	memjail, cache, page string
	scripts              string // the directory of the suites
	limit                time.Duration
}

// row is a line of the table: a suite as an account, under a command of memjail.
type row struct {
	suite, version, as, with string
	comparison
	slower float64 // time inside as a multiple of that outside
}

func (c *corpus) run(only string, accounts, commands []string) error {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("run it as root: suites run as root and as uid 65534")
	}
	if c.memjail, err = filepath.Abs(c.memjail); err != nil {
		return err
	}
	if c.scripts, err = filepath.Abs("testdata/corpus/suites"); err != nil {
		return err
	}
	if err := os.MkdirAll(c.cache, 0o755); err != nil {
		return err
	}
	unknown := 0
	for _, s := range suites {
		if !pattern.MatchString(s.name) {
			continue
		}
		n, err := c.suite(s, accounts, commands)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		unknown += n
	}
	if unknown > 0 {
		return fmt.Errorf("%d tests come out otherwise inside, for no known reason", unknown)
	}
	return nil
}

// suite prepares a suite and runs it in all ways. It returns the number of differences
// without a known reason.
func (c *corpus) suite(s suite, accounts, commands []string) (unknown int, err error) {
	dir := filepath.Join(c.cache, s.name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	prepare := exec.Command("sh", "-eu", filepath.Join(c.scripts, s.name+".sh"), "prepare", dir)
	prepare.Stderr = os.Stderr
	out, err := prepare.Output()
	if err != nil {
		return 0, fmt.Errorf("preparing: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	version := lines[len(lines)-1]
	for _, as := range accounts {
		if s.only != "" && s.only != as {
			continue
		}
		var outside [2]outcome
		for i := range outside {
			if outside[i], err = c.once(s, dir, as, ""); err != nil {
				return unknown, err
			}
		}
		for _, with := range commands {
			r, err := c.inside(s, dir, as, with, outside)
			if err != nil {
				return unknown, err
			}
			r.suite, r.version, r.as, r.with = s.name, version, as, with
			r.print()
			unknown += len(r.unknown)
			if c.page == "" {
				continue
			}
			if err := writePage(c.page, []row{r}); err != nil { // at once: a later suite may not end
				return unknown, err
			}
		}
	}
	return unknown, nil
}

// inside runs a suite under memjail, once more if a test came out otherwise.
func (c *corpus) inside(s suite, dir, as, with string, outside [2]outcome) (row, error) {
	first, err := c.once(s, dir, as, with)
	if err != nil {
		return row{}, err
	}
	second := first
	if len(compare(s, outside, [2]outcome{first, first}).different) > 0 {
		if second, err = c.once(s, dir, as, with); err != nil {
			return row{}, err
		}
	}
	faster := min(outside[0].took, outside[1].took)
	return row{comparison: compare(s, outside, [2]outcome{first, second}),
		slower: float64(min(first.took, second.took)) / float64(faster)}, nil
}

// outcome is what a run of a suite came to.
type outcome struct {
	tests map[string]string // by name: pass, fail or skip
	took  time.Duration
}

// once runs a suite in an empty directory of the account, under a command of memjail or as
// it is.
func (c *corpus) once(s suite, dir, as, with string) (outcome, error) {
	work, err := os.MkdirTemp("", "corpus-")
	if err != nil {
		return outcome{}, err
	}
	defer os.RemoveAll(work)
	argv := []string{"sh", filepath.Join(c.scripts, s.name+".sh"), "run", dir}
	if with != "" {
		argv = append([]string{c.memjail, with, "-q", "--"}, argv...)
	}
	if as == "user" {
		if err := os.Chown(work, 65534, 65534); err != nil {
			return outcome{}, err
		}
		argv = append([]string{"setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"}, argv...)
	}
	// A suite that leaves processes or message queues behind must not disturb the next run.
	argv = append([]string{"unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc",
		"sh", "-c", `mount -t mqueue mqueue /dev/mqueue 2>/dev/null; exec "$@"`, "-", "timeout", "-k", "10", fmt.Sprint(int(c.limit.Seconds()))}, argv...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = work
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + work, "TMPDIR=" + work, "LC_ALL=C.UTF-8",
		"CGO_ENABLED=0"}
	log, err := os.Create(filepath.Join(dir, strings.Trim(as+"-"+with, "-")+".log"))
	if err != nil {
		return outcome{}, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	start := time.Now()
	err = cmd.Run() // a suite with failing tests fails
	o := outcome{took: time.Since(start)}
	if o.tests, err = s.results(work, log.Name(), err); err != nil {
		return outcome{}, fmt.Errorf("%s %s: %w (see %s)", as, with, err, log.Name())
	}
	return o, nil
}
