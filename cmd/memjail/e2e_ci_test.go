package main_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestAction runs what the action does on GitHub, with the files that its runner gives it:
// what does not hold is an annotation at its line, a row of the summary and the status.
func TestAction(t *testing.T) {
	t.Parallel()
	action, err := filepath.Abs(filepath.Join("..", "..", ".github", "actions", "verify"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	shell(t, dir, `git init -q && git config user.name a && git config user.email a@example.com && mkdir sandbox &&
		printf 'version = 1\nextends = ["workspace"]\n' >sandbox/a.toml && cp sandbox/a.toml 'sandbox/b; id.toml' &&
		git add . && git commit -qm one && printf '[memory]\nptrace = "allow"\n[[test]]\nname = "x|y"\n' >>sandbox/a.toml &&
		printf 'access = "read"\npath = "/etc/passwd"\nexpect = "deny"\n' >>sandbox/a.toml`)
	env := []string{"GITHUB_ACTION_PATH=" + action, "GITHUB_STEP_SUMMARY=" + filepath.Join(dir, "summary"),
		"GITHUB_OUTPUT=" + filepath.Join(dir, "output"), "INPUT_POLICIES=sandbox/*.toml", "INPUT_QUICK=true",
		"INPUT_BASE=HEAD", "INPUT_FAIL_ON_WIDENED=true", "HOME=" + os.Getenv("HOME"),
		"PATH=" + filepath.Dir(memjailPath(t)) + ":/usr/local/bin:/usr/bin:/bin"}
	o := job{as: accounts()[0], dir: dir, argv: []string{"bash", filepath.Join(action, "run")}, env: env}.run(t)
	if o.code != 1 {
		t.Errorf("status %d, want 1: %v", o.code, o)
	}
	for _, want := range []string{
		"::error title=memory.ptrace,file=sandbox/a.toml,line=4,col=10::",
		"::error title=test/x|y /etc/passwd,file=sandbox/a.toml,line=5,col=3::sandbox/a.toml:5:3: read /etc/passwd: ",
	} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("no %q in %v", want, o)
		}
	}
	summary, err := os.ReadFile(filepath.Join(dir, "summary"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| allows | memory.ptrace | deny | allow |", "### memjail verify: ", `(test/x\|y /etc/passwd)`,
		"| sandbox/b; id.toml | 0 | 0 |"} {
		if !strings.Contains(string(summary), want) {
			t.Errorf("no %q in the summary:\n%s", want, summary)
		}
	}
	if output, err := os.ReadFile(filepath.Join(dir, "output")); err != nil || string(output) != "status=1\n" {
		t.Errorf("output %q, %v", output, err)
	}
}

// TestActionInputs: each input of the action reaches the script, and no expression is in the
// text of a command, where what it contains would be code.
func TestActionInputs(t *testing.T) {
	dir := filepath.Join("..", "..", ".github", "actions", "verify")
	text, err := os.ReadFile(filepath.Join(dir, "action.yml"))
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile(filepath.Join(dir, "run"))
	if err != nil {
		t.Fatal(err)
	}
	find := func(text []byte, pattern string) (names []string) {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
			names = append(names, m[1])
		}
		slices.Sort(names)
		return slices.Compact(names)
	}
	inputs, _, _ := strings.Cut(string(text), "\noutputs:")
	var variables []string
	for _, name := range find([]byte(inputs), `(?m)^  ([a-z-]+):$`) {
		variables = append(variables, "INPUT_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_")))
	}
	if passed := find(text, `(?m)^        (INPUT_[A-Z_]+): \$\{\{ inputs\.`); !slices.Equal(passed, variables) {
		t.Errorf("inputs %q, passed %q", variables, passed)
	}
	if used := find(script, `(INPUT_[A-Z_]+)`); !slices.Equal(used, variables) {
		t.Errorf("inputs %q, used %q", variables, used)
	}
	for _, run := range find(text, `(?m)^\s+run: (.*)$`) {
		if strings.Contains(run, "${{") {
			t.Errorf("an expression in a command: %s", run)
		}
	}
}

// TestGitLab runs the job's script, but for the installation, with the inputs in it as GitLab puts
// them there, and in a mount namespace, since it makes a home directory.
func TestGitLab(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		return // images of GitLab's runner start as root
	}
	text, err := os.ReadFile(filepath.Join("..", "..", ".gitlab", "verify.yml"))
	if err != nil {
		t.Fatal(err)
	}
	_, script, _ := strings.Cut(string(text), "\n  script:\n")
	script, _, _ = strings.Cut(script, "\n  artifacts:\n")
	var lines []string
	for line := range strings.Lines(script) {
		line, item := strings.TrimSpace(line), strings.HasPrefix(line, "    - ")
		switch {
		case strings.HasPrefix(line, "#"), strings.Contains(line, "go install"):
		case item:
			lines = append(lines, strings.TrimPrefix(strings.TrimPrefix(line, "- "), ">-"))
		default:
			lines[len(lines)-1] += " " + line
		}
	}
	commands := strings.NewReplacer("$[[ inputs.flags ]]", "--quick", "$[[ inputs.policies ]]", "sandbox/*.toml").
		Replace(strings.Join(lines, "\n"))
	if len(lines) != 2 || strings.Contains(commands, "$[[") {
		t.Fatalf("the script is read as %q", lines)
	}
	as := account{"root", -1}
	for _, policy := range []struct {
		text string
		code int
	}{{"version = 1\nextends = [\"workspace\"]\n", 0}, {"version = 1\nmemory.access = \"allow\"\n", 1}} {
		dir := as.workDir(t)
		shell(t, dir, "mkdir sandbox && printf '%s' '"+policy.text+"' >sandbox/a.toml && "+
			"cp sandbox/a.toml sandbox/b.toml")
		o := job{as: as, dir: dir, env: []string{"PATH=" + filepath.Dir(memjailPath(t)) + ":/usr/bin:/bin"},
			argv: []string{"unshare", "-m", "sh", "-ec", "mount -t tmpfs home /home\n" + commands}}.run(t)
		report, err := os.ReadFile(filepath.Join(dir, "memjail.xml"))
		if o.code != policy.code || err != nil || !strings.Contains(string(report), "sandbox/b.toml") {
			t.Errorf("%s: %v %v\n%s", policy.text, o, err, report)
		}
	}
}
