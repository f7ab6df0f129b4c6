package systemd

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Place says whose units are meant.
type Place struct {
	// Root is the system's root; empty: this one.
	Root string
	// User: those of a user's own manager.
	User bool
	// Runtime: what is written is gone after the next boot.
	Runtime bool
	// Learning: the drop-in is the one by which a service is observed for a while. It is
	// read after the one that wraps the service, and is gone after the next boot.
	Learning bool
	// Trial: the drop-in is the one by which "memjail systemd apply" tries a service. It is
	// read after the one that wraps the service, and is gone after the next boot.
	Trial bool
	// Home, Config and RuntimeDir are the user's: of User only.
	Home, Config, RuntimeDir string

	aliases map[string][]string // nil: to be read
}

// dropInName is the file that memjail writes. Drop-ins are read in the order of
// their names, and what comes after could take the wrapped lines back: an
// override.conf, say, which "systemctl edit" writes.
const dropInName = "zz-memjail.conf"

// learnDropInName and trialDropInName come after dropInName.
const (
	learnDropInName = "zzz-memjail-learn.conf"
	trialDropInName = "zzz-memjail-apply.conf"
)

// isOurs reports whether a drop-in has a name that memjail uses.
func isOurs(name string) bool {
	return name == dropInName || name == learnDropInName || name == trialDropInName
}

// directories are those that are searched for units, the strongest first,
// systemd.unit(5).
func (p Place) directories() []string {
	if p.User {
		return []string{
			filepath.Join(p.Config, "systemd/user.control"), filepath.Join(p.RuntimeDir, "systemd/user.control"),
			filepath.Join(p.RuntimeDir, "systemd/transient"), filepath.Join(p.Config, "systemd/user"),
			"/etc/systemd/user",
			filepath.Join(p.RuntimeDir, "systemd/user"), "/run/systemd/user",
			filepath.Join(p.RuntimeDir, "systemd/generator"),
			filepath.Join(p.Home, ".local/share/systemd/user"), "/usr/local/share/systemd/user",
			"/usr/share/systemd/user",
			"/usr/local/lib/systemd/user", "/usr/lib/systemd/user",
		}
	}
	return []string{
		"/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient",
		"/run/systemd/generator.early",
		"/etc/systemd/system", "/etc/systemd/system.attached", "/run/systemd/system", "/run/systemd/system.attached",
		"/run/systemd/generator", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system",
		"/run/systemd/generator.late",
	}
}

// Services lists the units of services by their names, sorted.
func (p Place) Services() []string {
	var names []string
	for _, dir := range p.directories() {
		entries, err := os.ReadDir(filepath.Join(p.Root, dir))
		if err != nil {
			continue
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".service") && !e.IsDir() {
				names = append(names, e.Name())
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Instances lists the instances of templates that are to be started with another unit, by
// their names, sorted: "systemctl enable foo@bar" and generators make links for them.
func (p Place) Instances() []string {
	var names []string
	for _, dir := range p.directories() {
		for _, kind := range []string{"wants", "requires", "upholds"} {
			// The pattern is well-formed.
			links, _ := filepath.Glob(filepath.Join(p.Root, dir, "*."+kind, "*@?*.service"))
			for _, link := range links {
				names = append(names, filepath.Base(link))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// readAliases returns the other names of units, by the units' own: links beside their files.
func (p Place) readAliases() map[string][]string {
	found := map[string][]string{}
	for _, dir := range p.directories() {
		entries, err := os.ReadDir(filepath.Join(p.Root, dir))
		if err != nil {
			continue
		}
		for _, e := range entries {
			if e.Type()&fs.ModeSymlink == 0 || filepath.Ext(e.Name()) != ".service" {
				continue
			}
			target, err := os.Readlink(filepath.Join(p.Root, dir, e.Name()))
			if name := filepath.Base(target); err == nil && name != e.Name() && target != "/dev/null" &&
				!slices.Contains(found[name], e.Name()) {
				found[name] = append(found[name], e.Name())
			}
		}
	}
	return found
}

// aliasesOf returns the other names of a unit; an instance has those of its template.
func (p Place) aliasesOf(name string) []string {
	aliases := p.aliases
	if aliases == nil {
		aliases = p.readAliases()
	}
	names := slices.Clone(aliases[name])
	if template, instance := templateOf(name); instance != "" {
		for _, alias := range aliases[template] {
			if other, of := templateOf(alias); other == alias && of == "" {
				names = append(names, strings.Replace(alias, "@.", "@"+instance+".", 1))
			}
		}
	}
	return names
}

// written is the directory below which memjail writes.
func (p Place) written() string {
	switch {
	case p.User && (p.Runtime || p.Learning || p.Trial):
		return filepath.Join(p.RuntimeDir, "systemd/user")
	case p.User:
		return filepath.Join(p.Config, "systemd/user")
	case p.Runtime || p.Learning || p.Trial:
		return "/run/systemd/system"
	}
	return "/etc/systemd/system"
}

// DropIn is the file that memjail writes for a unit.
func (p Place) DropIn(unit string) string {
	name := dropInName
	switch {
	case p.Learning:
		name = learnDropInName
	case p.Trial:
		name = trialDropInName
	}
	return filepath.Join(p.Root, p.written(), unit+".d", name)
}

// Load reads a service's unit. The name may lack ".service". Errors name the file
// and the line, or say why a unit cannot be wrapped at all.
func (p Place) Load(name string) (*Unit, error) {
	if name == "" || strings.Contains(name, "/") {
		return nil, fmt.Errorf("%q: want the name of a unit, such as nginx.service", name)
	}
	if filepath.Ext(name) == "" || !isUnitType(filepath.Ext(name)) {
		name += ".service"
	}
	if filepath.Ext(name) != ".service" {
		return nil, fmt.Errorf("%s: only a service runs a program that can be wrapped", name)
	}
	fragment, name, err := p.fragment(name)
	if err != nil {
		return nil, err
	}
	u := &Unit{Name: name, Root: p.Root, File: fragment}
	if u.DropIns, err = p.dropIns(name); err != nil {
		return nil, err
	}
	for _, file := range append([]string{fragment}, u.DropIns...) {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading the unit %s: %w", name, err)
		}
		settings, err := parse(file, string(text))
		if err != nil {
			return nil, err
		}
		u.Settings = append(u.Settings, settings...)
	}
	return u, nil
}

func isUnitType(ext string) bool {
	return slices.Contains([]string{".service", ".socket", ".target", ".timer", ".path", ".mount", ".automount",
		".swap", ".device", ".slice", ".scope"}, ext)
}

// fragment finds the unit's file, and the unit's own name if this one is an alias.
func (p Place) fragment(name string) (file, real string, err error) {
	candidates := []string{name}
	template, instance := templateOf(name)
	if template != "" && instance != "" {
		candidates = append(candidates, template)
	}
	for _, candidate := range candidates {
		for _, dir := range p.directories() {
			file := filepath.Join(p.Root, dir, candidate)
			target, err := os.Readlink(file)
			switch {
			case err == nil && target == "/dev/null":
				return "", "", fmt.Errorf("%s is masked by %s: %w", name, file, errMasked)
			case err == nil && filepath.Base(target) != candidate && isUnitType(filepath.Ext(target)):
				return p.alias(name, filepath.Base(target), instance)
			}
			if _, err := os.Stat(file); err == nil {
				return file, name, nil
			} else if !errors.Is(err, fs.ErrNotExist) {
				return "", "", fmt.Errorf("looking for the unit %s: %w", name, err)
			}
		}
	}
	return "", "", &noUnitError{name, p.Root}
}

// noUnitError: there is no file of a unit.
type noUnitError struct{ name, root string }

func (e *noUnitError) Error() string {
	return fmt.Sprintf("there is no unit %s below %s/etc/systemd, /run/systemd or /usr/lib/systemd", e.name, e.root)
}

func (e *noUnitError) Is(target error) bool { return target == fs.ErrNotExist }

// alias goes on with what an alias stands for. An alias of a template keeps the
// instance.
func (p Place) alias(name, target, instance string) (string, string, error) {
	if template, of := templateOf(target); template == target && of == "" && instance != "" {
		target = strings.Replace(target, "@.", "@"+instance+".", 1)
	}
	if target == name {
		return "", "", fmt.Errorf("the unit %s is an alias of itself", name)
	}
	return p.fragment(target)
}

// templateOf splits foo@bar.service into foo@.service and bar.
func templateOf(name string) (template, instance string) {
	stem, ext := strings.TrimSuffix(name, filepath.Ext(name)), filepath.Ext(name)
	before, instance, ok := strings.Cut(stem, "@")
	if !ok {
		return "", ""
	}
	return before + "@" + ext, instance
}

// dropInFiles are the unit's drop-ins by their file names: of those with the same name the
// one in the strongest directory, and there the one of the closest name.
func (p Place) dropInFiles(name string) (map[string]string, error) {
	subs := dropInDirectories(name)
	for _, alias := range p.aliasesOf(name) {
		subs = append(subs, alias+".d")
	}
	byName := map[string]string{}
	for _, dir := range p.directories() {
		for _, sub := range subs {
			entries, err := os.ReadDir(filepath.Join(p.Root, dir, sub))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("looking for drop-ins of %s: %w", name, err)
			}
			for _, e := range entries {
				if _, seen := byName[e.Name()]; !seen && strings.HasSuffix(e.Name(), ".conf") {
					byName[e.Name()] = filepath.Join(p.Root, dir, sub, e.Name())
				}
			}
		}
	}
	return byName, nil
}

// dropIns are the unit's drop-ins, memjail's left out, in the order in which systemd
// reads them: by file name, whatever the directory.
func (p Place) dropIns(name string) ([]string, error) {
	byName, err := p.dropInFiles(name)
	if err != nil {
		return nil, err
	}
	var files []string
	for base, file := range byName {
		if target, err := os.Readlink(file); err == nil && target == "/dev/null" ||
			isOurs(base) {
			continue
		}
		files = append(files, file)
	}
	slices.SortFunc(files, func(a, b string) int { return cmp.Compare(filepath.Base(a), filepath.Base(b)) })
	return files, nil
}

// dropInDirectories are foo-bar@x.service.d, foo-bar@.service.d, foo-.service.d and
// service.d.
func dropInDirectories(name string) []string {
	dirs := []string{name + ".d"}
	stem, ext := strings.TrimSuffix(name, filepath.Ext(name)), filepath.Ext(name)
	if template, instance := templateOf(name); template != "" && instance != "" {
		dirs = append(dirs, template+".d")
		stem, _, _ = strings.Cut(stem, "@")
	}
	for i := len(stem) - 1; i > 0; i-- {
		if stem[i] == '-' && i < len(stem)-1 {
			dirs = append(dirs, stem[:i+1]+ext+".d")
		}
	}
	return append(dirs, ext[1:]+".d")
}
