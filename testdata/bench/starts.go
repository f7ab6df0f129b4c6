package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// nothing is a program that only starts and ends.
const nothing = "/bin/true"

// startCases are what it takes until a program runs, and until it is gone.
func startCases() []benchCase {
	detail := func(name string, prepare func(*stage) error) benchCase {
		return benchCase{name: name, unit: nanoseconds, runs: 60, detail: true, prepare: prepare}
	}
	return []benchCase{
		{name: "start/true", unit: nanoseconds, runs: 100, seconds: 16, prepare: prepareStarts, goals: []goal{
			{"start under run, by bwrap", "memjail", "bwrap", 1.4},
			{"start under exec without a supervisor, by landrun", "memjail-exec-plain", "landrun", 1},
		}},
		{name: "start/modes", unit: nanoseconds, runs: 60, seconds: 12, prepare: prepareModes},
		{name: "start/kill-rest", unit: nanoseconds, runs: 15, seconds: 4, prepare: prepareKillRest, goals: []goal{
			{"killing 200 processes that are left", "killed", "none-left", 10}}},
		detail("start/view", prepareViews(false)),
		detail("start/view-ordinary-user", prepareViews(true)),
		detail("start/pin-true", preparePin(nothing)),
		detail("start/pin-ls", preparePin("/bin/ls")),
		detail("start/pin-git", preparePin("/usr/bin/git", "--version")),
		detail("start/pin-python", preparePin("/usr/bin/python3", "-c", "pass")),
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

// execPlain is memjail's way to become the command, without a supervisor.
var execPlain = words("exec -q --memory no-write --allow procfs.write= --")

func prepareStarts(s *stage) error {
	s.beside(1, nothing)
	s.whole("memjail-exec", s.memjail, "exec", "-q", "--", nothing)
	s.whole("memjail-exec-plain", slices.Concat([]string{s.memjail}, execPlain, []string{nothing})...)
	return nil
}

// prepareModes is a start in each way that costs something of its own.
func prepareModes(s *stage) error {
	big, err := s.rulesPolicy(300)
	if err != nil {
		return err
	}
	s.whole("native", nothing)
	s.whole("version", s.memjail, "version") // the Go runtime, and nothing of ours
	s.whole("run", append(s.inside(), nothing)...)
	workspace := []string{"-p", "workspace", "--report=off"}
	modes := []struct {
		name  string
		flags []string
	}{
		{"everything-allowed", words("--memory allow")},
		{"no-write", words("--memory no-write --allow procfs.write=")},
		{"workspace", workspace},
		{"workspace-watched", words(workspace[:2], "--log", os.DevNull)},
		{"workspace-private-view", words(workspace, "--view private")},
		{"policy-of-300-rules", []string{"-p", big}},
	}
	if os.Geteuid() == 0 {
		modes = append(modes, struct {
			name  string
			flags []string
		}{"pin", []string{"--pin"}})
	} else {
		s.skipped = append(s.skipped, "pin: only root can")
	}
	for _, mode := range modes {
		s.whole(mode.name, append(s.inside(mode.flags...), nothing)...)
	}
	s.whole("learn", s.memjail, "learn", "-q", "--", nothing)
	s.whole("exec", s.memjail, "exec", "-q", "--", nothing)
	s.whole("exec-plain", slices.Concat([]string{s.memjail}, execPlain, []string{nothing})...)
	user, err := unprivileged()
	if user == nil || err != nil {
		return err
	}
	s.whole("user-native", append(slices.Clone(user), nothing)...)
	s.whole("user-run", slices.Concat(user, s.inside(), []string{nothing})...)
	s.whole("user-private-view", slices.Concat([]string{"env", "-C", "/usr", "HOME=/"}, user,
		s.inside(append(workspace, "--view", "private")...), []string{nothing})...)
	return nil
}

// prepareKillRest is an end that has to kill 200 processes.
func prepareKillRest(s *stage) error {
	s.whole("none-left", append(s.inside("--kill-rest"), s.crowd, "0", "leave")...)
	s.whole("killed", append(s.inside("--kill-rest"), s.crowd, "200", "leave")...)
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
			path, err := s.find("bwrap")
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

// holdMounts starts a process whose own mount namespace has count more mounts, and
// returns its number.
func (s *stage) holdMounts(count int) (pid int, err error) {
	dir := filepath.Join(s.dir, fmt.Sprintf("mounts-%d", count))
	const script = `i=0; while [ $i -lt $1 ]; do mkdir -p $0/$i && mount -t tmpfs -o size=4k none $0/$i || exit; i=$((i+1)); done; echo ready; exec cat`
	return s.hold("unshare", "--mount", "sh", "-c", script, dir, strconv.Itoa(count))
}

// hold starts a process until the end of the case.
func (s *stage) hold(argv ...string) (pid int, err error) {
	pid, end, err := startHeld(argv...)
	if err == nil {
		s.close(end)
	}
	return pid, err
}
