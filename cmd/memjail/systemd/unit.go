// Package systemd reads the units of a systemd and writes the drop-in files that
// have memjail start their services.
//
// Units are read as systemd.unit(5) says, from the directories that are searched,
// without asking a running systemd: so an image can be prepared from outside, and
// nothing has to be reloaded first.
package systemd

import (
	"fmt"
	"strings"
)

// Setting is one assignment of a unit file.
type Setting struct {
	Section, Key, Value string
	File                string
	Line                int // the first one, counted from 1
}

// parse reads the text of a unit file, systemd.syntax(7): a line that ends with a
// backslash goes on in the next one, comments in between do not count. (The unit
// package of go-systemd refuses such comments, and lines above 2048 bytes, both of
// which systemd accepts.)
func parse(file, text string) ([]Setting, error) {
	var settings []Setting
	section, joined, first := "", "", 0
	for i, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimLeft(strings.TrimSuffix(line, "\r"), " \t")
		if strings.HasPrefix(trimmed, "#") || strings.HasPrefix(trimmed, ";") {
			continue
		}
		if joined == "" {
			first = i + 1
		}
		if rest, goesOn := strings.CutSuffix(trimmed, `\`); goesOn {
			joined += rest + " "
			continue
		}
		whole := strings.TrimSpace(joined + trimmed)
		joined = ""
		switch {
		case whole == "":
		case whole[0] == '[':
			if whole[len(whole)-1] != ']' {
				return nil, fmt.Errorf("%s:%d: the name of a section is not closed with ]", file, first)
			}
			section = whole[1 : len(whole)-1]
		default:
			key, value, ok := strings.Cut(whole, "=")
			if !ok || section == "" {
				return nil, fmt.Errorf("%s:%d: want KEY=VALUE in a [Section]", file, first)
			}
			settings = append(settings, Setting{section, strings.TrimSpace(key), strings.TrimSpace(value), file, first})
		}
	}
	return settings, nil
}

// Unit is a service as its file and its drop-ins make it, memjail's left out.
type Unit struct {
	Name     string
	Root     string // of its system, as [Place.Root]
	File     string
	DropIns  []string // in the order in which they are read
	Settings []Setting
}

// list is a setting that adds up, as most do; an empty assignment takes back what
// came before.
func (u *Unit) list(key string) []Setting {
	var found []Setting
	for _, s := range u.Settings {
		switch {
		case s.Section != "Service" || s.Key != key:
		case s.Value == "":
			found = nil
		default:
			found = append(found, s)
		}
	}
	return found
}

// last is a setting of which the last assignment counts.
func (u *Unit) last(key string) Setting {
	if all := u.list(key); len(all) > 0 {
		return all[len(all)-1]
	}
	return Setting{}
}

// is reports whether a yes-or-no setting is yes.
func (u *Unit) is(key string) bool {
	switch strings.ToLower(u.last(key).Value) {
	case "1", "yes", "y", "true", "t", "on":
		return true
	}
	return false
}

// kind is the service's Type=, with the default that systemd.service(5) gives.
func (u *Unit) kind() string {
	switch kind := u.last("Type").Value; {
	case kind != "":
		return kind
	case u.last("BusName").Value != "":
		return "dbus"
	case len(u.list("ExecStart")) == 0:
		return "oneshot"
	}
	return "simple"
}
