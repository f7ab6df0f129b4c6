package systemd

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCheckProgram: a memjail that the unit cannot execute is told before anything is
// written, and one that it can is not.
func TestCheckProgram(t *testing.T) {
	root := t.TempDir()
	modes := map[string]os.FileMode{"opt/memjail": 0o755, "home/u/memjail": 0o755, "closed/memjail": 0o755,
		"group/memjail": 0o710, "image/opt/memjail": 0o755}
	for name, mode := range modes {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	os.Chmod(filepath.Join(root, "closed"), 0o700)
	for _, dir := range []string{"", "opt", "home", "home/u", "group", "image", "image/opt"} {
		os.Chmod(filepath.Join(root, dir), 0o755)
	}
	for _, test := range []struct{ options, program, want string }{
		{"", "/closed/memjail", ""},
		{"User=root", "/closed/memjail", ""},
		{"User=0", "/closed/memjail", ""},
		{"DynamicUser=yes", "/closed/memjail", "DynamicUser=yes"},
		{"User=somebody", "/closed/memjail", "User=somebody"},
		{"User=somebody", "/opt/memjail", ""},
		{"User=somebody", "/group/memjail", "User=somebody"},
		{"ProtectHome=yes", "/home/u/memjail", "ProtectHome=yes"},
		{"ProtectHome=tmpfs", "/home/u/memjail", "ProtectHome=tmpfs"},
		{"ProtectHome=read-only", "/home/u/memjail", ""},
		{"ProtectHome=yes", "/homely/memjail", ""},
		{"PrivateTmp=yes", "/tmp/memjail", "PrivateTmp=yes"},
		{"PrivateTmp=no", "/tmp/memjail", ""},
		{"InaccessiblePaths=-/opt /x", "/opt/memjail", "InaccessiblePaths=-/opt /x"},
		{"InaccessiblePaths=/opt\nInaccessiblePaths=", "/opt/memjail", ""},
		{"TemporaryFileSystem=/opt:ro", "/opt/memjail", "TemporaryFileSystem=/opt:ro"},
		{"RootDirectory=/image", "/opt/memjail", ""},
		{"RootDirectory=/image", "/home/u/memjail", "RootDirectory=/image"},
	} {
		u := load(t, place(t, map[string]string{unitFile: "[Service]\nExecStart=/a\n" + test.options + "\n"}), "a")
		u.Root = root
		var have []string
		for _, f := range u.checkProgram(Question{Wrapping: Wrapping{Memjail: test.program}}) {
			have = append(have, f.Option)
			if f.Level != Breaks || f.Remedy == "" {
				t.Errorf("%q: %+v", test.options, f)
			}
		}
		if strings.Join(have, ",") != test.want {
			t.Errorf("%q, %s: %q, want %q", test.options, test.program, have, test.want)
		}
	}
}

// TestLookUp: owner, group and others, as the kernel asks.
func TestLookUp(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0::/root:/bin/sh\nu:x:1000:1001::/home/u:/bin/sh\nbroken\n",
		"etc/group":  "g:x:2000:a,u\nh:x:2001:\nother:x:2002:uu\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, user := range []string{"u", "1000"} {
		if id := lookUp(root, user, "h"); id.uid != 1000 || !slices.Equal(id.gids, []int{1001, 2000, 2001}) {
			t.Errorf("%s: %+v", user, id)
		}
	}
	if id := lookUp(root, "nobody", ""); id.uid != -1 {
		t.Errorf("nobody: %+v", id)
	}
}

// TestCheckBuild: a program with a loader is refused, one without and a script are not.
func TestCheckBuild(t *testing.T) {
	if err := CheckBuild("/bin/sh"); !errors.Is(err, ErrLibraries) {
		t.Errorf("/bin/sh: %v", err)
	}
	dir := t.TempDir()
	script, static := filepath.Join(dir, "script"), filepath.Join(dir, "static")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte("package main\nfunc main() {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", static, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, file := range []string{script, static} {
		if err := CheckBuild(file); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	if err := CheckBuild(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// TestTrial: the unit's restrictions are those of the trial, and what only the service
// is about is not.
func TestTrial(t *testing.T) {
	u := load(t, place(t, map[string]string{unitFile: "[Service]\nExecStart=/a\n" +
		"Type=notify\nUser=u\nProtectHome=yes\nNoExecPaths=/\n" +
		"SystemCallFilter=@few\nStateDirectory=a\nBindPaths=/a%%b\nReadWritePaths=/var/%i\nRestart=always\n"}), "a")
	args := u.Trial(Wrapping{Memjail: "/m", Groups: Groups{"@few": {"read"}}})
	for _, want := range []string{"--property=User=u", "--property=ProtectHome=yes", "--property=NoExecPaths=/",
		"--property=ExecPaths=/m", "--property=SystemCallFilter=@few",
		"--property=BindPaths=/a%b"} {
		if !slices.Contains(args, want) {
			t.Errorf("%q lacks %s", args, want)
		}
	}
	for _, arg := range args {
		for _, unwanted := range []string{"Type", "ExecStart", "StateDirectory", "Restart", "/var/"} {
			if strings.Contains(strings.TrimPrefix(arg, "--property="), unwanted) &&
				!strings.HasPrefix(arg, "--property=Restrict") {
				t.Errorf("%q has %s", args, arg)
			}
		}
	}
	if tail := args[len(args)-5:]; !slices.Equal(tail, []string{"/m", "exec", "--", "/m", "version"}) {
		t.Errorf("it starts %q", tail)
	}
	u.Name = "a@.service"
	if args := u.Trial(Wrapping{Memjail: "/m"}); args != nil {
		t.Errorf("a template without an instance is tried: %q", args)
	}
}
