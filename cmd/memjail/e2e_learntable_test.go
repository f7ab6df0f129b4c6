package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// learnRow is what one program's run under its learned policy was like.
type learnRow struct {
	rules  int  // path rules
	unused int  // of which another run uses nothing
	same   bool // status and output
	secret int  // bytes of the planted secrets that it could read
	peers  map[string]string
	// failed is why other launchers made no profile, by their names.
	failed map[string]string
}

// learnRows are the rows of this run of the tests, by program and account.
var learnRows = struct {
	sync.Mutex
	of map[[2]string]learnRow
}{of: map[[2]string]learnRow{}}

// plantedSecrets are files of the home directory that no learned policy opens.
var plantedSecrets = []string{".ssh/id_ed25519", ".netrc", ".git-credentials", ".npmrc", ".aws/credentials",
	".config/gh/hosts.yml", ".cargo/credentials.toml", ".gnupg/secring", ".kube/config", ".docker/config.json",
	".pypirc", ".bash_history", ".pgpass", ".mozilla/key4.db"}

// secretText is the content of such a file: a comment to every program that reads one.
const secretText = "# secret secret\n"

// readSecrets is a shell's line that prints how many bytes of secrets it can read.
func readSecrets() string {
	var files []string
	for _, name := range plantedSecrets {
		files = append(files, "\"$HOME/"+name+"\"")
	}
	return "; cat " + strings.Join(files, " ") + " 2>/dev/null | grep -c '^# secret' || true"
}

// TestLearn: what is learned from one run lets the program do the same in another directory,
// and closes what it was not to have: the secrets that it read. Another run uses every path
// rule, so nothing is granted for one run alone.
func TestLearn(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		all := slices.Clone(learned)
		if !as.isRoot() { // the others once
			all = append(all, learnedBesides...)
		}
		for _, w := range all {
			if !w.learnedBy(as) {
				continue
			}
			t.Run(w.name, func(t *testing.T) {
				t.Parallel()
				learnOne(t, as, w)
			})
		}
	})
	if err := writeLearnTable(); err != nil {
		t.Error(err)
	}
}

// heavyPrograms are run for the table only, and slowPrograms otherwise by one account.
var (
	heavyPrograms = []string{"chromium"}
	slowPrograms  = []string{"npm install", "pip install", "go build", "cargo build", "a Java service"}
)

// learnedBy reports whether an account learns a program in this run of the tests.
func (w work) learnedBy(as account) bool {
	if w.name == "PostgreSQL" && as.isRoot() {
		return false // it refuses to run as root
	}
	return os.Getenv("MEMJAIL_LEARN_TABLE") != "" || !slices.Contains(heavyPrograms, w.name) &&
		(!slices.Contains(slowPrograms, w.name) || !as.isRoot())
}

func learnOne(t *testing.T, as account, w work) {
	as.needs(t, w.needs...)
	home := as.homeDir(t)
	for _, name := range plantedSecrets {
		plantFile(t, as, home, name, secretText)
	}
	plantFile(t, as, home, ".cache/x", "")
	kept := as.workDir(t)
	first, second := filepath.Join(kept, "1.toml"), filepath.Join(kept, "2.toml")
	env := []string{"HOME=" + home, "PORT=" + freePort(t)}
	run := func(launcher ...string) outcome {
		dir := as.workDir(t)
		for name, text := range w.files {
			plantFile(t, as, dir, name, text)
		}
		return job{as: as, dir: dir, argv: append(launcher, "sh", "-c", "set -e; "+w.script+readSecrets()),
			env: env, timeout: 3 * time.Minute}.run(t)
	}
	secrets := strconv.Itoa(len(plantedSecrets))
	row := learnRow{same: true, peers: map[string]string{}, failed: map[string]string{}}
	for _, r := range []struct {
		launcher []string
		secrets  string
	}{
		{nil, secrets}, // the control
		{[]string{memjailPath(t), "learn", "-q", "-o", first, "--"}, secrets},
		{[]string{memjailPath(t), "run", "-q", "-p", first, "--"}, "0"},
		{[]string{memjailPath(t), "learn", "-q", "-o", second, "--"}, secrets},
	} {
		o := run(r.launcher...)
		if want := w.prints + "\n" + r.secrets + "\n"; o.code != 0 || o.stdout != want {
			text, _ := os.ReadFile(first)
			t.Errorf("%q: want %q: %v\n%s", r.launcher, want, o, text)
			row.same = false
		}
		if r.secrets == "0" {
			lines := strings.Split(strings.TrimSpace(o.stdout), "\n")
			open, _ := strconv.Atoi(lines[len(lines)-1])
			row.secret = open * len(secretText)
		}
	}
	granted, again := rulesOf(t, first), rulesOf(t, second)
	row.rules = len(granted)
	for _, rule := range granted {
		if !slices.Contains(again, rule) {
			row.unused++
			t.Logf("granted, and not used again: %s", rule)
		}
	}
	if most := 1; row.unused > most { // a program may do something once only, such as make a cache
		t.Errorf("%d of %d path rules were not used again", row.unused, row.rules)
	}
	if o := (job{as: as, dir: as.workDir(t), argv: []string{memjailPath(t), "verify", "--no-probe",
		first}, env: env}).run(t); o.code != 0 {
		t.Errorf("the policy does not pass verify: %v", o)
	}
	if os.Getenv("MEMJAIL_LEARN_TABLE") != "" {
		learnPeers(t, as, w, run, &row)
	}
	learnRows.Lock()
	learnRows.of[[2]string{w.name, as.name}] = row
	learnRows.Unlock()
}

// rulesOf are the path rules of a learned policy, as they are written.
func rulesOf(t *testing.T, policy string) []string {
	text, err := os.ReadFile(policy)
	if err != nil {
		t.Fatal(err)
	}
	var rules []string
	for _, m := range regexp.MustCompile(`(?m)^    ("[^"]*"), # `).FindAllStringSubmatch(string(text), -1) {
		rules = append(rules, m[1])
	}
	return rules
}

// learnPeers has other launchers learn the same program.
func learnPeers(t *testing.T, as account, w work, run func(...string) outcome, row *learnRow) {
	dir := as.workDir(t)
	profile := filepath.Join(dir, "profile")
	for _, peer := range []struct {
		name       string
		learn, run []string
	}{
		{"firejail", []string{"firejail", "--quiet", "--build=" + profile},
			[]string{"firejail", "--quiet", "--profile=" + profile}},
		{"sandlock", []string{"sandlock", "learn", "--collapse", "-o", profile, "--"},
			[]string{"sandlock", "run", "-p", profile, "--"}},
	} {
		if as.find(t, peer.name) == "" {
			continue
		}
		os.Remove(profile)
		learn := run(peer.learn...)
		if _, err := os.Stat(profile); err != nil {
			why, _, _ := strings.Cut(learn.stderr, "\n")
			row.failed[peer.name] = why
			row.peers[peer.name] = "no profile"
			continue
		}
		o := run(peer.run...)
		out := strings.TrimSpace(o.stdout)
		end := max(strings.LastIndexByte(out, '\n'), 0)
		open, err := strconv.Atoi(strings.TrimSpace(out[end:]))
		out = out[:end]
		switch {
		case o.code != 0 || out != w.prints || err != nil:
			row.peers[peer.name] = "fails"
		default:
			row.peers[peer.name] = fmt.Sprintf("yes, %d bytes", open*len(secretText))
		}
	}
}

const (
	learnTableBegin = "<!-- made by make learn-table -->\n"
	learnTableEnd   = "<!-- end -->\n"
)

// writeLearnTable brings the rows of this run into the page that MEMJAIL_LEARN_TABLE names.
func writeLearnTable() error {
	page := os.Getenv("MEMJAIL_LEARN_TABLE")
	if page == "" {
		return nil
	}
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), learnTableBegin)
	_, after, closed := strings.Cut(rest, learnTableEnd)
	if !ok || !closed {
		return fmt.Errorf("%s has no table between %q and %q", page, learnTableBegin, learnTableEnd)
	}
	return os.WriteFile(page, []byte(before+learnTableBegin+learnTable()+learnTableEnd+after), 0o644)
}

func learnTable() string {
	var peers []string // that made a profile of some program
	for _, name := range peerNames {
		for _, row := range learnRows.of {
			if row.peers[name] != "" && row.failed[name] == "" && !slices.Contains(peers, name) {
				peers = append(peers, name)
			}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n| program | as | path rules | not used again | same output | secret bytes readable |")
	for _, name := range peers {
		fmt.Fprintf(&b, " %s |", name)
	}
	fmt.Fprintf(&b, "\n|---|---|---|---|---|---|%s\n", strings.Repeat("---|", len(peers)))
	for _, w := range learned {
		for _, as := range []string{"user", "root"} {
			row, ok := learnRows.of[[2]string{w.name, as}]
			if !ok {
				continue
			}
			fmt.Fprintf(&b, "| %s | %s | %d | %d | %s | %d |", w.name, as, row.rules, row.unused,
				map[bool]string{true: "yes", false: "**no**"}[row.same], row.secret)
			for _, name := range peers {
				fmt.Fprintf(&b, " %s |", row.peers[name])
			}
			b.WriteString("\n")
		}
	}
	b.WriteString("\n")
	for _, name := range peerNames {
		if _, err := exec.LookPath(name); err != nil {
			fmt.Fprintf(&b, "%s was not installed.\n\n", name)
		} else if !slices.Contains(peers, name) {
			fmt.Fprintf(&b, "%s made no profile: %s.\n\n", name, strings.Join(peerFailures(name), "; "))
		}
	}
	return b.String()
}

var peerNames = []string{"firejail", "sandlock"}

// peerFailures are what a launcher said that made no profile, and to whom.
func peerFailures(name string) []string {
	var said []string
	for key, row := range learnRows.of {
		if text := fmt.Sprintf("%q as %s", row.failed[name], key[1]); row.failed[name] != "" &&
			!slices.Contains(said, text) {
			said = append(said, text)
		}
	}
	slices.Sort(said)
	return said
}
