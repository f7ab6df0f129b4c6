package main_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestLearnMerge: runs widen a policy that somebody wrote, by what each of them used; the
// rest of the file stays as it is, and merging a run twice changes nothing.
func TestLearnMerge(t *testing.T) {
	t.Parallel()
	const mine = `version = 1 # mine

[paths]
# Programs.
rox = ["/usr", "?/bin", "?/lib", "?/lib64"] # of the system
ro = [
  "?/etc/ld.so.cache", # the loader
  "${PWD}", # my work
]

[network]
unix = []

[[test]]
name   = "my own"
access = "read"
path   = "/proc/self/mem"
expect = "deny"
`
	forAccounts(t, func(t *testing.T, as account) {
		home, dir := as.homeDir(t), as.workDir(t)
		plantSecret(t, as, home)
		plantFile(t, as, home, ".cache/tool/x", "cached\n")
		plantFile(t, as, dir, "p.toml", mine)
		do := func(args ...string) outcome {
			return job{as: as, dir: dir, argv: append([]string{memjailPath(t)}, args...),
				env: []string{"HOME=" + home}, timeout: time.Minute}.run(t)
		}
		read := func(name string) string {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
		runs := []struct{ script, prints string }{
			{"echo hi > f; cat f; cat $HOME/.ssh/id 2>/dev/null || true", "hi\n"},
			{"cat $HOME/.cache/tool/x", "cached\n"},
		}
		for _, run := range runs { // the control
			if o := do("run", "-q", "-p", "./p.toml", "--", "sh", "-c", "set -e; "+run.script); o.code == 0 {
				t.Errorf("%s works without being learned: %v", run.script, o)
			}
		}
		for _, run := range runs {
			if o := do("learn", "-q", "--merge", "p.toml", "--", "sh", "-c", run.script); o.code != 0 {
				t.Fatal(o)
			}
		}
		text := read("p.toml")
		for _, run := range runs {
			o := do("run", "-q", "-p", "./p.toml", "--", "sh", "-c", "set -e; "+run.script)
			if o.code != 0 || o.stdout != run.prints {
				t.Errorf("%s: want %q: %v\n%s", run.script, run.prints, o, text)
			}
			do("learn", "-q", "--merge", "p.toml", "--", "sh", "-c", run.script)
		}
		if again := read("p.toml"); again != text {
			t.Errorf("merged again:\n%s\nbefore:\n%s", again, text)
		}
		for line := range strings.Lines(mine) {
			if !strings.Contains(line, "${PWD}") && !strings.Contains(text, strings.TrimRight(line, "]\n")) {
				t.Errorf("%q is gone:\n%s", line, text)
			}
		}
		if !strings.Contains(text, "    \"${PWD}\", # my work; sh: ") {
			t.Errorf("the line has not moved:\n%s", text)
		}
		if o := do("verify", "--no-probe", "./p.toml"); o.code != 0 {
			t.Errorf("verify: %v", o)
		}
		if o := do("learn", "--merge", "p.toml", "--extends", "strict", "--", "true"); o.code != 125 {
			t.Errorf("--merge and --extends: %v", o)
		}
	})
}

// TestLearnExtends: the policy lists only what the one that it extends does not give.
func TestLearnExtends(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		home, dir := as.homeDir(t), as.workDir(t)
		plantFile(t, as, home, ".cache/tool/x", "cached\n")
		for _, base := range []string{"workspace", "strict", "memory"} {
			argv := []string{"sh", "-c", "set -e; echo hi > f; cat f " + home + "/.cache/tool/x"}
			for _, launcher := range [][]string{{"learn", "-q", "--extends", base, "-o", base + ".toml", "--"},
				{"run", "-q", "-p", base + ".toml", "--"}} {
				o := job{as: as, dir: dir, argv: slices.Concat([]string{memjailPath(t)}, launcher, argv),
					env: []string{"HOME=" + home}}.run(t)
				if o.code != 0 || o.stdout != "hi\ncached\n" {
					t.Fatalf("%s: %v", launcher, o)
				}
			}
			text, err := os.ReadFile(filepath.Join(dir, base+".toml"))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), "extends = [\""+base+"\"]") ||
				strings.Contains(string(text), "\"/usr\"") != (base != "workspace") ||
				!strings.Contains(string(text), ".cache/tool\"") {
				t.Errorf("%s", text)
			}
		}
	})
}

// TestLearnProve: what two runs without rules differ in says nothing about the policy, and
// everything else does. Each run begins with the same files.
func TestLearnProve(t *testing.T) {
	t.Parallel()
	forAccounts(t, func(t *testing.T, as account) {
		home := as.homeDir(t)
		plantSecret(t, as, home)
		for _, c := range []struct {
			name, script string
			code         int
			says         []string
		}{
			{"the same", "mkdir d; echo a > d/f; cat ../sibling", 0,
				[]string{"proven: under p.toml CMD does what it does without"}},
			{"a time", "date +%N | tee out", 0, []string{"proven:"}},
			// Milliseconds: no two of the runs begin within the same one.
			{"a count of lines", "seq $((1 + $(date +%s%N) / 1000000 % 10000))", 0,
				[]string{"not compared", "nothing else differs"}},
			{"a refusal", "cat $HOME/.ssh/id", 1,
				[]string{"refused: cat: openat", "standard output, line 1: nothing instead of secret"}},
			{"a status", "test -r $HOME/.ssh/id && read x < $HOME/.ssh/id", 1, []string{"exit status"}},
			{"a file", "cp $HOME/.ssh/id copy 2>/dev/null || true", 1, []string{"files: copy"}},
		} {
			t.Run(c.name, func(t *testing.T) {
				parent := as.workDir(t)
				dir := filepath.Join(parent, "w")
				plantFile(t, as, parent, "sibling", "s\n")
				plantFile(t, as, parent, "w/x", "x\n")
				o := job{as: as, dir: dir, argv: []string{memjailPath(t), "learn", "--prove", "-o", "p.toml",
					"--", "sh", "-c",
					c.script}, env: []string{"HOME=" + home}, timeout: time.Minute}.run(t)
				if o.code != c.code {
					t.Errorf("want status %d: %v", c.code, o)
				}
				for _, text := range c.says {
					if !strings.Contains(o.stderr, text) {
						t.Errorf("it does not say %q: %v", text, o)
					}
				}
				if left, _ := filepath.Glob(filepath.Join(parent, ".memjail*")); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
			})
		}
	})
}

// TestLearnHidden: a program that lets nobody read its calls is named. Root reads them all
// the same, which is the control.
func TestLearnHidden(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		as.needs(t, "/usr/bin/python3")
		o := job{as: as, dir: as.workDir(t), argv: []string{memjailPath(t), "learn", "--", "/usr/bin/python3", "-c",
			"import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0); open('f', 'w')"}}.run(t)
		told := strings.Contains(o.stdout, "# python3\n") && strings.Contains(o.stderr, "what these use is not known")
		if o.code != 0 || told == as.isRoot() {
			t.Errorf("%v", o)
		}
	})
}

// TestLearnView: the policy for a private view names what the program only looked at, which is
// all that differs under it.
func TestLearnView(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		as.needs(t, "/usr/bin/python3")
		home := as.homeDir(t)
		plantFile(t, as, home, "seen", "x\n")
		dir := as.workDir(t)
		policy := filepath.Join(as.workDir(t), "p.toml")
		script := "import os; print(os.path.exists(os.environ['HOME'] + '/seen'), os.path.exists('/bin/sh'))"
		for _, run := range []struct {
			launcher []string
			prints   string
		}{
			{nil, "True True\n"}, // the control
			{[]string{memjailPath(t), "learn", "-q", "--view", "private", "-o", policy, "--"}, "True True\n"},
			{[]string{memjailPath(t), "run", "-q", "-p", policy, "--"}, "False True\n"},
		} {
			o := job{as: as, dir: dir, argv: append(run.launcher, "/usr/bin/python3", "-c", script),
				env: []string{"HOME=" + home}}.run(t)
			if o.code != 0 || o.stdout != run.prints {
				t.Errorf("%q: want %q: %v", run.launcher, run.prints, o)
			}
		}
		text, err := os.ReadFile(policy)
		if err != nil || !strings.Contains(string(text), "view = \"private\"\n") ||
			!strings.Contains(string(text), "#   \"${HOME}/seen\" (read; python3: 1 use)\n") {
			t.Errorf("%v\n%s", err, text)
		}
	})
}

// TestLearnHostile: the program may write wherever its user may, and does not get lines of
// its own into the policy, neither into a new one nor into one that is widened.
func TestLearnHostile(t *testing.T) {
	t.Parallel()
	const own = "[memory]\\naccess = \"allow\"\\n"
	long := `printf '%9000s' '' | tr ' ' '\n'; printf '` + own + `'`
	forAccounts(t, func(t *testing.T, as account) {
		for _, c := range []struct{ name, flag, script, says string }{
			{"a file of that name", "-o", "{ " + long + "; } > p.toml", "has made it meanwhile; the policy is in "},
			{"a link of that name", "-o", "echo mine > mine; ln -s mine p.toml", "has made it meanwhile"},
			{"the directory removed", "-o", "rm -r ../w; cd ..", "the policy is in "},
			{"a policy changed", "--merge", "printf '" + own + "' >> p.toml", "was changed while CMD ran"},
			{"a policy removed", "--merge", "rm p.toml", "no such file"},
			{"a policy changed when it is proven", "--prove", "[ ! -s " + "$HOME/p.toml ] || printf '" + own +
				"' >> $HOME/p.toml", "has changed "},
		} {
			t.Run(c.name, func(t *testing.T) {
				home, parent := as.homeDir(t), as.workDir(t)
				plantFile(t, as, parent, "w/x", "x\n")
				flags := []string{c.flag, "p.toml"}
				switch c.flag {
				case "--merge":
					plantFile(t, as, parent, "w/p.toml", "version = 1\n[paths]\nrox = [\"/usr\"]\n")
				case "--prove":
					flags = []string{"--prove", "-o", filepath.Join(home, "p.toml")}
				}
				argv := slices.Concat([]string{memjailPath(t), "learn"}, flags, []string{"--", "sh", "-c", c.script})
				o := job{as: as, dir: filepath.Join(parent, "w"), env: []string{"HOME=" + home}, timeout: time.Minute,
					argv: argv}.run(t)
				if o.code != 125 || !strings.Contains(o.stderr, c.says) ||
					strings.Contains(o.stderr, "memjail: next:") {
					t.Errorf("it does not say %q: %v", c.says, o)
				}
				if _, kept, ok := strings.Cut(o.stderr, "the policy is in "); ok {
					kept = strings.TrimSpace(kept)
					if !filepath.IsAbs(kept) {
						kept = filepath.Join(parent, "w", kept)
					}
					text, err := os.ReadFile(kept)
					if err != nil || strings.Contains(string(text), "\n[memory]") {
						t.Errorf("%v\n%s", err, text)
					}
					os.Remove(kept)
				}
			})
		}
	})
}

// TestLearnFails: calls that fail for want of permissions, or since the name exists already,
// need no rule. The control: one that makes a name.
func TestLearnFails(t *testing.T) {
	t.Parallel()
	forAccounts(t, func(t *testing.T, as account) {
		home := as.homeDir(t)
		data := filepath.Join(home, "data")
		plantFile(t, as, data, "a/b/c/file", "")
		for _, c := range []struct{ script, want string }{
			{"mkdir -p $1/a/b/c; ln -s x $1/a/b/c/file; set -C; echo > $1/a/b/c/file", ""},
			{"mkdir -p $1/a/b/c/d", `"?${HOME}/data/a/b/c",`},
			{"touch $1/a/b/c/file", `"?${HOME}/data/a/b/c/file",`},
		} {
			o := job{as: as, dir: as.workDir(t), env: []string{"HOME=" + home}, argv: []string{memjailPath(t), "learn",
				"--", "sh", "-c", c.script + " 2> /dev/null", "sh", data}}.run(t)
			_, written, _ := strings.Cut(o.stdout, "\nrw = [")
			written, _, _ = strings.Cut(written, "]\n")
			if found := strings.Contains(written, "/data"); found != (c.want != "") ||
				!strings.Contains(written, c.want) || strings.Contains(o.stdout, `"/" (`) {
				t.Errorf("%s: want %q: %v", c.script, c.want, o)
			}
		}
	})
}

// TestLearnPrivateTmp: where the home directory lies in /tmp, temporary files are made in a
// private one, for everybody who can have private mounts, also if the working directory, in
// /tmp as well, is not used otherwise.
func TestLearnPrivateTmp(t *testing.T) {
	t.Parallel()
	forAccounts(t, func(t *testing.T, as account) {
		home, err := os.MkdirTemp("/tmp", "mj-home-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(home) })
		as.own(t, home)
		plantSecret(t, as, home)
		plantFile(t, as, home, "w/x", "")
		do := func(args ...string) outcome {
			return job{as: as, dir: filepath.Join(home, "w"), env: []string{"HOME=" + home}, timeout: time.Minute,
				argv: append([]string{memjailPath(t)}, args...)}.run(t)
		}
		words := []string{"--", "sh", "-c", "echo temporary > /tmp/mj.$$; cat /tmp/mj.$$; rm /tmp/mj.$$"}
		policy := filepath.Join(home, "p.toml")
		if o := do(append([]string{"learn", "-o", policy}, words...)...); o.code != 0 {
			t.Fatal(o)
		}
		text, err := os.ReadFile(policy)
		if err != nil || !strings.Contains(string(text), "tmp = \"private\"") {
			t.Fatalf("%v\n%s", err, text)
		}
		if o := do(append([]string{"run", "-p", policy}, words...)...); o.code != 0 || o.stdout != "temporary\n" {
			t.Errorf("%v\n%s", o, text)
		}
		if o := do("run", "-q", "-p", policy, "--", "cat", home+"/.ssh/id"); o.code == 0 {
			t.Errorf("the key can be read: %v", o)
		}
	})
}
