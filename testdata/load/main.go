// Load puts memjail under load and measures what it costs memjail itself: stress-ng's
// stressors class by class inside one sandbox each, with canaries inside and outside; many
// sandboxes at once and one after the other; and a sandbox that opens files and forks for a
// long time, whose supervisor must not grow. Rows of FILE that are not tried again stay.
//
//	load [-time D] [-sandboxes N] [-only PATTERN] [-page FILE] MEMJAIL
//
// It needs root, to run as an ordinary user of its own number in a pid namespace with limits
// on processes, memory and file sizes: what stress-ng forks, fills or kills is its own.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// user is the number of an ordinary user that nobody has, so that limits per user count only
// what this program starts.
const user = 23456

type bench struct {
	memjail, self, dir string
	time               time.Duration
	only               *regexp.Regexp
	tasks              int // the limit of processes and threads
	page               string
	wrong              int
	rows               map[string][]string // of the tables, by their heading
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == canaryRole {
		os.Exit(canary(os.Args[2:]))
	}
	duration := flag.Duration("time", 10*time.Minute, "of the long run")
	sandboxes := flag.Int("sandboxes", 1000, "how `MANY` at once, and one after the other")
	only := flag.String("only", "", "only loads whose names match `PATTERN`")
	page := flag.String("page", "", "write the tables between the marks of `FILE`")
	flag.Parse()
	if flag.NArg() != 1 || os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "load needs root, and the name of memjail")
		os.Exit(2)
	}
	if os.Getpid() != 1 {
		os.Exit(shutIn())
	}
	b := &bench{memjail: flag.Arg(0), time: *duration, only: regexp.MustCompile(*only), page: *page,
		rows: map[string][]string{}}
	if err := b.all(*sandboxes); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(2)
	}
	if b.wrong > 0 {
		os.Exit(1)
	}
}

// shutIn runs this program again as process 1 of a pid namespace, whose end ends everything.
func shutIn() int {
	cmd := exec.Command("unshare", append([]string{"--pid", "--fork", "--kill-child", "--mount", "--mount-proc",
		"/proc/self/exe"}, os.Args[1:]...)...)
	self, err := os.Executable()
	if err != nil {
		return 2
	}
	cmd.Args[6] = self
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) {
		return exit.ExitCode()
	} else if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		return 2
	}
	return 0
}

func (b *bench) all(sandboxes int) (err error) {
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	b.tasks = 6000 + sandboxes*30 // a supervisor and a canary have a dozen threads each
	if b.dir, err = os.MkdirTemp("", "load-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	// Where another user reaches them.
	for _, file := range []*string{&b.memjail, &b.self} {
		text, err := os.ReadFile(*file)
		if err != nil {
			return err
		}
		*file = b.dir + "/" + []string{"memjail", "load"}[map[bool]int{true: 0, false: 1}[file == &b.memjail]]
		if err := os.WriteFile(*file, text, 0o755); err != nil {
			return err
		}
	}
	if err := errors.Join(os.Chmod(b.dir, 0o755), os.Mkdir(b.dir+"/work", 0o700), os.Chown(b.dir+"/work", user, user)); err != nil {
		return err
	}
	outside := b.command(b.self, canaryRole, "cat")
	held, err := outside.StdinPipe()
	if err != nil {
		return err
	}
	var said strings.Builder
	outside.Stdout = &said
	if err := outside.Start(); err != nil {
		return err
	}
	for _, load := range []func() error{b.stress, func() error { return b.sequence(sandboxes) },
		func() error { return b.atOnce(sandboxes) }, b.grow} {
		if err := load(); err != nil {
			return err
		}
	}
	held.Close()
	if err := outside.Wait(); err != nil || said.String() != canaryHeld {
		b.complain("the canary outside: %q, %v", said.String(), err)
	}
	return nil
}

func (b *bench) complain(format string, args ...any) {
	b.wrong++
	fmt.Printf("WRONG: "+format+"\n", args...)
}

// command is one that runs as the ordinary user, under limits.
func (b *bench) command(argv ...string) *exec.Cmd {
	limits := []string{"prlimit", "--nproc=" + strconv.Itoa(b.tasks), "--as=4294967296", "--fsize=268435456", "--core=0", "setpriv",
		"--reuid", strconv.Itoa(user), "--regid", strconv.Itoa(user), "--clear-groups"}
	argv = append(limits, argv...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = b.dir+"/work", []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "HOME=" + b.dir + "/work", "LANG=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// usage is what a supervisor has.
type usage struct{ memory, descriptors, threads int }

func usageOf(pid int) (u usage, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		switch {
		case len(fields) < 2:
		case fields[0] == "VmRSS:":
			u.memory, err = strconv.Atoi(fields[1])
		case fields[0] == "Threads:":
			u.threads, err = strconv.Atoi(fields[1])
		}
	}
	entries, listErr := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	u.descriptors = len(entries)
	return u, errors.Join(err, listErr)
}

// watch measures a supervisor until it ends: when a quarter of the time has passed, and the
// last time.
func watch(pid int, during time.Duration, ended <-chan error) (early, last usage, err error) {
	begin := time.Now()
	for tick := time.NewTicker(during / 50); ; {
		select {
		case err := <-ended:
			tick.Stop()
			return early, last, err
		case <-tick.C:
			now, err := usageOf(pid)
			if err != nil || now.memory == 0 { // it is ending
				continue
			}
			if last = now; time.Since(begin) < during/4 {
				early = now
			}
		}
	}
}

// run runs a command inside and watches its supervisor. What does not end is ended.
func (b *bench) run(during time.Duration, argv ...string) (out string, early, last usage, err error) {
	cmd := b.command(append([]string{b.memjail, "run", "-q", "--"}, argv...)...)
	var text strings.Builder
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Start(); err != nil {
		return "", early, last, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	timer := time.AfterFunc(2*during+time.Minute, func() {
		b.complain("%q did not end", argv)
		unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	})
	defer timer.Stop()
	early, last, err = watch(cmd.Process.Pid, during, ended)
	return text.String(), early, last, err
}
