package systemd

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
)

// State is what there is of a unit's drop-in.
type State int

const (
	Unwrapped State = iota
	Wrapped
	// Outdated: the unit's own ExecStart= has changed since.
	Outdated
	// Foreign: the file was not written by memjail.
	Foreign
	// Overridden: a drop-in that is read later sets ExecStart= again.
	Overridden
)

var stateNames = map[State]string{Unwrapped: "unwrapped", Wrapped: "wrapped", Outdated: "outdated",
	Foreign: "foreign", Overridden: "overridden"}

func (s State) String() string { return stateNames[s] }

// Wrapper returns the drop-in of memjail that systemd reads for a unit, "" if there is none:
// the unit's own, or that of its template, of a beginning of its name ("foo-.service.d") or of
// one of its aliases.
func (p Place) Wrapper(unit string) (string, error) {
	files, err := p.dropInFiles(unit)
	return files[dropInName], err
}

// State compares a unit with the drop-in of memjail that systemd reads for it.
func (p Place) State(u *Unit) (State, error) {
	file, err := p.Wrapper(u.Name)
	if err != nil || file == "" {
		return Unwrapped, err
	}
	text, err := readOurs(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return Unwrapped, nil
	case errors.Is(err, errForeign):
		return Foreign, nil
	case err != nil:
		return Unwrapped, err
	}
	if u.overrides().Key != "" {
		return Overridden, nil
	}
	settings, err := parse(file, text)
	if err != nil {
		return Outdated, err
	}
	had, err := (&Unit{Settings: settings}).commands()
	if err != nil {
		return Outdated, err
	}
	has, err := u.commands()
	if err != nil {
		return Outdated, err
	}
	if slices.EqualFunc(had, has, func(wrapped, c command) bool { return wrapped.unwrap().String() == c.String() }) {
		return Wrapped, nil
	}
	return Outdated, nil
}

// overrides returns the ExecStart= of a drop-in that is read after memjail's, so that its
// command starts without memjail, or beside it.
func (u *Unit) overrides() Setting {
	for _, s := range u.Settings {
		if s.Section == "Service" && s.Key == "ExecStart" && s.File != u.File &&
			filepath.Base(s.File) > dropInName {
			return s
		}
	}
	return Setting{}
}

// WrapperFlags returns the flags of "memjail exec" that a drop-in of memjail has, as they
// were given to "memjail systemd drop-in" or taken from the unit. Errors: those of reading
// the file.
func WrapperFlags(file string) ([]string, error) {
	text, err := readOurs(file)
	if err != nil {
		return nil, err
	}
	settings, err := parse(file, text)
	if err != nil {
		return nil, err
	}
	commands, err := (&Unit{Settings: settings}).commands()
	if err != nil || len(commands) == 0 {
		return nil, err
	}
	args := commands[0].args
	end := slices.Index(args, "--")
	if end < 1 { // args[0] is "exec"
		return nil, nil
	}
	return args[1:end], nil
}
