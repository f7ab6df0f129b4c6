package systemd

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/memjail/memjail/profiles"
)

// Entry is a service in a survey of all.
type Entry struct {
	Unit string `json:"unit"`
	File string `json:"file,omitempty"`
	// State is "wrapped", "outdated", "overridden" or "foreign", as [State]; "possible": it can
	// be wrapped; "discouraged": not one to be wrapped; "masked"; "impossible".
	State string `json:"state"`
	// DropIn is the drop-in of memjail that systemd reads for the unit.
	DropIn string `json:"drop_in,omitempty"`
	// Policy is that of the drop-in, or for a unit that can be wrapped the built-in one for it.
	Policy string `json:"policy,omitempty"`
	// Why says what the matter is.
	Why string `json:"why,omitempty"`
}

// States of an [Entry] besides those of a drop-in.
const (
	Possible    = "possible"
	Discouraged = "discouraged"
	Masked      = "masked"
	Impossible  = "impossible"
)

// EntryStates are all states of an [Entry].
var EntryStates = []string{"wrapped", "outdated", "overridden", "foreign", Possible, Discouraged, Masked, Impossible}

// errMasked says that a unit cannot be started, whatever its file says.
var errMasked = errors.New("it cannot start at all")

// Survey describes services, those with other names only once. extra are names of more, such
// as instances that run. The result is sorted by name.
func (p Place) Survey(extra []string) []Entry {
	p.aliases = p.readAliases()
	names := slices.Concat(p.Services(), p.Instances(), extra)
	slices.Sort(names)
	var entries []Entry
	seen := map[string]bool{}
	for _, name := range slices.Compact(names) {
		if e, ok := p.entry(name); ok && !seen[e.Unit] {
			seen[e.Unit] = true
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Unit, b.Unit) })
	return entries
}

// Describe is the entry of one unit. Errors: there is no such unit.
func (p Place) Describe(name string) (Entry, error) {
	u, err := p.Load(name)
	if err != nil {
		return Entry{}, err
	}
	return p.describe(u), nil
}

// entry is false for the other name of a unit, which has an entry by its own, and for what
// has no unit file, such as a unit that is only referred to.
func (p Place) entry(name string) (Entry, bool) {
	u, err := p.Load(name)
	switch {
	case errors.Is(err, errMasked):
		return Entry{Unit: name, State: Masked, Why: err.Error()}, true
	case errors.Is(err, fs.ErrNotExist):
		return Entry{}, false
	case err != nil:
		return Entry{Unit: name, State: Impossible, Why: err.Error()}, true
	case u.Name != name && !strings.Contains(name, "@"):
		return Entry{}, false
	}
	return p.describe(u), true
}

func (p Place) describe(u *Unit) Entry {
	e := Entry{Unit: u.Name, File: u.File}
	e.DropIn, _ = p.Wrapper(u.Name) // State returns the error
	state, err := p.State(u)
	switch {
	case err != nil:
		e.State, e.Why = Impossible, err.Error()
		return e
	case state != Unwrapped:
		e.State, e.Policy = state.String(), policyOf(e.DropIn)
		e.Why = u.whyNot(state, e.DropIn)
		return e
	}
	e.Policy = profiles.ForUnit(u.Name)
	w := Wrapping{Memjail: "/usr/bin/memjail", Groups: Groups{}, With: profiles.With(e.Policy)}
	if _, err := u.DropIn(w); err != nil {
		e.State, e.Why = Impossible, strings.TrimPrefix(err.Error(), u.Name+": ")
		return e
	}
	if why := unsuited(u.Name); why != "" {
		e.State, e.Why = Discouraged, why
		return e
	}
	e.State = Possible
	return e
}

// whyNot says why a unit with a drop-in of memjail is not wrapped by it.
func (u *Unit) whyNot(state State, file string) string {
	switch state {
	case Outdated:
		return "the unit's ExecStart= has changed since the drop-in was written: write it again"
	case Overridden:
		s := u.overrides()
		return fmt.Sprintf("%s:%d sets ExecStart= again: give that file a name before %s", s.File, s.Line, dropInName)
	case Foreign:
		return file + " is there, and memjail did not write it"
	}
	return ""
}

// policyOf returns the policies that a drop-in names, "memory" if none.
func policyOf(file string) string {
	flags, err := WrapperFlags(file)
	if err != nil {
		return ""
	}
	var names []string
	for i, word := range flags {
		if i > 0 && (flags[i-1] == "--policy" || flags[i-1] == "-p") {
			names = append(names, word)
		}
	}
	if len(names) == 0 {
		return "memory"
	}
	return strings.Join(names, " ")
}

// notSuited are services that make up the system, or whose work is to start what others
// want started with all rights. The first pattern that matches counts, path.Match.
var notSuited = []struct{ pattern, why string }{
	{"memjail-*", "it is memjail's own"},
	{"systemd-*", "part of systemd"}, {"initrd-*", "part of systemd"},
	{"system-update*", packages}, {"logrotate*", jobs}, {"emergency.service", "part of systemd"},
	{"rescue.service", "part of systemd"}, {"debug-shell.service", "part of systemd"},
	{"dbus*.service", "every service depends on it"}, {"polkit.service", "decides about rights of others"},
	{"user@*", "what it starts would all be inside, and could not use sudo"},
	{"user-runtime-dir@*", "part of systemd"}, {"*getty*", "sessions would be inside, and could not use sudo"},
	{"ssh.service", sessions}, {"sshd.service", sessions}, {"ssh@*", sessions}, {"sshd@*", sessions},
	{"sshd-*", sessions}, {"dropbear*", sessions}, {"gdm*", sessions}, {"lightdm*", sessions}, {"sddm*", sessions},
	{"xdm*", sessions}, {"display-manager*", sessions}, {"console-*", "it sets up the console"},
	{"cron.service", jobs}, {"crond.service", jobs}, {"cronie*", jobs}, {"atd.service", jobs}, {"anacron*", jobs},
	{"docker*", engine}, {"containerd*", engine}, {"podman*", engine}, {"crio*", engine}, {"kubelet*", engine},
	{"libvirt*", engine}, {"virt*", engine}, {"lxc*", engine}, {"lxd*", engine}, {"incus*", engine}, {"k3s*", engine},
	{"snap*", engine}, {"buildkit*", engine},
	{"apt-*", packages}, {"dpkg-*", packages}, {"unattended-upgrades*", packages}, {"packagekit*", packages},
	{"dnf*", packages}, {"fwupd*", packages}, {"man-db*", packages}, {"cloud-*", "it sets up the system"},
	{"e2scrub*", disks}, {"fstrim*", disks}, {"lvm2*", disks}, {"mdadm*", disks}, {"mdmonitor*", disks},
	{"mdcheck*", disks}, {"zfs*", disks}, {"quota*", disks}, {"udisks2*", disks}, {"smart*", disks},
	{"blk-availability*", disks}, {"multipath*", disks}, {"dm-event*", disks}, {"cryptdisks*", disks},
	{"kmod*", "it loads modules of the kernel"}, {"modprobe@*", "it loads modules of the kernel"},
	{"apparmor*", "it loads policies into the kernel"}, {"auditd*", "it reads the kernel's audit messages"},
	{"networking*", network}, {"ifup@*", network}, {"NetworkManager*", network}, {"keyboard-setup*", console},
	{"hwclock*", "it sets the clock of the hardware"}, {"ldconfig*", packages}, {"rc-local*", "it sets up the system"},
	{"sudo*", "it sets up the system"}, {"procps*", "it sets up the kernel"}, {"plymouth*", console},
	{"quotaon*", disks},
}

const (
	sessions = "sessions would be inside, and could not use sudo"
	jobs     = "what users have it start would be inside, and could not use sudo"
	engine   = "it makes containers or machines: \"memjail oci\" is for those"
	packages = "it changes the system's programs, or serves those that do"
	disks    = "it works on file systems and disks"
	network  = "it sets up the network"
	console  = "it sets up the console"
)

// unsuited says why a service is not one to be wrapped with many others, or "".
func unsuited(name string) string {
	for _, n := range notSuited {
		if ok, _ := filepath.Match(n.pattern, name); ok { // the patterns are well-formed
			return n.why
		}
	}
	return ""
}

// IsPattern reports whether a name stands for several units, as for systemctl(1).
func IsPattern(name string) bool { return strings.ContainsAny(name, "*?[") }

// Match reports whether a unit's name matches a pattern, which may lack ".service".
// Errors: path.ErrBadPattern.
func Match(pattern, unit string) (bool, error) {
	if !isUnitType(filepath.Ext(pattern)) && !strings.HasSuffix(pattern, "*") {
		pattern += ".service"
	}
	ok, err := filepath.Match(pattern, unit)
	if err != nil {
		return false, fmt.Errorf("%q: %w", pattern, err)
	}
	return ok, nil
}

// WithoutInstances leaves out instances whose template is among the names.
func WithoutInstances(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		template, instance := templateOf(name)
		return instance != "" && slices.Contains(names, template)
	})
}
