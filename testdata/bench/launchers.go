package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// launcher is a way to run a command that stands beside memjail's own.
type launcher struct {
	name string
	// argv comes before the command; the program is looked for.
	argv []string
	// note is what has to be known about the invocation, for the page.
	note string
}

// others are other launchers, each with the invocation that is as open as it allows: nothing of
// what the cases need is closed, and what costs time and can be left away is left away.
func others() []launcher {
	return []launcher{
		{"landrun", words("landrun --best-effort --rwx / --unrestricted-network", environment("--env", false), "--"), ""},
		{"bwrap", words("bwrap --dev-bind / /"), ""},
		{"minijail", words("minijail0 --no-new-sessions -T static -n -v --"), "no filter: minijail0 has none by default"},
		{"nsjail", words("nsjail -Q -e -c / --rw --disable_rlimits --disable_clone_newnet --disable_clone_newuser " +
			"--disable_proc --"), ""},
		{"hakoniwa", words("hakoniwa run -q --devfs /dev", topDirectories("-B"), environment("-e", true), "--"),
			"namespaces of processes and users, and a filter, which it always makes"},
		{"firejail", words("firejail --quiet --noprofile --"), ""},
		{"sandlock", words("sandlock run -r / -w / --"), "asks a supervisor at each open"},
		{"sandlock-plain", words("sandlock run --no-supervisor -r / -w / --"), "without its supervisor"},
		{"syd", words("syd -poff -m trace/allow_unsafe_exec_nopie:1 --"), "asks a supervisor at each open"},
		{"gvisor", words("runsc --ignore-cgroups --network=host do -force-overlay=false"), "a kernel of its own, in a program"},
	}
}

// words are the words of texts, and lists as they are.
func words(parts ...any) []string {
	var list []string
	for _, part := range parts {
		switch part := part.(type) {
		case string:
			list = append(list, strings.Fields(part)...)
		case []string:
			list = append(list, part...)
		}
	}
	return list
}

// environment is what the cases need of it behind a flag, for launchers that pass nothing by
// themselves: names, or assignments.
func environment(flag string, assign bool) []string {
	var list []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if name != "PATH" && name != "HOME" && !strings.HasPrefix(name, "GO") {
			continue
		}
		if assign {
			name = variable
		}
		list = append(list, flag, name)
	}
	return list
}

// topDirectories are those of / that a launcher has to be told of one by one.
func topDirectories(flag string) []string {
	entries, err := os.ReadDir("/")
	if err != nil {
		return nil
	}
	var list []string
	for _, entry := range entries {
		if name := entry.Name(); entry.IsDir() && !slices.Contains([]string{"dev", "proc", "sys", "lost+found"}, name) {
			list = append(list, flag, "/"+name+":/"+name)
		}
	}
	return list
}

// modes are the ways to run a command in memjail that the cases compare.
func (b *bench) modes() []launcher {
	return []launcher{
		{"memjail", b.inside(), "the default policy"},
		{"memjail-no-write", b.inside("--memory", "no-write", "--allow", "procfs.write="),
			"closes writing alone; nobody is asked"},
		{"memjail-workspace", b.inside("-p", "workspace", "--rwx", b.dir, "--rox", b.tree),
			"path rules, too"},
	}
}

// found are the other launchers that are installed, in the directory or in PATH, with the whole
// path of their program; the rest is said in missing.
func (b *bench) found() (list []launcher, missing []string) {
	for _, l := range others() {
		path, err := b.find(l.argv[0])
		if err != nil {
			missing = append(missing, l.argv[0])
			continue
		}
		l.argv = append([]string{path}, l.argv[1:]...)
		list = append(list, l)
	}
	return list, slices.Compact(missing)
}

func (b *bench) find(name string) (string, error) {
	for _, dir := range []string{b.launchers, filepath.Join(b.launchers, "bin")} {
		path, err := exec.LookPath(filepath.Join(dir, name))
		if b.launchers != "" && (err == nil || errors.Is(err, exec.ErrDot)) {
			return filepath.Abs(path)
		}
	}
	return exec.LookPath(name)
}

// beside adds a command as it is, in memjail's modes and in every other launcher that is
// installed. count is how many things the command does; 0 if it prints nanoseconds and a count.
func (s *stage) beside(count int, argv ...string) {
	if path, err := exec.LookPath(argv[0]); err == nil {
		argv = append([]string{path}, argv[1:]...) // some launchers do not look for it
	}
	add := func(name string, argv []string) {
		if count == 0 {
			s.printing(name, argv...)
		} else {
			s.share(name, count, argv...)
		}
	}
	add("native", argv)
	for _, l := range s.modes() {
		add(l.name, slices.Concat(l.argv, argv))
	}
	installed, missing := s.found()
	for _, l := range installed {
		add(l.name, slices.Concat(l.argv, argv))
		s.variants[len(s.variants)-1].other = true
	}
	for _, name := range missing {
		s.skipped = append(s.skipped, name+" is not installed")
	}
}
