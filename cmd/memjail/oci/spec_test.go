package oci

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

const dev = `{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid"]}`

// config is a config.json with fields that no version of the specification has.
const config = `{"ociVersion":"1.0.2","x-top":{"big":12345678901234567890,"text":"<&>\u00e9"},
"process":{"terminal":true,"user":{"uid":7,"x-user":1},"args":["sh","-c","echo \"<a>\" \u0001"],"env":["HOME=/h","A=b"],
"cwd":"/w","capabilities":{"bounding":["CAP_KILL"]},"noNewPrivileges":false,"x-process":[1.50,null]},
"root":{"path":"rootfs","readonly":true},
"mounts":[{"destination":"/proc","type":"proc","x-mount":{"a":1}},` + dev + `,{"destination":"/data","type":"bind",
"source":"/d","options":["rbind"]}],
"hooks":{"prestart":[{"path":"/bin/hook"}]},"annotations":{"a":"b"},"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ERRNO",
"syscalls":[{"names":["landlock_create_ruleset","landlock_add_rule","landlock_restrict_self","seccomp","prctl"],
"action":"SCMP_ACT_ALLOW"}]},"x-linux":true}}`

// decoded returns a JSON text as Go values, with numbers as they are written.
func decoded(t *testing.T, text []byte) map[string]any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	var v map[string]any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

func wrap(t *testing.T, text string, p Prefix, binds ...Bind) []byte {
	t.Helper()
	s, err := ReadSpec([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	out, err := s.Wrap(p, binds)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestWrap: all that changes are the arguments and the mounts that are added.
func TestWrap(t *testing.T) {
	p := Prefix{Policy: PolicyPath("/etc/memjail/a.toml"), KeepFDs: []int{3}}
	out := wrap(t, config, p, Bind{"/usr/bin/memjail", ProgramPath}, Bind{"/etc/memjail/a.toml", p.Policy})
	got, want := decoded(t, out), decoded(t, []byte(config))
	process, mounts := got["process"].(map[string]any), got["mounts"].([]any)
	args := process["args"].([]any)
	var begin []string
	for _, arg := range args[:len(args)-3] {
		begin = append(begin, arg.(string))
	}
	if !reflect.DeepEqual(begin, p.Args()) {
		t.Errorf("arguments %q", args)
	}
	process["args"] = args[len(args)-3:]
	for i, destination := range []string{Directory, ProgramPath, p.Policy} {
		m := mounts[3+i].(map[string]any)
		if m["destination"] != destination || m["options"].([]any)[min(i, 1)] != "ro" {
			t.Errorf("mount %d: %v", i, m)
		}
	}
	if len(mounts) != 6 {
		t.Errorf("%d mounts", len(mounts))
	}
	got["mounts"] = mounts[:3]
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// TestWrapAgain: what is wrapped already is not wrapped twice, also by another policy.
func TestWrapAgain(t *testing.T) {
	bind := Bind{"/usr/bin/memjail", ProgramPath}
	once := wrap(t, config, Prefix{Policy: "memory"}, bind)
	twice := wrap(t, string(once), Prefix{Policy: "memory"}, bind)
	if string(once) != string(twice) {
		t.Errorf("once  %s\ntwice %s", once, twice)
	}
	other := wrap(t, string(once), Prefix{Policy: "strict", Memory: "deny"}, bind)
	s, err := ReadSpec(other)
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := s.Wrapped(); !ok || p.Policy != "strict" || p.Memory != "deny" {
		t.Errorf("prefix %+v %v", p, ok)
	}
	if s, err = ReadSpec([]byte(config)); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Wrapped(); ok {
		t.Error("a configuration without memjail counts as wrapped")
	}
}

// TestImitation: an image whose command looks as if it were wrapped gains nothing.
func TestImitation(t *testing.T) {
	text := strings.Replace(config, `"args":[`, `"args":["`+ProgramPath+`","exec","-p","/evil.toml","--",`, 1)
	out := decoded(t, wrap(t, text, Prefix{Policy: "memory"}, Bind{"/m", ProgramPath}))
	args := out["process"].(map[string]any)["args"].([]any)
	if args[3] != "memory" || args[5] != ProgramPath {
		t.Errorf("arguments %q: want memjail in front of all that", args)
	}
}

func TestRefusals(t *testing.T) {
	swap := func(old, by string) string { return strings.Replace(config, old, by, 1) }
	for name, test := range map[string]struct{ text, want string }{
		"no JSON":          {"{", "config.json"},
		"no process":       {`{"mounts":[]}`, "no process"},
		"no command":       {`{"process":{"args":[]}}`, "no command"},
		"arguments":        {`{"process":{"args":[1]}}`, "args"},
		"another case":     {swap(`"ociVersion"`, `"Process":{"args":["x"]},"o"`), `"Process" is not`},
		"long s":           {swap(`"ociVersion"`, `"proceſs":{"args":["x"]},"o"`), "is not the name"},
		"args twice":       {swap(`"terminal":true`, `"ARGS":["x"]`), `"ARGS" is not`},
		"its place":        {swap(`"destination":"/data"`, `"destination":"/dev/.memjail/memjail"`), "memjail's place"},
		"its place, dirty": {swap(`"destination":"/data"`, `"destination":"/dev//./.memjail/"`), "memjail's place"},
		"no own /dev":      {swap(dev+",", ""), "no /dev of its own"},
		"/dev from outside": {swap(`"destination":"/data"`, `"destination":"/dev"`),
			"no /dev of its own"},
		"/ over /dev": {swap(`"destination":"/data"`, `"destination":"/"`), "no /dev of its own"},
		"seccomp":     {swap(`"landlock_add_rule",`, ""), "refuses landlock_add_rule"},
	} {
		s, err := ReadSpec([]byte(test.text))
		if err == nil {
			err = s.Check()
		}
		if test.want == "" && err != nil || test.want != "" &&
			(err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

func TestProfileRefuses(t *testing.T) {
	for text, want := range map[string]bool{
		`{}`:                                  false,
		`{"defaultAction":"SCMP_ACT_ALLOW"}`:  false,
		`{"defaultAction":"SCMP_ACT_ERRNO"}`:  true,
		`{"defaultAction":"SCMP_ACT_LOG"}`:    false,
		`{"defaultAction":"SCMP_ACT_NOTIFY"}`: false,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["x"],"action":"SCMP_ACT_KILL_PROCESS"}]}`:               true,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["x"],"action":"SCMP_ACT_ERRNO","args":[{"index":0}]}]}`: false,
		`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["a","x"],"action":"SCMP_ACT_ALLOW","args":[{}]}]}`:      false,
	} {
		var p profile
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			t.Fatal(err)
		}
		if got := p.refuses("x"); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestProcessWrap(t *testing.T) {
	p, err := ReadProcess([]byte(`{"args":["ls"],"x":{"y":1e400}}`))
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Wrap(Prefix{Policy: "memory"})
	if err != nil || !strings.Contains(string(out), `"--","ls"]`) || !strings.Contains(string(out), `{"y":1e400}`) {
		t.Errorf("%s, %v", out, err)
	}
}

func FuzzReadSpec(f *testing.F) {
	f.Add([]byte(config))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ReadSpec(data)
		if err != nil || s.Check() != nil {
			return
		}
		out, err := s.Wrap(Prefix{Policy: "memory"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if s, err = ReadSpec(out); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if _, ok := s.Wrapped(); !ok {
			t.Errorf("not wrapped: %s", out)
		}
	})
}
