package systemd

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Level is how much a finding matters.
type Level string

const (
	// Covers: the unit itself does part of what the policy asks for.
	Covers Level = "covers"
	// Note: something to know.
	Note Level = "note"
	// Breaks: wrapped like this, the service would not start, or not work.
	Breaks Level = "breaks"
)

// Finding is one thing that an option of the unit means for memjail.
type Finding struct {
	Level  Level  `json:"level"`
	Option string `json:"option"`          // as "MemoryDenyWriteExecute=yes"
	Where  string `json:"where,omitempty"` // file:line
	What   string `json:"what"`
	Remedy string `json:"remedy,omitempty"`
}

// Question is what Check asks about a policy.
type Question struct {
	Wrapping
	// PolicyFiles are the files that the policy is in, none for a built-in one.
	PolicyFiles []string
	// MayWrite reports whether the policy lets a path be written.
	MayWrite func(path string) bool
}

// coverage are the options that do part of what memjail does.
var coverage = []struct {
	key     string
	applies func(u *Unit, s Setting) bool
	what    string
}{
	{"NoNewPrivileges", isYes, "memjail sets it, too"},
	{"MemoryDenyWriteExecute", isYes,
		"is memory.writable-code = \"deny\", but for what personality(2) and shared memory leave open"},
	{"ProtectSystem", notNo,
		"makes /usr read-only for the unit: part of memory.code-files, which holds on every mount of the same files"},
	{"ProtectProc", notNo, "hides other users' processes in /proc; the service's own memory stays open in it"},
	{"ProcSubset", notAll, "hides all but processes in /proc; memory stays open in it"},
	{"PrivateDevices", isYes, "hides /dev/mem, /dev/kmem and /dev/port, which memjail does not grant either"},
	{"PrivatePIDs", isYes, "other services' processes are out of reach; its own memory stays open"},
	{"PrivateUsers", isYes, "removes all capabilities over the system"},
	{"ProtectKernelTunables", isYes, "makes /proc/sys and /sys read-only, which memjail leaves to the policy's paths"},
	{"ProtectKernelModules", isYes, "memjail drops CAP_SYS_MODULE and refuses the calls, too"},
	{"ProtectKernelLogs", isYes, "memjail drops CAP_SYSLOG, too"},
	{"RestrictNamespaces", notNo, "is ipc.namespaces = \"deny\""},
	{"RestrictAddressFamilies", anyValue, "limits sockets by family; the policy's [network] limits ports and paths"},
	{"IPAddressDeny", anyValue, "limits addresses, which Landlock cannot"},
	{"CapabilityBoundingSet", noTrace, "leaves CAP_SYS_PTRACE out, which memjail drops, too"},
	{"LimitCORE", isZero, "no core dumps, as under memjail"},
}

func isYes(u *Unit, s Setting) bool { return u.is(s.Key) }
func notNo(_ *Unit, s Setting) bool {
	return !slices.Contains([]string{"no", "false", "off", "0", "default"}, s.Value)
}
func notAll(_ *Unit, s Setting) bool   { return s.Value != "all" }
func anyValue(_ *Unit, _ Setting) bool { return true }
func isZero(_ *Unit, s Setting) bool   { return s.Value == "0" }
func noTrace(_ *Unit, s Setting) bool {
	has := strings.Contains(s.Value, "CAP_SYS_PTRACE")
	return has == strings.HasPrefix(s.Value, "~")
}

// memoryCalls are those that reach another process's memory, or one's own.
var memoryCalls = []string{"process_vm_readv", "process_vm_writev", "ptrace", "userfaultfd", "io_uring_setup",
	"perf_event_open", "bpf"}

// Check says what the unit's options mean for a service that memjail starts: what
// they cover of the policy, what would break.
func (u *Unit) Check(q Question) []Finding {
	u = u.with(u.wanted(q.Wrapping)).with(q.Harden)
	var findings []Finding
	for _, c := range coverage {
		if s := u.last(c.key); s.Key != "" && c.applies(u, s) {
			findings = append(findings, finding(Covers, s, c.what))
		}
	}
	if s := u.last("SystemCallFilter"); s.Key != "" {
		if refused := u.missingCalls(memoryCalls, q.Groups); q.Groups != nil && len(refused) > 0 {
			findings = append(findings,
				finding(Covers, s, "refuses "+strings.Join(refused, ", ")+"; memory stays open through /proc"))
		}
	}
	findings = append(findings, u.checkFilter(q)...)
	findings = append(findings, u.checkProgram(q)...)
	findings = append(findings, u.checkStart(q)...)
	findings = append(findings, u.checkWrites(q)...)
	for _, file := range q.PolicyFiles {
		findings = append(findings, u.checkPolicyFile(file)...)
	}
	return findings
}

func finding(level Level, s Setting, what string) Finding {
	f := Finding{Level: level, Option: s.Key + "=" + s.Value, What: what}
	if s.File != "" {
		f.Where = fmt.Sprintf("%s:%d", s.File, s.Line)
	}
	return f
}

func (f Finding) remedy(text string) Finding {
	f.Remedy = text
	return f
}

func (u *Unit) checkFilter(q Question) []Finding {
	s := u.last("SystemCallFilter")
	missing := u.missing(q.Wrapping)
	if len(missing) == 0 {
		return nil
	}
	how := "memjail would be killed with SIGSYS"
	if e := u.last("SystemCallErrorNumber").Value; e != "" && e != "kill" {
		how = "memjail would get " + e + " and not start the service"
	}
	if q.Groups == nil {
		return []Finding{finding(Note, s,
			"its groups are those of a systemd that is not available here: for each call of memjail "+
				"that they lack, "+how).
			remedy(fmt.Sprintf("the drop-in names all %d calls, unless the unit does", len(missing)))}
	}
	return []Finding{finding(Note, s, fmt.Sprintf("lacks %d calls that memjail makes: %s", len(missing), how)).
		remedy("the drop-in adds SystemCallFilter=" + strings.Join(missing, " "))}
}

// checkStart finds what keeps the service from starting, or from being known.
func (u *Unit) checkStart(q Question) []Finding {
	var f []Finding
	if err := u.wrappable(q.Wrapping); err != nil {
		f = append(f, finding(Breaks, u.last("Type"),
			"without PIDFile= systemd guesses the main process, which fails with memjail's supervisor in the unit").
			remedy("set PIDFile=, or let the service stay in the foreground with Type=exec or Type=notify"))
	}
	if s := u.overrides(); s.Key != "" {
		f = append(f, finding(Breaks, s, "is read after the drop-in of memjail and starts the service without it").
			remedy("give "+filepath.Base(s.File)+" a name before "+dropInName))
	}
	for _, key := range []string{"AppArmorProfile", "SELinuxContext", "SmackProcessLabel"} {
		if s := u.last(key); s.Key != "" {
			f = append(f, finding(Note, s,
				"is entered when memjail is executed, and no_new_privs prevents a transition to the "+
					"service's own profile").
				remedy("the profile has to let memjail and the service's program run"))
		}
	}
	for _, key := range []string{"RootDirectory", "RootImage"} {
		if s := u.last(key); s.Key != "" {
			f = append(f, finding(Note, s, "memjail and the policy file are looked for in it").remedy("copy "+
				q.Memjail+" into it: it is one static file"))
		}
	}
	if s := u.last("PrivatePIDs"); u.becomesInit() {
		f = append(f, finding(Note, s,
			"memjail is process 1 there and stays as an init: the service is its child").remedy(
			"the drop-in sets NotifyAccess=all if the service notifies"))
	}
	commands, _ := u.commands() // the error is the drop-in's to tell
	for _, c := range commands {
		if strings.Contains(c.prefixes, "+") {
			f = append(f, finding(Note, c.line,
				"the prefix + disables User= and the sandboxing options of the unit for this line; "+
					"memjail's policy still holds"))
		}
	}
	for key, least := range map[string]string{"LimitAS": "the address space of a Go program is larger: " +
		"memjail may not start", "LimitDATA": "counts memjail's supervisor, too",
		"TasksMax": "memjail's supervisor and guard need about ten"} {
		if s := u.last(key); s.Key != "" && s.Value != "infinity" {
			f = append(f, finding(Note, s, least))
		}
	}
	slices.SortFunc(f, func(a, b Finding) int { return strings.Compare(a.Where, b.Where) })
	return f
}

// checkWrites finds what the unit has its service write and the policy does not.
func (u *Unit) checkWrites(q Question) []Finding {
	if !q.PathRules || q.MayWrite == nil {
		return nil
	}
	s := u.last("PIDFile")
	if s.Key == "" || strings.Contains(s.Value, "%") {
		return nil
	}
	path := s.Value
	if !filepath.IsAbs(path) {
		path = filepath.Join("/run", path)
	}
	if slices.Contains(q.Created, path) {
		return nil
	}
	dir := filepath.Dir(path)
	for _, name := range u.list("RuntimeDirectory") {
		if slices.Contains(strings.Fields(name.Value), strings.TrimPrefix(dir, "/run/")) {
			return nil
		}
	}
	if slices.Contains(u.writePaths(), dir) || q.MayWrite(path) {
		return nil
	}
	return []Finding{finding(Breaks, s, "the service creates this file, and the policy does not let it write "+dir).
		remedy("add --rw " + dir + ", or let it be written in a RuntimeDirectory=")}
}

// checkPolicyFile finds why the unit could not read its policy: memjail reads it as
// the unit's user and in the unit's view of the files.
func (u *Unit) checkPolicyFile(file string) []Finding {
	var f []Finding
	hidden := map[string][]string{"ProtectHome": {"/home/", "/root/", "/run/user/"},
		"PrivateTmp": {"/tmp/", "/var/tmp/"}}
	for key, dirs := range hidden {
		for _, dir := range dirs {
			if s := u.last(key); s.Key != "" && notNo(u, s) && strings.HasPrefix(file, dir) {
				f = append(f, finding(Breaks, s, "hides the policy "+file).remedy("keep it in /etc/memjail"))
			}
		}
	}
	user := u.last("User")
	if u.is("DynamicUser") {
		user = u.last("DynamicUser")
	}
	if user.Key != "" && user.Value != "root" && user.Value != "0" {
		if closed := notForOthers(file); closed != "" {
			f = append(f, finding(Breaks, user, "may not read the policy "+file).remedy("chmod o+rX "+closed))
		}
	}
	return f
}

// notForOthers is the file, or the directory above it, that is closed to others.
func notForOthers(path string) string {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o004 == 0 {
		return path
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&0o001 == 0 {
			return dir
		}
		if dir == "/" || dir == "." {
			return ""
		}
	}
}

// Merged is the unit in one file, for programs that read one; with a drop-in's text
// as it would be with it.
func (u *Unit) Merged(dropIn string) (string, error) {
	settings := u.Settings
	if dropIn != "" {
		more, err := parse(dropInName, dropIn)
		if err != nil {
			return "", err
		}
		settings = slices.Concat(settings, more)
	}
	var b strings.Builder
	section := ""
	for _, s := range settings {
		if s.Section != section {
			section = s.Section
			fmt.Fprintf(&b, "[%s]\n", section)
		}
		fmt.Fprintf(&b, "%s=%s\n", s.Key, s.Value)
	}
	return b.String(), nil
}
