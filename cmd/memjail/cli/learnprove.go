package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/report"
	"github.com/memjail/memjail/supervisor"
)

// maxCompared bounds how much of an output is kept to be compared, in bytes.
const maxCompared = 16 << 20

// trial is one run of a command.
type trial struct {
	status   int
	out, err []string // lines
	files    tree     // of the directory that it ran in, afterwards; nil: not known
}

// limitedBuffer keeps the beginning of what is written to it.
type limitedBuffer struct{ *bytes.Buffer }

func (b limitedBuffer) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:max(0, min(len(p), maxCompared-b.Len()))])
	return len(p), nil
}

// prover runs a command three times: to learn, once more without path rules, and under what
// was learned. The second shows what differs from run to run anyway, such as times.
type prover struct {
	options *learnOptions
	command []string
	env     []string
	io      streams

	dir   string // the working directory
	start string // a copy of it as it was at first; "": all runs are in the directory itself
	work  string // where such copies are; "" if there are none
}

// prove learns and then runs the command again, without and under the policy.
func (p *prover) prove() error {
	target, err := filepath.Abs(p.options.target())
	if err != nil {
		return fmt.Errorf("--prove: %w", err)
	}
	p.copyDirectory()
	defer p.removeCopies()
	learned, err := p.run(p.dir, true, p.learnArguments(target)...)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(target)
	if err != nil || learned.status == exitFailed {
		return statusError(learned.status) // it did not come to a policy, and has said why
	}
	log, err := os.CreateTemp("", "memjail-learn-")
	if err != nil {
		return fmt.Errorf("--prove: %w", err)
	}
	defer os.Remove(log.Name())
	defer log.Close()
	again, err := p.rerun("run", "--quiet")
	if err != nil {
		return err
	}
	under, err := p.rerun("run", "--quiet", "-p", target, "--log", log.Name(), "--log-format", "json")
	if err != nil {
		return err
	}
	p.printRefused(log)
	if now, err := os.ReadFile(target); err != nil || !bytes.Equal(now, text) {
		return fmt.Errorf("--prove: CMD, or somebody else, has changed %s meanwhile: do not use it", p.options.target())
	}
	return p.judge(learned, again, under)
}

func (p *prover) learnArguments(target string) []string {
	args := []string{"learn", "--quiet"}
	if p.options.output != "" {
		args = append(args, "--output", target)
	}
	if p.options.merge != "" {
		args = append(args, "--merge", p.options.merge)
	}
	for _, name := range p.options.extends {
		args = append(args, "--extends", name)
	}
	if p.options.view != "" {
		args = append(args, "--view", p.options.view)
	}
	if p.options.secrets {
		args = append(args, "--secrets")
	}
	return args
}

// copyDirectory copies the working directory to a new one next to it, where the same path
// rules apply to copies as to itself, so that each run begins with the same files.
func (p *prover) copyDirectory() {
	places, err := learnPlaces(p.env)
	if err != nil {
		return
	}
	p.dir = places.Dir
	if p.dir == "/" || p.dir == places.Home || strings.HasPrefix(places.Home, p.dir+"/") {
		return // too much, and not the program's own
	}
	if p.work, err = os.MkdirTemp(filepath.Dir(p.dir), ".memjail-prove-"); err != nil {
		p.work = ""
		return
	}
	start := filepath.Join(p.work, "0", filepath.Base(p.dir))
	if copyTree(p.dir, start) == nil {
		p.start = start
	}
}

// linkSiblings makes what lies next to the working directory lie next to a copy of it.
func (p *prover) linkSiblings(parent string) {
	siblings, err := os.ReadDir(filepath.Dir(p.dir))
	const most = 1000
	if err != nil || len(siblings) > most {
		return
	}
	for _, s := range siblings {
		if path := filepath.Join(filepath.Dir(p.dir), s.Name()); path != p.dir && path != p.work {
			os.Symlink(path, filepath.Join(parent, s.Name())) // a program that needs it will say so
		}
	}
}

func (p *prover) removeCopies() {
	if p.work == "" {
		return
	}
	filepath.WalkDir(p.work, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			os.Chmod(path, 0o700) // a copy may lack the right to remove what is in it
		}
		return nil
	})
	os.RemoveAll(p.work)
}

// rerun runs memjail where the first run began: in a copy of its directory, if there is one.
func (p *prover) rerun(args ...string) (*trial, error) {
	if p.start == "" {
		return p.run(p.dir, false, args...)
	}
	parent, err := os.MkdirTemp(p.work, "")
	if err != nil {
		return nil, fmt.Errorf("--prove: %w", err)
	}
	p.linkSiblings(parent)
	dir := filepath.Join(parent, filepath.Base(p.dir))
	if err := copyTree(p.start, dir); err != nil {
		return nil, fmt.Errorf("--prove: copying the working directory: %w", err)
	}
	return p.run(dir, false, args...)
}

// run runs memjail with the arguments before the command. show passes on what it prints.
func (p *prover) run(dir string, show bool, args ...string) (*trial, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("/proc/self/exe", append(append(args, "--"), p.command...)...)
	cmd.Args[0], cmd.Stdin, cmd.Dir = "memjail", p.stdin(), dir
	cmd.Env = append(slices.Clone(p.env), "PWD="+dir)
	if !slices.ContainsFunc(p.env, func(e string) bool { return strings.HasPrefix(e, "PWD=") }) {
		cmd.Env = slices.Clone(p.env)
	}
	cmd.Stdout, cmd.Stderr = limitedBuffer{&stdout}, limitedBuffer{&stderr}
	if show {
		cmd.Stdout, cmd.Stderr = io.MultiWriter(p.io.out, cmd.Stdout), io.MultiWriter(p.io.err, cmd.Stderr)
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, fmt.Errorf("running memjail again: %w", err)
	}
	t := &trial{status: cmd.ProcessState.ExitCode()}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		t.status = exitSignal + int(ws.Signal())
	}
	lines := func(text string) []string {
		if dir != "" && dir != p.dir {
			text = strings.ReplaceAll(text, dir, p.dir)
		}
		return strings.SplitAfter(text, "\n")
	}
	t.out, t.err = lines(stdout.String()), lines(stderr.String())
	if p.start != "" {
		t.files = readTree(dir, p.dir)
	}
	return t, nil
}

// stdin is that of each run: a file from its beginning, anything else only once, for the
// first.
func (p *prover) stdin() io.Reader {
	if st, err := os.Stdin.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil
	}
	os.Stdin.Seek(0, io.SeekStart)
	return os.Stdin
}

// judge prints in what the run under the policy differs from both others.
func (p *prover) judge(learned, again, under *trial) error {
	var varies, differs []string
	sort := func(what string, two, three string) {
		switch {
		case two != "":
			varies = append(varies, what+two)
		case three != "":
			differs = append(differs, what+three)
		}
	}
	sort("", statusDiffers(learned, again), statusDiffers(again, under))
	for _, stream := range []struct {
		name                 string
		learned, again, then []string
	}{{"standard output", learned.out, again.out, under.out}, {"standard error", learned.err, again.err, under.err}} {
		two, three := linesDiffer(stream.learned, stream.again, stream.then)
		sort(stream.name, two, three)
	}
	two, three := filesDiffer(learned.files, again.files, under.files)
	sort("files", two, three)
	if p.start == "" {
		fmt.Fprintln(p.io.err, "memjail: all runs are in the working directory itself, since it cannot be copied; "+
			"files are not compared")
	}
	target := report.Printable(p.options.target())
	for _, text := range varies {
		fmt.Fprintf(p.io.err, "memjail: not compared, since two runs without rules differ: %s\n", text)
	}
	switch {
	case len(differs) > 0:
	case len(varies) > 0:
		fmt.Fprintf(p.io.err, "memjail: under %s nothing else differs\n", target)
		return nil
	default:
		fmt.Fprintf(p.io.err, "memjail: proven: under %s CMD does what it does without\n", target)
		return nil
	}
	for _, text := range differs {
		fmt.Fprintf(p.io.err, "memjail: under %s CMD differs: %s\n", target, text)
	}
	return statusError(exitFinding)
}

func statusDiffers(a, b *trial) string {
	if a.status == b.status {
		return ""
	}
	return fmt.Sprintf("exit status %d instead of %d", b.status, a.status)
}

// linesDiffer compares the lines of three runs. A line that is not the same in both runs
// without rules is not compared. varies: these have not even as many lines.
func linesDiffer(learned, again, under []string) (varies, differs string) {
	if len(learned) != len(again) {
		if slices.Equal(again, under) || slices.Equal(learned, under) {
			return "", ""
		}
		return fmt.Sprintf(": %d lines instead of %d", len(again)-1, len(learned)-1), ""
	}
	for i := range max(len(again), len(under)) {
		if i < len(again) && (learned[i] != again[i] || i < len(under) && under[i] == again[i]) {
			continue
		}
		return "", fmt.Sprintf(", line %d: %s instead of %s", i+1, excerpt(under, i), excerpt(again, i))
	}
	return "", ""
}

// excerpt quotes the beginning of a line.
func excerpt(lines []string, i int) string {
	if i >= len(lines) || lines[i] == "" {
		return "nothing"
	}
	const most = 80
	line := strings.TrimSuffix(lines[i], "\n")
	if len(line) > most {
		line = strings.ToValidUTF8(line[:most], "") + "..."
	}
	return policy.ShellWord(line)
}

// filesDiffer compares the files that three runs left. Those that are not the same after
// both runs without rules are not compared.
func filesDiffer(learned, again, under tree) (varies, differs string) {
	if learned == nil || again == nil || under == nil {
		return "", ""
	}
	either := learned.differing(again)
	found := slices.DeleteFunc(again.differing(under), func(path string) bool { return slices.Contains(either, path) })
	if len(found) == 0 {
		return "", ""
	}
	const most = 5
	text := ": " + policy.ShellWord(found[0])
	for _, path := range found[1:min(most, len(found))] {
		text += ", " + policy.ShellWord(path)
	}
	if len(found) > most {
		text += fmt.Sprintf(" and %d more", len(found)-most)
	}
	return "", text
}

// printRefused prints what the log says was refused.
func (p *prover) printRefused(log io.Reader) {
	lines := json.NewDecoder(log)
	const most = 10
	seen := map[string]bool{}
	for {
		var e supervisor.Event
		if lines.Decode(&e) != nil {
			return
		}
		if e.Call == "" { // one of memjail's warnings
			continue
		}
		text := fmt.Sprintf("%s: %s %s", e.Comm, e.Call, policy.ShellWord(e.Path))
		if seen[text] {
			continue
		}
		seen[text] = true
		if len(seen) > most {
			fmt.Fprintln(p.io.err, "memjail: refused: more")
			return
		}
		fmt.Fprintf(p.io.err, "memjail: refused: %s; %s\n", report.Printable(text), allowing(e))
	}
}
