package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// nothing is a program that only starts and ends.
const nothing = "/bin/true"

// startCases are what it takes until a program runs, and until it is gone.
func startCases() []benchCase {
	return []benchCase{
		{name: "start/true", unit: nanoseconds, runs: 100, prepare: prepareStarts, goals: []goal{
			{"start under run, by bwrap", "run", "bwrap", 1},
			{"start under exec without a supervisor, by landrun", "exec-plain", "landrun", 0.8},
		}},
		{name: "start/rules", unit: nanoseconds, runs: 60, prepare: prepareRules},
		{name: "start/view", unit: nanoseconds, runs: 60, prepare: prepareViews(false)},
		{name: "start/view-ordinary-user", unit: nanoseconds, runs: 60, prepare: prepareViews(true)},
		{name: "start/mounts", unit: nanoseconds, runs: 40, prepare: prepareMounts},
		{name: "start/pin-true", unit: nanoseconds, runs: 60, prepare: preparePin(nothing)},
		{name: "start/pin-ls", unit: nanoseconds, runs: 60, prepare: preparePin("/bin/ls")},
		{name: "start/pin-git", unit: nanoseconds, runs: 60, prepare: preparePin("/usr/bin/git", "--version")},
		{name: "start/pin-python", unit: nanoseconds, runs: 60, prepare: preparePin("/usr/bin/python3", "-c", "pass")},
	}
}

// copyFirst is the script that people write instead of pinning: it copies a program and its
// libraries into memory and runs the copy.
const copyFirst = `dir=$(mktemp -d /dev/shm/copy-XXXXXX) || exit
trap 'rm -rf "$dir"' EXIT
program=$1
shift
cp -L "$program" $(ldd "$program" | grep -o '/[^ ]*') "$dir" || exit
"$dir"/ld-linux*.so* --library-path "$dir" "$dir/${program##*/}" "$@"`

// preparePin is a start from copies, next to that script.
func preparePin(argv ...string) func(s *stage) error {
	return func(s *stage) error {
		if os.Geteuid() != 0 {
			return skip("only root can pin")
		}
		if _, err := look(argv[0]); err != nil {
			return err
		}
		s.whole("native", argv...)
		s.whole("run", append(s.inside(), argv...)...)
		s.whole("run-pin", append(s.inside("--pin"), argv...)...)
		s.whole("script", append([]string{"sh", "-c", copyFirst, "sh"}, argv...)...)
		return nil
	}
}

func prepareStarts(s *stage) error {
	big, err := s.rulesPolicy(300)
	if err != nil {
		return err
	}
	s.whole("native", nothing)
	s.whole("run", append(s.inside(), nothing)...)
	s.whole("run-big-policy", append(s.inside("-p", big), nothing)...)
	s.whole("exec", s.memjail, "exec", "-q", "--", nothing)
	s.whole("exec-plain", s.memjail, "exec", "-q", "--memory", "no-write", "--allow", "procfs.write=", "--", nothing)
	s.whole("version", s.memjail, "version") // the Go runtime, and nothing of ours
	for _, peer := range [][]string{
		{"bwrap", "--dev-bind", "/", "/"},
		{"firejail", "--quiet", "--noprofile", "--seccomp"},
		{"landrun", "--rwx", "/"},
	} {
		path, err := look(peer[0])
		if err != nil {
			s.skipped = append(s.skipped, err.Error())
			continue
		}
		argv := slices.Concat([]string{path}, peer[1:], []string{nothing})
		if _, err := output(argv); err != nil {
			first, _, _ := strings.Cut(err.Error(), "\n")
			s.skipped = append(s.skipped, fmt.Sprintf("%s does not start here: %s", peer[0], first))
			continue
		}
		s.whole(peer[0], argv...)
	}
	return nil
}

// rulesPolicy writes a policy with a rule for each of count directories.
func (b *bench) rulesPolicy(count int) (string, error) {
	var text strings.Builder
	text.WriteString("version = 1\n[paths]\nrox = [\"/usr\", \"/bin\", \"/lib\", \"/lib64\", " +
		"\"/etc\"]\noptional = [\"/lib64\"]\nro = [\n")
	for i := range count {
		dir := filepath.Join(b.dir, "rules", strconv.Itoa(i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
		fmt.Fprintf(&text, "  %q,\n", dir)
	}
	text.WriteString("]\n")
	name := filepath.Join(b.dir, fmt.Sprintf("rules-%d.toml", count))
	return name, os.WriteFile(name, []byte(text.String()), 0o644)
}

func prepareRules(s *stage) error {
	s.whole("native", nothing)
	for _, count := range []int{0, 10, 50, 200, 1000} {
		name, err := s.rulesPolicy(count)
		if err != nil {
			return err
		}
		s.whole(fmt.Sprintf("%d-rules-more", count), append(s.inside("-p", name), nothing)...)
	}
	return nil
}

// prepareViews is a start with a private view of some directories: as root in a mount namespace
// only, and as an ordinary user in a user namespace, too. bwrap shows the same directories.
func prepareViews(ordinary bool) func(s *stage) error {
	return func(s *stage) error {
		as := []string{"env", "-C", "/"} // a directory that exists in the view
		if ordinary {
			user, err := unprivileged()
			if err != nil {
				return err
			}
			as = append(as, user...)
		} else if os.Geteuid() != 0 {
			return skip("only root makes a mount namespace without a user namespace")
		}
		s.whole("native", append(slices.Clone(as), nothing)...)
		for _, count := range []int{0, 10, 50} {
			policy, err := s.rulesPolicy(count)
			if err != nil {
				return err
			}
			name := fmt.Sprintf("%d-rules-more", count)
			s.whole("run-"+name, slices.Concat(as, s.inside("-p", policy), []string{nothing})...)
			s.whole("view-"+name, slices.Concat(as, s.inside("-p", policy, "--view", "private"), []string{nothing})...)
			path, err := look("bwrap")
			if err != nil {
				s.skipped = append(s.skipped, err.Error())
				continue
			}
			s.whole("bwrap-"+name, slices.Concat(as, append([]string{path}, bwrapView(s.dir, count)...),
				[]string{nothing})...)
		}
		return nil
	}
}

// bwrapView are arguments for bwrap that show what [bench.rulesPolicy] grants.
func bwrapView(dir string, count int) []string {
	args := []string{"--dev-bind", "/dev", "/dev", "--bind", "/proc", "/proc"}
	for _, name := range []string{"/usr", "/bin", "/lib", "/lib64", "/etc"} {
		args = append(args, "--ro-bind-try", name, name)
	}
	for i := range count {
		rule := filepath.Join(dir, "rules", strconv.Itoa(i))
		args = append(args, "--ro-bind", rule, rule)
	}
	return args
}

// prepareMounts makes mount namespaces with more and more mounts; a start there
// includes entering them.
func prepareMounts(s *stage) error {
	if os.Geteuid() != 0 {
		return skip("only root can mount")
	}
	for _, program := range []string{"unshare", "nsenter"} {
		if _, err := look(program); err != nil {
			return err
		}
	}
	for _, count := range []int{0, 50, 500} {
		holder, err := s.holdMounts(count)
		if err != nil {
			return err
		}
		enter := []string{"nsenter", "--mount", "--target", strconv.Itoa(holder)}
		s.whole(fmt.Sprintf("native-%d-mounts-more", count), append(slices.Clone(enter), nothing)...)
		s.whole(fmt.Sprintf("run-%d-mounts-more", count), slices.Concat(enter, s.inside(), []string{nothing})...)
	}
	return nil
}

// holdMounts starts a process whose own mount namespace has count more mounts, and
// returns its number.
func (s *stage) holdMounts(count int) (pid int, err error) {
	dir := filepath.Join(s.dir, fmt.Sprintf("mounts-%d", count))
	const script = `i=0; while [ $i -lt $1 ]; do mkdir -p $0/$i && mount -t tmpfs -o size=4k none $0/$i || exit; i=$((i+1)); done; echo ready; exec cat`
	return s.hold("unshare", "--mount", "sh", "-c", script, dir, strconv.Itoa(count))
}

// hold starts a process that says "ready" and ends with its input, which the end of
// the case closes.
func (s *stage) hold(argv ...string) (pid int, err error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	s.close(func() { in.Close(); cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		return 0, fmt.Errorf("%q said %q: %w", argv, line, err)
	}
	return cmd.Process.Pid, nil
}
