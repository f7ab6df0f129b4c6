package systemd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Wrapping says how a unit is to be wrapped.
type Wrapping struct {
	// Memjail is the program, as the unit sees it.
	Memjail string
	// Flags are those of "memjail exec".
	Flags []string
	// PathRules: the policy has some, so that what the unit lets its service write
	// has to be among them.
	PathRules bool
	// Unsupervised: the policy is enforced by the kernel alone.
	Unsupervised bool
	// Ports: the policy lists TCP ports to listen on, which the supervisor looks at.
	Ports bool
	// Groups are the groups of system calls that the unit's systemd knows; nil: it
	// cannot be asked.
	Groups Groups
	// With are settings ("KEY=VALUE") that the policy needs, besides those of the unit.
	With []string
	// Created are files that have to be there before the service starts: it creates them in
	// directories that the policy does not let it write.
	Created []string
	// Harden are options of systemd that are added; see [Unit.Hardening].
	Harden []Setting
	// Made is the command that makes the file, for a comment in it.
	Made string
}

// ours begins the first line of a drop-in that memjail wrote.
const ours = "# Written by memjail: "

// neededCalls are what memjail itself calls, from its start until the program has
// been executed, and its supervisor: seen with strace(1). Those of the group @default
// are in every filter. connect, sendto and socket are for the journal, kill and
// pidfd_send_signal for the guard, recvfrom for what the supervisor says of the self-check,
// pidfd_getfd and listen for the sockets whose ports the policy restricts or a supervisor
// observes, fsopen for POSIX message queues. io_uring_setup,
// process_vm_readv, process_vm_writev, ptrace and userfaultfd are tried by the self-check,
// to see that they are refused.
var neededCalls = []string{
	"capget", "capset", "chdir", "clone", "close", "close_range", "connect", "dup3", "epoll_create1",
	"epoll_ctl", "epoll_pwait",
	"eventfd2", "execve", "execveat", "exit", "exit_group", "faccessat2", "fcntl", "fsconfig", "fsmount",
	"fsopen", "fstat",
	"fstatfs", "futex", "getdents64", "getcwd", "getgroups", "getpriority", "getsockopt", "io_uring_setup",
	"ioctl", "kill",
	"landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "listen", "lseek",
	"madvise", "memfd_create", "mmap", "munmap", "nanosleep", "newfstatat", "openat", "openat2", "pidfd_getfd",
	"pidfd_open",
	"pidfd_send_signal", "pipe2", "ppoll",
	"prctl", "pread64", "prlimit64", "process_vm_readv", "process_vm_writev", "ptrace", "read", "readlinkat",
	"recvfrom", "recvmsg", "rt_sigaction",
	"rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "sched_getaffinity", "sched_yield", "seccomp",
	"sendmsg", "sendto", "setgroups", "setresgid",
	"setpriority", "setresuid", "setsid", "setsockopt", "sigaltstack", "socket", "socketpair", "statx",
	"tgkill", "userfaultfd", "wait4", "write",
}

// rootsCalls are those of neededCalls that only a start as root makes: to drop
// capabilities, to open files as whoever asks for them, and to reach message queues.
var rootsCalls = []string{"capset", "fsconfig", "fsmount", "setgroups", "setresgid", "setresuid"}

// dispensableCalls are those of neededCalls that may be refused with an error number: what the
// self-check wants to be refused, and a higher priority for the supervisor.
var dispensableCalls = []string{"io_uring_setup", "process_vm_readv", "process_vm_writev", "ptrace", "setpriority",
	"userfaultfd"}

// missing are the calls of memjail's own that the unit's list does not let through.
func (u *Unit) missing(w Wrapping) []string {
	needed := neededCalls
	if !u.asRoot() {
		needed = slices.DeleteFunc(slices.Clone(needed),
			func(call string) bool { return slices.Contains(rootsCalls, call) })
	}
	if u.last("SystemCallErrorNumber").Value != "" {
		needed = slices.DeleteFunc(slices.Clone(needed), func(call string) bool {
			return slices.Contains(dispensableCalls, call) || call == "pidfd_getfd" && !w.Ports
		})
	}
	return u.missingCalls(needed, w.Groups)
}

// asRoot reports whether any of the commands is started with capabilities.
func (u *Unit) asRoot() bool {
	user := u.last("User").Value
	if user == "" && !u.is("DynamicUser") || user == "root" || user == "0" || u.last("AmbientCapabilities").Key != "" {
		return true
	}
	commands, err := u.commands()
	return err != nil || slices.ContainsFunc(commands,
		func(c command) bool { return strings.ContainsAny(c.prefixes, "+!") })
}

// DropIn is the text of the unit's drop-in. An error says why the unit cannot be
// wrapped.
func (u *Unit) DropIn(w Wrapping) (string, error) {
	more := u.wanted(w)
	flags := u.with(more).flags(w) // what hardening opens the policy allows already
	u = u.with(more).with(w.Harden)
	commands, err := u.commands()
	switch {
	case err != nil:
		return "", err
	case len(commands) == 0:
		return "", fmt.Errorf("%s: there is no ExecStart= to wrap", u.File)
	}
	if err := u.wrappable(w); err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s\n# \"memjail systemd remove %s\" removes it. If the unit's own ExecStart= "+
		"changes,\n# this file has to be written again.\n[Service]\nExecStart=\n",
		ours, oneLine(w.Made), u.Name)
	for _, c := range commands {
		if filepath.Base(c.program) == "memjail" {
			return "", fmt.Errorf("%s:%d: ExecStart= starts memjail already", c.line.File, c.line.Line)
		}
		fmt.Fprintf(&b, "ExecStart=%s\n", c.wrap(w.Memjail, flags))
	}
	if len(w.Harden) > 0 { // before what memjail needs of calls, which they may take away
		b.WriteString("# What the policy implies, as options of systemd.\n")
	}
	for _, s := range w.Harden {
		fmt.Fprintf(&b, "%s=%s\n", s.Key, s.Value)
	}
	if missing := u.missing(w); len(missing) > 0 {
		fmt.Fprintf(&b, "# Calls of memjail that the unit's list lacks.\nSystemCallFilter=%s\n",
			strings.Join(missing, " "))
	}
	if name := u.identifier(commands); name != "" {
		fmt.Fprintf(&b, "# The journal has the service's output under its own name, as "+
			"before.\nSyslogIdentifier=%s\n", name)
	}
	u.writeSettings(&b, w, more)
	return b.String(), nil
}

// writeSettings writes what the drop-in has besides ExecStart= and what belongs to it.
func (u *Unit) writeSettings(b *strings.Builder, w Wrapping, more []Setting) {
	if u.last("NoExecPaths").Key != "" {
		fmt.Fprintf(b, "# The unit has a list of what may be executed.\nExecPaths=%s\n", quoteWord(w.Memjail, false))
	}
	if u.becomesInit() && u.Notifies() && !slices.Contains([]string{"all", "exec"}, u.last("NotifyAccess").Value) {
		b.WriteString("# With PrivatePIDs= memjail is process 1, and the service, which notifies, is " +
			"its child.\nNotifyAccess=all\n")
	}
	if len(more) > 0 {
		b.WriteString("# The policy needs it.\n")
	}
	for _, s := range more {
		fmt.Fprintf(b, "%s=%s\n", s.Key, s.Value)
	}
	for _, file := range w.Created {
		fmt.Fprintf(b, "# The service may write this file, and not create it.\nExecStartPre=+/bin/sh -c %s\n",
			quoteWord(": >>"+file, true))
	}
}

// wanted are the settings that the policy needs and the unit lacks. Of those that add up
// each value counts.
func (u *Unit) wanted(w Wrapping) []Setting {
	var more []Setting
	for _, text := range w.With {
		key, value, _ := strings.Cut(text, "=")
		had := u.list(key)
		switch {
		case key == "Environment", len(had) == 0:
		case !strings.HasSuffix(key, "Directory"),
			slices.ContainsFunc(had, func(s Setting) bool { return s.Value == value }):
			continue
		}
		more = append(more, Setting{Section: "Service", Key: key, Value: value})
	}
	return more
}

// with is the unit with further settings.
func (u *Unit) with(more []Setting) *Unit {
	other := *u
	other.Settings = slices.Concat(u.Settings, more)
	return &other
}

// identifier is the name under which the journal has what the service prints: that of
// the program which systemd executes, if the unit does not say. It is empty where
// nothing is to be said.
func (u *Unit) identifier(commands []command) string {
	if u.last("SyslogIdentifier").Key != "" {
		return ""
	}
	name := ""
	for _, c := range commands {
		base := filepath.Base(c.program)
		if name != "" && base != name || strings.ContainsAny(base, "\"'\\%$ ") {
			return "" // each its own, or not to be told from here
		}
		name = base
	}
	return name
}

func oneLine(s string) string { return strings.ReplaceAll(s, "\n", " ") }

// wrappable says why a unit is not to be wrapped.
func (u *Unit) wrappable(w Wrapping) error {
	if u.kind() == "forking" && u.last("PIDFile").Value == "" && !w.Unsupervised && u.guessesMainPID() {
		t := u.last("Type")
		return fmt.Errorf("%s:%d: with Type=forking and no PIDFile= systemd guesses the main process, "+
			"which fails with memjail's supervisor in the unit: "+
			"set PIDFile= if the service writes one, or let it stay in the foreground with Type=exec or "+
			"Type=notify", t.File, t.Line)
	}
	return nil
}

func (u *Unit) guessesMainPID() bool {
	return u.last("GuessMainPID").Value == "" || u.is("GuessMainPID")
}

// becomesInit: the service is process 1 of its own namespace (systemd 257).
func (u *Unit) becomesInit() bool { return u.is("PrivatePIDs") }

// Notifies reports whether the service sends messages to its manager, sd_notify(3).
func (u *Unit) Notifies() bool {
	return u.kind() == "notify" || u.kind() == "notify-reload" || u.last("WatchdogSec").Value != ""
}

// granted are the settings by which a unit has directories made for its service,
// and the specifier of where; systemd.exec(5), systemd.unit(5).
var granted = []struct{ key, flag, below string }{
	{"StateDirectory", "--rw", "%S"}, {"RuntimeDirectory", "--rw", "%t"}, {"CacheDirectory", "--rw", "%C"},
	{"LogsDirectory", "--rw", "%L"}, {"ConfigurationDirectory", "--ro", "%E"},
}

// flags are those of the wrapping, and with path rules what the unit says its
// service writes. They are words of a unit file already where they hold specifiers.
func (u *Unit) flags(w Wrapping) []flag {
	var flags []flag
	for _, text := range w.Flags {
		flags = append(flags, flag{text: text})
	}
	if !w.PathRules {
		return flags
	}
	for _, g := range granted {
		for _, s := range u.list(g.key) {
			for _, name := range strings.Fields(s.Value) {
				name, _, _ = strings.Cut(name, ":") // what follows is a link to it
				flags = append(flags, flag{text: g.flag}, flag{text: g.below + "/" + name, raw: true})
			}
		}
	}
	for _, path := range u.writePaths() {
		flags = append(flags, flag{text: "--rw"}, flag{text: path, raw: true})
	}
	return flags
}

// writePaths are those of ReadWritePaths=; one that may be missing only if it is
// there now, since memjail insists on what it is told.
func (u *Unit) writePaths() []string {
	var paths []string
	lists := slices.Concat(u.list("ReadWritePaths"), u.list("ReadWriteDirectories")) // its old name
	for _, s := range lists {
		for _, word := range strings.Fields(s.Value) {
			path := strings.TrimLeft(word, "-+")
			if strings.HasPrefix(word, "-") {
				if _, err := os.Stat(filepath.Join(u.Root, path)); err != nil {
					continue
				}
			}
			paths = append(paths, path)
		}
	}
	return paths
}

// Write writes a drop-in. One that memjail did not write is left alone.
func (p Place) Write(unit, text string) (string, error) {
	file := p.DropIn(unit)
	if _, err := readOurs(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return "", fmt.Errorf("writing the drop-in: %w", err)
	}
	// Whole or not at all: half a drop-in would start the service unprotected.
	temporary := filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+".new")
	if err := os.WriteFile(temporary, []byte(text), 0o644); err != nil {
		return "", fmt.Errorf("writing the drop-in: %w", err)
	}
	if err := os.Rename(temporary, file); err != nil {
		os.Remove(temporary)
		return "", fmt.Errorf("writing the drop-in: %w", err)
	}
	return file, nil
}

// Remove removes a unit's drop-in, and its directory if nothing else is in it.
// Errors: [os.ErrNotExist].
func (p Place) Remove(unit string) (string, error) {
	file := p.DropIn(unit)
	if _, err := readOurs(file); err != nil {
		return "", err
	}
	if err := os.Remove(file); err != nil {
		return "", fmt.Errorf("removing the drop-in: %w", err)
	}
	os.Remove(filepath.Dir(file)) // ENOTEMPTY: there are others
	return file, nil
}

// errForeign says that a drop-in was not written by memjail.
var errForeign = errors.New("it was not written by memjail, and is left as it is")

// readOurs reads a drop-in. Errors: [os.ErrNotExist], errForeign.
func readOurs(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err == nil && !strings.HasPrefix(string(text), ours) {
		err = fmt.Errorf("%s: %w", file, errForeign)
	}
	if err != nil {
		return "", fmt.Errorf("reading the drop-in: %w", err)
	}
	return string(text), nil
}

// Writable says why a drop-in could not be written.
func (p Place) Writable(unit string) error {
	file := p.DropIn(unit)
	if _, err := readOurs(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for dir := filepath.Dir(file); ; dir = filepath.Dir(dir) {
		err := unix.Access(dir, unix.W_OK)
		if errors.Is(err, unix.ENOENT) && dir != "/" {
			continue
		}
		if err != nil {
			return fmt.Errorf("writing the drop-in %s: %s: %w", file, dir, err)
		}
		return nil
	}
}

// Saved is what there was of a unit's drop-in.
type Saved struct {
	place Place
	unit  string
	text  string // "": there was none
}

// Save remembers the drop-in of a unit.
func (p Place) Save(unit string) (Saved, error) {
	text, err := readOurs(p.DropIn(unit))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return Saved{}, err
	}
	return Saved{p, unit, text}, nil
}

// Restore makes the drop-in what it was.
func (s Saved) Restore() error {
	if s.text != "" {
		_, err := s.place.Write(s.unit, s.text)
		return err
	}
	_, err := s.place.Remove(s.unit)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
