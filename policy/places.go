package policy

import (
	"strings"
	"sync"

	"github.com/memjail/memjail/policy/abspath"
)

// placeKind is why a path matters outside the sandbox.
type placeKind uint8

const (
	secret  placeKind = iota // who reads it can act as the user elsewhere
	startup                  // who writes it runs code outside
	control                  // who connects to it controls something outside
)

// place is a path that a rule should not contain by accident. "~/" is the home directory,
// "$/" the user's runtime directory.
type place struct {
	kind placeKind
	path string
	what string
}

// places lists those that systems usually have. The list serves to find mistakes; it
// cannot be complete.
var places = sync.OnceValue(func() []place {
	var list []place
	add := func(kind placeKind, what, paths string) {
		for _, path := range strings.Fields(paths) {
			list = append(list, place{kind, path, what})
		}
	}
	add(secret, "keys", "~/.ssh ~/.gnupg ~/.password-store ~/.local/share/keyrings ~/.pki")
	add(secret, "credentials of cloud services",
		"~/.aws ~/.azure ~/.config/gcloud ~/.kube ~/.config/doctl ~/.vault-token ~/.terraform.d")
	add(secret, "tokens", "~/.netrc ~/.git-credentials ~/.config/git/credentials ~/.config/gh ~/.npmrc ~/.pypirc "+
		"~/.cargo/credentials.toml ~/.docker/config.json ~/.config/pip ~/.pgpass ~/.my.cnf ~/.m2/settings.xml")
	add(secret, "sessions and passwords of browsers",
		"~/.mozilla ~/.config/google-chrome ~/.config/chromium ~/.thunderbird")
	add(secret, "shell histories", "~/.bash_history ~/.zsh_history ~/.python_history")
	add(startup, "files that shells run when they start",
		"~/.bashrc ~/.profile ~/.bash_profile ~/.bash_logout ~/.zshrc ~/.zshenv ~/.zprofile "+
			"/etc/profile /etc/profile.d /etc/bash.bashrc")
	add(startup, "files that run at login or at a given time",
		"~/.config/autostart ~/.config/systemd ~/.config/environment.d ~/.xprofile ~/.ssh "+
			"/etc/cron.d /etc/cron.daily /etc/crontab /var/spool/cron /etc/init.d /etc/pam.d "+
			"/etc/sudoers /etc/sudoers.d")
	add(startup, "directories that PATH searches first", "~/.local/bin ~/bin")
	add(startup, "policies of memjail", "~/.config/memjail /etc/memjail")
	add(startup, "settings by which git runs programs", "~/.gitconfig ~/.config/git")
	add(startup, "what the service manager runs",
		"/etc/systemd /run/systemd/system /run/systemd/generator /usr/lib/systemd "+
			"/etc/udev/rules.d /run/udev/rules.d")
	add(startup, "what the loader loads into every program",
		"/etc/ld.so.preload /etc/ld.so.conf /etc/ld.so.conf.d /etc/ld.so.cache")
	add(control, "containers, and through them the system",
		"/run/docker.sock /run/containerd /run/podman /run/crio /var/lib/lxd/unix.socket "+
			"/run/libvirt $/docker.sock $/podman")
	add(control, "the service manager", "/run/systemd/private $/systemd")
	add(control, "the message buses", "/run/dbus $/bus")
	add(control, "packages", "/run/snapd.socket")
	add(control, "keys and passwords", "$/gnupg $/keyring $/ssh-agent.socket $/gcr")
	add(control, "the screen, the keyboard and the sound", "/tmp/.X11-unix $/wayland-0 $/pipewire-0 $/pulse")
	return list
})

// harmless are files in a secret place that may be read.
var harmless = []string{"~/.ssh/config", "~/.ssh/known_hosts"}

// resolvePlace expands "~/" and "$/"; it returns "" if that directory is not known.
func resolvePlace(path, home, runtime string) string {
	for _, base := range []struct{ prefix, dir string }{{"~/", home}, {"$/", runtime}} {
		if rest, ok := strings.CutPrefix(path, base.prefix); ok {
			if base.dir == "" {
				return ""
			}
			return strings.TrimSuffix(base.dir, "/") + "/" + rest
		}
	}
	return path
}

// Sensitive is a place that a rule should not open unawares.
type Sensitive struct {
	Path string // absolute
	What string // "tokens"
}

// SecretPlaces lists places with keys, tokens and passwords that the path is, lies in, or
// contains, as far as their names are known.
func SecretPlaces(path string, f LintFacts) []Sensitive { return sensitive(secret, path, f) }

// StartupPlaces lists places of the same kind in which whoever writes has code run outside
// the sandbox.
func StartupPlaces(path string, f LintFacts) []Sensitive { return sensitive(startup, path, f) }

// ControlSockets lists places with sockets of daemons that act for whoever connects.
func ControlSockets(path string, f LintFacts) []Sensitive { return sensitive(control, path, f) }

func sensitive(kind placeKind, path string, f LintFacts) []Sensitive {
	l := &linter{facts: f}
	var found []Sensitive
	for _, p := range l.overlapping(kind, path) {
		found = append(found, Sensitive{Path: p.path, What: p.what})
	}
	return found
}

// systemSecrets are files of the system that only root reads.
var systemSecrets = []string{
	"/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/ssl/private", "/etc/ssh", "/etc/sudoers",
	"/etc/sudoers.d", "/etc/krb5.keytab", "/etc/security/opasswd", "/etc/NetworkManager/system-connections",
	"/etc/wireguard", "/etc/letsencrypt", "/var/lib/private", "/root",
}

// SystemSecrets lists files and directories with keys and passwords of the system that the
// path is, lies in, or contains. What holds much else is none of them: the root directory's
// entry /root, if it is the home directory or lies below the path.
func SystemSecrets(path string, f LintFacts) []Sensitive {
	var found []Sensitive
	for _, s := range systemSecrets {
		within := abspath.Within(s, path)
		if !within && !abspath.Within(path, s) || s == "/root" && (!within || abspath.Within(s, f.Home)) {
			continue
		}
		found = append(found, Sensitive{Path: s, What: "keys and passwords of the system"})
	}
	return found
}

// Careful is what a rule on a path would open, a clause, if that is dangerous; else "".
func Careful(rights Rights, path string, f LintFacts) string {
	first := func(places ...[]Sensitive) string {
		for _, p := range places {
			if len(p) > 0 {
				return p[0].What
			}
		}
		return ""
	}
	if rights == MayList {
		return ""
	}
	if what := first(SecretPlaces(path, f), SystemSecrets(path, f)); what != "" {
		return what + " could be read"
	}
	if rights&MayWrite != 0 {
		if what := first(StartupPlaces(path, f)); what != "" {
			return what + " could be written, which takes effect outside"
		}
	}
	if what := first(ControlSockets(path, f)); what != "" && path != "/tmp" {
		return "it has sockets that control " + what
	}
	return ""
}
