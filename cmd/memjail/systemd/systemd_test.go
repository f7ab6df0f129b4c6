package systemd

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// place is a root with files, by their paths.
func place(t *testing.T, files map[string]string) Place {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			if err := os.Symlink(target, path); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Place{Root: root}
}

func load(t *testing.T, p Place, name string) *Unit {
	t.Helper()
	u, err := p.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

const unitFile = "usr/lib/systemd/system/a.service"

// TestWrap: what a line says comes out again, behind memjail.
func TestWrap(t *testing.T) {
	const m = "/usr/bin/memjail exec -p service -- "
	for line, want := range map[string]string{
		`/bin/a`:                           m + `/bin/a`,
		`/bin/a "b c" 'd' \x20e`:           m + `/bin/a "b c" 'd' \x20e`,
		`-/bin/a`:                          `-` + m + `/bin/a`,
		`+!-/bin/a %i`:                     `+!-` + m + `/bin/a %i`,
		`:/bin/a $B`:                       `:` + m + `/bin/a $B`,
		`@/bin/a b c`:                      strings.Replace(m, "-- ", "--argv0 b -- ", 1) + `/bin/a c`,
		`-@/bin/a -b`:                      `-` + strings.Replace(m, "-- ", "--argv0 -b -- ", 1) + `/bin/a`,
		`/opt/$x/a ${B} $C`:                m + `/opt/$$x/a ${B} $C`,
		`:/opt/$x/a $C`:                    `:` + m + `/opt/$x/a $C`,
		`"/opt/my prog" x`:                 m + `"/opt/my prog" x`,
		"/bin/a \\\n  b \\\n# no\n\tc":     m + `/bin/a    b  c`,
		`/bin/a ; /bin/b c`:                m + "/bin/a\nExecStart=" + m + `/bin/b c`,
		`/bin/a \; b ";"`:                  m + `/bin/a \; b ";"`,
		"/bin/a\nExecStart=/bin/b":         m + "/bin/a\nExecStart=" + m + `/bin/b`,
		"/bin/a\nExecStart=\nExecStart=/c": m + "/c",
	} {
		u := load(t, place(t, map[string]string{unitFile: "[Service]\nType=oneshot\nExecStart=" + line + "\n"}), "a")
		text, err := u.DropIn(Wrapping{Memjail: "/usr/bin/memjail", Flags: []string{"-p", "service"}})
		_, have, _ := strings.Cut(text, "[Service]\nExecStart=\nExecStart=")
		have, _, _ = strings.Cut(have, "# The journal has the service")
		collapse := func(s string) string { return strings.Join(strings.Fields(s), " ") }
		if err != nil || collapse(have) != collapse(want) {
			t.Errorf("%s:\n%s\nwant\n%s (%v)", line, have, want, err)
		}
	}
}

// TestWrapIsUndone: what the drop-in says about the unit's lines is found again.
func TestWrapIsUndone(t *testing.T) {
	for _, line := range []string{`/bin/a b`, `-+/bin/a %i`, `@/bin/a b c`, `-@:/opt/$x -b "c d"`,
		`/opt/$x/a -- b`, `/bin/a ; /bin/b`} {
		p := place(t, map[string]string{unitFile: "[Service]\nExecStart=" + line + "\n"})
		u := load(t, p, "a.service")
		if s, err := p.State(u); s != Unwrapped || err != nil {
			t.Errorf("%s: %v, %v", line, s, err)
		}
		text, err := u.DropIn(Wrapping{Memjail: "/opt/m j/memjail",
			Flags: []string{"--rw", "/a b/$c%d", "--env", "X=;"}})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // and again: memjail's own file does not count as the unit's
			if _, err := p.Write(u.Name, text); err != nil {
				t.Fatal(err)
			}
			if again := load(t, p, "a"); len(again.DropIns) != 0 {
				t.Errorf("%s: %v", line, again.DropIns)
			}
		}
		if s, err := p.State(u); s != Wrapped || err != nil {
			t.Errorf("%s: %v, %v\n%s", line, s, err, text)
		}
		os.WriteFile(filepath.Join(p.Root, unitFile), []byte("[Service]\nExecStart="+line+" more\n"), 0o644)
		if s, err := p.State(load(t, p, "a")); s != Outdated || err != nil {
			t.Errorf("%s, changed: %v, %v", line, s, err)
		}
		if _, err := p.Remove(u.Name); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Dir(p.DropIn(u.Name))); !errors.Is(err, fs.ErrNotExist) {
			t.Error("the directory is left:", err)
		}
	}
}

func TestForeignDropIn(t *testing.T) {
	p := place(t, map[string]string{unitFile: "[Service]\nExecStart=/a\n",
		"etc/systemd/system/a.service.d/zz-memjail.conf": "[Service]\n"})
	u := load(t, p, "a")
	if _, err := p.Write(u.Name, "x"); err == nil {
		t.Error("it was written over")
	}
	if _, err := p.Remove(u.Name); err == nil {
		t.Error("it was removed")
	}
	if s, _ := p.State(u); s != Foreign {
		t.Error(s)
	}
}

// TestSearch: which file is a unit's, and in which order its drop-ins are read.
func TestSearch(t *testing.T) {
	p := place(t, map[string]string{
		"lib/systemd/system/a.service":                     "[Service]\nExecStart=/lib\n",
		"etc/systemd/system/a.service":                     "[Service]\nExecStart=/etc\nUser=x\n",
		"etc/systemd/system/alias.service":                 "-> /lib/systemd/system/real.service",
		"lib/systemd/system/real.service":                  "[Service]\nExecStart=/real\n",
		"etc/systemd/system/off.service":                   "-> /dev/null",
		"lib/systemd/system/t@.service":                    "[Service]\nExecStart=/t %i\n",
		"lib/systemd/system/t@x.service.d/2.conf":          "[Service]\nUser=two\n",
		"run/systemd/system/t@.service.d/1.conf":           "[Service]\nUser=one\n",
		"etc/systemd/system/t@.service.d/2.conf":           "[Service]\nUser=stronger\n",
		"etc/systemd/system/service.d/3.conf":              "-> /dev/null",
		"lib/systemd/system/service.d/3.conf":              "[Service]\nUser=three\n",
		"lib/systemd/system/p-q.service":                   "[Service]\nExecStart=/p\n",
		"lib/systemd/system/p-.service.d/9.conf":           "[Service]\nUser=nine\n",
		"etc/systemd/system/p-q.service.d/zz-memjail.conf": ours + "x\n[Service]\nUser=wrong\n",
	})
	for name, want := range map[string][2]string{
		"a": {"/etc", "x"}, "alias": {"/real", ""}, "t@x": {"/t %i", "stronger"}, "t@": {"/t %i", "stronger"},
		"p-q.service": {"/p", "nine"},
	} {
		u := load(t, p, name)
		if have := [2]string{u.last("ExecStart").Value, u.last("User").Value}; have != want {
			t.Errorf("%s: %v, want %v", name, have, want)
		}
	}
	if u := load(t, p, "alias.service"); u.Name != "real.service" {
		t.Error(u.Name)
	}
	for name, want := range map[string]string{"off": "is masked", "none": "no unit none.service",
		"a.socket": "only a service", "x/y": "want the name"} {
		if _, err := p.Load(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

func TestUnitErrors(t *testing.T) {
	for text, want := range map[string]string{
		"[Service\nExecStart=/a":                                 ":1: the name of a section",
		"ExecStart=/a":                                           ":1: want KEY=VALUE",
		"[Service]\n\nnonsense":                                  ":3: want KEY=VALUE",
		"[Service]\nUser=x":                                      "no ExecStart=",
		"[Service]\nExecStart='/a":                               ":2: \"'/a\": a quote is not closed",
		"[Service]\nExecStart=@/a":                               ":2: \"@/a\": after @",
		"[Service]\nExecStart=-":                                 "names no program",
		"[Service]\nExecStart=/usr/bin/memjail exec -- /a":       "starts memjail already",
		"[Service]\nType=forking\nExecStart=/a":                  ":2: with Type=forking and no PIDFile=",
		"[Service]\nType=forking\nPIDFile=/p\nExecStart=/a":      "",
		"[Service]\nType=forking\nGuessMainPID=no\nExecStart=/a": "",
	} {
		p := place(t, map[string]string{unitFile: text + "\n"})
		u, err := p.Load("a")
		if err == nil {
			_, err = u.DropIn(Wrapping{Memjail: "/usr/bin/memjail"})
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestAdded: what a unit's options make necessary.
func TestAdded(t *testing.T) {
	groups := ParseGroups("@default\n    # always\n    futex\n    @more\n\n@more\n    mmap\n@all\n    " +
		strings.Join(neededCalls, "\n    ") + "\n@few\n    seccomp\n    statx\nungrouped\n")
	for options, want := range map[string]string{
		"":                      "",
		"SystemCallFilter=@all": "",
		"SystemCallFilter=@all\nSystemCallFilter=~@few":                               "SystemCallFilter=seccomp statx",
		"SystemCallFilter=@all\nSystemCallFilter=~@few\nSystemCallFilter=statx:EPERM": "SystemCallFilter=seccomp",
		"SystemCallFilter=~@few":                                  "SystemCallFilter=seccomp statx",
		"SystemCallFilter=~mount":                                 "",
		"SystemCallFilter=@all\nUser=x\nSystemCallFilter=~capset": "",
		"SystemCallFilter=@all\nSystemCallFilter=~capset":         "SystemCallFilter=capset",
		"NoExecPaths=/":                                           "ExecPaths=/m",
		"PrivatePIDs=yes":                                         "",
		"PrivatePIDs=yes\nType=notify":                            "NotifyAccess=all",
		"PrivatePIDs=yes\nType=notify\nNotifyAccess=all":          "",
	} {
		u := load(t, place(t, map[string]string{unitFile: "[Service]\nExecStart=/a\n" + options + "\n"}), "a")
		text, err := u.DropIn(Wrapping{Memjail: "/m", Groups: groups})
		var added []string
		_, rest, _ := strings.Cut(text, "-- /a\n")
		rest = strings.Replace(rest, "SyslogIdentifier=a\n", "", 1)
		for line := range strings.Lines(rest) {
			if line[0] != '#' {
				added = append(added, strings.TrimSpace(line))
			}
		}
		if have := strings.Join(added, "\n"); have != want || err != nil {
			t.Errorf("%q: %q, want %q (%v)", options, have, want, err)
		}
	}
	// Without knowledge of the groups all calls are named, and none of @default is
	// forgotten in a list of what is allowed.
	u := load(t, place(t, map[string]string{
		unitFile: "[Service]\nExecStart=/a\nSystemCallFilter=@system-service\n",
	}), "a")
	if missing := u.missing(Wrapping{}); len(missing) != len(neededCalls) {
		t.Errorf("%d of %d", len(missing), len(neededCalls))
	}
}

// TestIdentifier: under which name the journal has what the service prints.
func TestIdentifier(t *testing.T) {
	for lines, want := range map[string]string{
		"ExecStart=/usr/bin/a x": "a", "ExecStart=-@/usr/bin/a b": "a", "ExecStart=/a\nExecStart=/b": "",
		"ExecStart=/x/a\nExecStart=/a":     "a",
		"ExecStart=/a\nSyslogIdentifier=z": "", "ExecStart=/opt/%i/a": "a", "ExecStart=/opt/%i": "",
	} {
		u := load(t, place(t, map[string]string{unitFile: "[Service]\nType=oneshot\n" + lines + "\n"}), "a")
		commands, err := u.commands()
		if have := u.identifier(commands); have != want || err != nil {
			t.Errorf("%q: %q, want %q (%v)", lines, have, want, err)
		}
	}
}

// TestPathsOfTheUnit: with path rules, what the unit lets its service write is
// allowed.
func TestPathsOfTheUnit(t *testing.T) {
	const there = "/srv/there"
	u := load(t, place(t, map[string]string{there + "/x": "",
		unitFile: "[Service]\nExecStart=/a\nStateDirectory=s " +
			"t/u\nRuntimeDirectory=r:link\nConfigurationDirectory=c\nReadWritePaths=/x -/gone -" + there + "\n"}), "a")
	text, err := u.DropIn(Wrapping{Memjail: "/m", PathRules: true})
	want := "ExecStart=/m exec --rw %S/s --rw %S/t/u --rw %t/r --ro %E/c --rw /x --rw " + there + " -- /a\n"
	if err != nil || !strings.Contains(text, want) {
		t.Errorf("%s\nwant %s (%v)", text, want, err)
	}
	if text, _ = u.DropIn(Wrapping{Memjail: "/m"}); !strings.Contains(text, "ExecStart=/m exec -- /a\n") {
		t.Error(text)
	}
}

func TestCheck(t *testing.T) {
	policy := filepath.Join(t.TempDir(), "p.toml")
	if err := os.WriteFile(policy, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for options, want := range map[string]string{
		"NoNewPrivileges=yes":                        "covers NoNewPrivileges=yes",
		"NoNewPrivileges=no":                         "",
		"ProtectSystem=strict":                       "covers ProtectSystem=strict",
		"CapabilityBoundingSet=CAP_NET_BIND_SERVICE": "covers CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
		"CapabilityBoundingSet=~CAP_SYS_PTRACE":      "covers CapabilityBoundingSet=~CAP_SYS_PTRACE",
		"CapabilityBoundingSet=CAP_SYS_PTRACE":       "",
		"PIDFile=/run/x.pid":                         "breaks PIDFile=/run/x.pid",
		"PIDFile=x/x.pid\nRuntimeDirectory=x":        "",
		"Type=forking":                               "breaks Type=forking",
		"AppArmorProfile=x":                          "note AppArmorProfile=x",
		"RootDirectory=/x":                           "breaks RootDirectory=/x,note RootDirectory=/x",
		"PrivateTmp=yes":                             "breaks PrivateTmp=yes",
		"User=x":                                     "breaks User=x",
		"LimitAS=1G":                                 "note LimitAS=1G",
		"SystemCallFilter=@few":                      "covers SystemCallFilter=@few,note SystemCallFilter=@few",
	} {
		u := load(t, place(t, map[string]string{unitFile: "[Service]\nExecStart=/a\n" + options + "\n"}), "a")
		q := Question{Wrapping: Wrapping{Memjail: "/m", PathRules: true, Groups: Groups{"@few": {"read"}}},
			MayWrite: func(string) bool { return false }}
		if strings.HasPrefix(options, "User") || strings.HasPrefix(options, "PrivateTmp") {
			q.PolicyFiles = []string{policy}
		}
		var have []string
		for _, f := range u.Check(q) {
			have = append(have, string(f.Level)+" "+f.Option)
			if f.Where == "" || f.What == "" {
				t.Errorf("%s: %+v", options, f)
			}
		}
		if strings.Join(have, ",") != want {
			t.Errorf("%s: %q, want %q", options, have, want)
		}
	}
}
