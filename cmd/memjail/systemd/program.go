package systemd

import (
	"bufio"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// install is what puts memjail where every unit finds it.
func install(program string) string {
	return "install -m 755 " +
		quoteWord(program, false) + " /usr/local/bin/memjail, and write the drop-in with --memjail " +
		"/usr/local/bin/memjail"
}

// hidingOptions are those that take directories out of a unit's view; systemd.exec(5).
var hidingOptions = []struct {
	key    string
	values []string // nil: any but a no
	dirs   []string
}{
	{"ProtectHome", []string{"yes", "true", "on", "1", "y", "t", "tmpfs"}, []string{"/home", "/root", "/run/user"}},
	{"PrivateTmp", nil, []string{"/tmp", "/var/tmp"}},
}

// checkProgram finds why the unit could not execute memjail, by the unit's options and
// the modes of files alone. Where the unit's systemd runs, [Unit.Trial] knows better.
func (u *Unit) checkProgram(q Question) []Finding {
	program := q.Memjail
	var f []Finding
	breaks := func(s Setting, what string) {
		f = append(f, finding(Breaks, s, what).remedy(install(program)))
	}
	for _, o := range hidingOptions {
		s := u.last(o.key)
		if s.Key == "" || !notNo(u, s) || o.values != nil && !slices.Contains(o.values, strings.ToLower(s.Value)) {
			continue
		}
		if slices.ContainsFunc(o.dirs, func(dir string) bool { return isBelow(program, dir) }) {
			breaks(s, "hides memjail, "+program)
		}
	}
	for _, key := range []string{"InaccessiblePaths", "InaccessibleDirectories", "TemporaryFileSystem"} {
		for _, s := range u.list(key) {
			for word := range strings.FieldsSeq(s.Value) {
				path, _, _ := strings.Cut(strings.TrimLeft(word, "-+"), ":")
				if isBelow(program, path) {
					breaks(s, "hides memjail, "+program)
				}
			}
		}
	}
	root := u.Root
	if s := u.last("RootDirectory"); s.Key != "" && !strings.Contains(s.Value, "%") {
		root = filepath.Join(root, strings.TrimLeft(s.Value, "-"))
		if _, err := os.Stat(filepath.Join(root, program)); err != nil {
			f = append(f, finding(Breaks, s, "there is no "+program+
				" in it").remedy("copy memjail into it: it is one static file"))
			return f
		}
	}
	if u.last("RootImage").Key != "" {
		return f
	}
	return append(f, u.checkModes(root, program)...)
}

// checkModes finds what keeps the unit's user from executing a program.
func (u *Unit) checkModes(root, program string) []Finding {
	who := u.last("User")
	id := identity{uid: -1}
	switch {
	case u.is("DynamicUser"):
		who = u.last("DynamicUser")
	case who.Value != "" && who.Value != "root" && who.Value != "0":
		id = lookUp(u.Root, who.Value, u.last("Group").Value)
	default:
		who.Key = ""
	}
	if who.Key != "" {
		for path := program; ; path = filepath.Dir(path) {
			info, err := os.Stat(filepath.Join(root, path))
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it will be put there
			}
			if err != nil || !id.mayExecute(info) {
				f := finding(Breaks, who, "may not execute memjail: "+path+" is closed to that user")
				return []Finding{f.remedy(install(program))}
			}
			if path == "/" || path == "." {
				break
			}
		}
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(filepath.Join(root, program), &stat); err == nil && stat.Flags&unix.ST_NOEXEC != 0 {
		return []Finding{finding(Breaks, Setting{Key: "ExecStart", Value: program},
			"is on a file system that is mounted noexec").remedy(install(program))}
	}
	return nil
}

// isBelow reports whether a path is dir or lies below it.
func isBelow(path, dir string) bool {
	rest, ok := strings.CutPrefix(path, strings.TrimRight(dir, "/"))
	return ok && dir != "" && (rest == "" || rest[0] == '/')
}

// identity is a user as far as modes ask for it; uid -1: one of whom nothing is known.
type identity struct {
	uid  int
	gids []int
}

func (id identity) mayExecute(info fs.FileInfo) bool {
	mode := info.Mode().Perm()
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok || id.uid < 0:
		return mode&0o001 != 0
	case int(stat.Uid) == id.uid:
		return mode&0o100 != 0
	case slices.Contains(id.gids, int(stat.Gid)):
		return mode&0o010 != 0
	}
	return mode&0o001 != 0
}

// lookUp finds a user and its groups in the files of a system. (Package os/user would
// ask this system, and with cgo its C library.) One that is not found there is one of
// whom nothing is known.
func lookUp(root, user, group string) identity {
	id := identity{uid: -1}
	name := user
	eachLine(filepath.Join(root, "etc/passwd"), func(fields []string) {
		if len(fields) >= 4 && (fields[0] == user || fields[2] == user) {
			id.uid, name = number(fields[2]), fields[0]
			id.gids = []int{number(fields[3])}
		}
	})
	eachLine(filepath.Join(root, "etc/group"), func(fields []string) {
		if len(fields) < 4 {
			return
		}
		if fields[0] == group || slices.Contains(strings.Split(fields[3], ","), name) {
			id.gids = append(id.gids, number(fields[2]))
		}
	})
	return id
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return -1
	}
	return n
}

// eachLine reads a table of fields that colons divide; one that is not there is empty.
func eachLine(file string, line func(fields []string)) {
	f, err := os.Open(file)
	if err != nil {
		return
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line(strings.Split(lines.Text(), ":"))
	}
}

// ErrLibraries says that a program is not one static file.
var ErrLibraries = errors.New("it is dynamically linked, so it refuses to start anything")

// CheckBuild looks at a program that is to be a unit's memjail. Errors: [ErrLibraries].
func CheckBuild(file string) error {
	f, err := elf.Open(file)
	var format *elf.FormatError
	switch {
	case errors.As(err, &format), errors.Is(err, io.EOF):
		return nil // a script around memjail: what it starts is not known
	case err != nil:
		return fmt.Errorf("looking at %q: %w", file, err)
	}
	defer f.Close()
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return fmt.Errorf("%s: %w", file, ErrLibraries)
	}
	return nil
}

// trialKeys are the options that decide whether a program can be executed and start:
// whom it runs as, what it sees, and what it may call.
var trialKeys = []string{
	"User", "Group", "DynamicUser", "SupplementaryGroups", "RootDirectory", "RootImage", "ProtectHome",
	"ProtectSystem", "PrivateTmp",
	"PrivateDevices", "PrivateUsers", "PrivateNetwork", "PrivateIPC", "ProtectProc", "ProcSubset",
	"ProtectKernelTunables", "ProtectKernelModules",
	"ProtectKernelLogs", "ProtectControlGroups", "ProtectClock", "ProtectHostname", "NoExecPaths", "ExecPaths",
	"InaccessiblePaths",
	"TemporaryFileSystem", "BindPaths", "BindReadOnlyPaths", "ReadOnlyPaths", "ReadWritePaths", "MountAPIVFS",
	"SystemCallFilter",
	"SystemCallErrorNumber", "SystemCallArchitectures", "CapabilityBoundingSet", "AmbientCapabilities",
	"SecureBits", "NoNewPrivileges",
	"MemoryDenyWriteExecute", "RestrictNamespaces", "RestrictAddressFamilies", "RestrictRealtime",
	"RestrictSUIDSGID", "LockPersonality",
	"LimitNOFILE", "LimitNPROC", "LimitAS", "LimitDATA", "LimitFSIZE", "LimitMEMLOCK", "TasksMax", "MemoryMax",
	"AppArmorProfile", "SELinuxContext", "SmackProcessLabel", "Slice",
}

// Trial are the arguments of systemd-run(1) that start memjail as the unit would, with
// memjail itself for the service, which can be executed and makes no call that is not let
// through where memjail can start at all. It is empty for a template without an instance.
func (u *Unit) Trial(w Wrapping) []string {
	u = u.with(w.Harden)
	if strings.Contains(u.Name, "@.") {
		return nil
	}
	args := []string{"--quiet", "--wait", "--pipe", "--collect", "--service-type=exec"}
	property := func(key, value string) { args = append(args, "--property="+key+"="+value) }
	for _, key := range trialKeys {
		for _, s := range u.list(key) {
			if value := strings.ReplaceAll(s.Value, "%%", "\x00"); !strings.Contains(value, "%") {
				property(key, strings.ReplaceAll(value, "\x00", "%"))
			}
		}
	}
	if missing := u.missing(w); len(missing) > 0 {
		property("SystemCallFilter", strings.Join(missing, " "))
	}
	if u.last("NoExecPaths").Key != "" {
		property("ExecPaths", w.Memjail)
	}
	return append(args, w.Memjail, "exec", "--", w.Memjail, "version")
}
