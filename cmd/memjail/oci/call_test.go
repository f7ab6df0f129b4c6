package oci

import (
	"slices"
	"strings"
	"testing"
)

func words(text string) []string { return strings.Fields(text) }

func TestParseCall(t *testing.T) {
	for line, want := range map[string]struct{ verb, passed, own string }{
		"create --bundle /b one": {"create", "create --bundle /b one", "||"},
		"--root /r --log /l --log-format json create --bundle /b one": {"create",
			"--root /r --log /l --log-format json create --bundle /b one", "||"},
		"--root=/r --systemd-cgroup start one":       {"start", "--root=/r --systemd-cgroup start one", "||"},
		"-root /r state one":                         {"state", "-root /r state one", "||"},
		"--runtime crun --root /r run one":           {"run", "--root /r run one", "crun||"},
		"--root /r --policy=build --config /c run x": {"run", "--root /r run x", "|/c|build"},
		"--version":                           {"", "--version", "||"},
		"":                                    {"", "", "||"},
		"-v":                                  {"", "-v", "||"},
		"--root run create one":               {"create", "--root run create one", "||"},
		"--new-flag create one":               {"create", "--new-flag create one", "||"},
		"--new-flag value create one":         {"create", "--new-flag value create one", "||"},
		"--new-flag --other value new-verb x": {"new-verb", "--new-flag --other value new-verb x", "||"},
		"new-verb --policy x one":             {"new-verb", "new-verb --policy x one", "||"},
		"checkpoint --image-path /i one":      {"checkpoint", "checkpoint --image-path /i one", "||"},
		"features":                            {"features", "features", "||"},
	} {
		c, err := ParseCall(words(line))
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		own := strings.Join([]string{c.Runtime, c.Config, c.Policy}, "|")
		if c.Verb != want.verb || strings.Join(c.Passed(), " ") != want.passed || own != want.own {
			t.Errorf("%s: verb %q, passed %q, own %q", line, c.Verb, c.Passed(), own)
		}
	}
	if _, err := ParseCall(words("--policy")); err == nil {
		t.Error("--policy without a value is accepted")
	}
}

func TestCallLogAndState(t *testing.T) {
	c, err := ParseCall(words("--root /r --log /l --debug --log-format=json exec one ls"))
	if err != nil || c.LogFile != "/l" || !c.LogJSON {
		t.Errorf("got %+v, %v", c, err)
	}
	if got := strings.Join(c.State("one"), " "); got != "--root /r --debug state one" {
		t.Errorf("state: %s", got)
	}
}

func TestCreate(t *testing.T) {
	for line, want := range map[string]struct {
		bundle  string
		fds     int
		ok, err bool
	}{
		"create --bundle /b --pid-file /p one":        {bundle: "/b", ok: true},
		"create -b /b one":                            {bundle: "/b", ok: true},
		"create -b=/b one":                            {bundle: "/b", ok: true},
		"create -b/b one":                             {bundle: "/b", ok: true},
		"create -bundle /b one":                       {bundle: "/b", ok: true},
		"run one":                                     {bundle: ".", ok: true},
		"run -d --bundle=/b --preserve-fds 2 one":     {bundle: "/b", fds: 2, ok: true},
		"run -db /b one":                              {bundle: "/b", ok: true},
		"run -- one":                                  {bundle: ".", ok: true},
		"run --keep --no-pivot --bundle /b one":       {bundle: "/b", ok: true},
		"create --new-flag --bundle /b one":           {bundle: "/b", ok: true},
		"create --new-flag value --bundle /b one":     {bundle: "/b", ok: true},
		"create --bundle /b --new-flag one":           {bundle: "/b", ok: true},
		"create --help":                               {bundle: "."},
		"create":                                      {bundle: "."},
		"create --bundle /b --config /x/c.json one":   {bundle: "/b", ok: true, err: true},
		"create --preserve-fds many one":              {bundle: ".", ok: true, err: true},
		"create --bundle /b one two":                  {bundle: "/b", ok: true, err: true},
		"--new-flag run create --bundle /b one":       {bundle: "/b", ok: true, err: true},
		"create --bundle /a --bundle /b --detach one": {bundle: "/b", ok: true},
	} {
		c, err := ParseCall(words(line))
		if err != nil {
			t.Fatal(err)
		}
		got, ok, err := c.Create()
		if (err != nil) != want.err || err == nil && (ok != want.ok || got != Create{want.bundle, want.fds}) {
			t.Errorf("%s: %+v %v %v", line, got, ok, err)
		}
	}
}

func TestExec(t *testing.T) {
	prefix := Prefix{Policy: "memory", Memory: "deny", KeepFDs: []int{3, 4}}
	in := strings.Join(prefix.Args(), " ")
	for line, want := range map[string]struct {
		passed, files string
		ok, err       bool
	}{
		"exec one ls -l":                       {passed: "exec one " + in + " ls -l", ok: true},
		"exec -t --user 1:2 -e A=b one sh":     {passed: "exec -t --user 1:2 -e A=b one " + in + " sh", ok: true},
		"exec -tu 0 one sh":                    {passed: "exec -tu 0 one " + in + " sh", ok: true},
		"exec --cwd=/ --cap CAP_X one sh -c x": {passed: "exec --cwd=/ --cap CAP_X one " + in + " sh -c x", ok: true},
		"exec -- one sh":                       {passed: "exec -- one " + in + " sh", ok: true},
		"exec one -- sh":                       {passed: "exec one -- " + in + " sh", ok: true},
		"exec one -t sh":                       {passed: "exec one " + in + " -t sh", ok: true},
		"exec --new-flag=1 one sh":             {passed: "exec --new-flag=1 one " + in + " sh", ok: true},
		"exec --process /p one":                {passed: "exec --process /p one", files: "/p", ok: true},
		"exec -d -p /p --pid-file /x one":      {passed: "exec -d -p /p --pid-file /x one", files: "/p", ok: true},
		"exec --process=/p one":                {passed: "exec --process=/p one", files: "/p", ok: true},
		"exec --help":                          {},
		"exec one":                             {},
		"exec":                                 {},
		"exec --new-flag one sh":               {ok: true, err: true},
		"exec --preserve-fds -1 one sh":        {ok: true, err: true},
	} {
		c, err := ParseCall(words(line))
		if err != nil {
			t.Fatal(err)
		}
		e, ok, err := c.Exec()
		if ok != want.ok || (err != nil) != want.err {
			t.Errorf("%s: %v %v", line, ok, err)
		}
		if !ok || err != nil {
			continue
		}
		if got := strings.Join(e.Wrapped(prefix).Passed(), " "); got != want.passed || e.Container != "one" ||
			strings.Join(e.Files, " ") != want.files {
			t.Errorf("%s: container %q, files %q, passed\n%s", line, e.Container, e.Files, got)
		}
		if got := strings.Join(c.Passed(), " "); got != line {
			t.Errorf("%s: the call has changed: %s", line, got)
		}
	}
}

func TestPrefix(t *testing.T) {
	for _, p := range []Prefix{{Policy: "memory"},
		{Policy: "/p.toml", Memory: "no-write", Silent: true, KeepFDs: []int{3, 7}}} {
		args := append(p.Args(), "cmd", "--")
		got, count, ok := cutPrefix(args)
		if !ok || count != len(args)-2 || got.Policy != p.Policy || got.Memory != p.Memory ||
			got.Silent != p.Silent || !slices.Equal(got.KeepFDs, p.KeepFDs) {
			t.Errorf("%q: %+v %d %v", args, got, count, ok)
		}
	}
	for _, line := range []string{"", "memjail exec -p memory -- x", ProgramPath + " exec -p memory --allow x -- y",
		ProgramPath + " exec -p memory", ProgramPath + " run -p memory -- x", ProgramPath + " exec -p memory --memory",
		ProgramPath + " exec -p memory --keep-fd x --"} {
		if _, _, ok := cutPrefix(words(line)); ok {
			t.Errorf("%q has a prefix", line)
		}
	}
}

func FuzzParseCall(f *testing.F) {
	f.Add("--root /r\x00create\x00-b\x00/b\x00one")
	f.Add("exec\x00-tu\x000\x00one\x00sh")
	f.Fuzz(func(t *testing.T, text string) {
		args := strings.Split(text, "\x00")
		c, err := ParseCall(args)
		if err != nil {
			return
		}
		c.State("one")
		c.Create()
		e, ok, err := c.Exec()
		if ok && err == nil && len(e.Wrapped(Prefix{}).Passed()) < len(c.Passed()) {
			t.Errorf("%q: arguments are lost", args)
		}
		if c.Runtime+c.Config+c.Policy == "" && !slices.Equal(c.Passed(), args) && c.Verb != "" {
			t.Errorf("%q: passed as %q", args, c.Passed())
		}
	})
}
