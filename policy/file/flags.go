package file

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy"
)

// Overrides are the flags that change a policy, each element as the user gave it.
type Overrides struct {
	// RO, ROX, RW and RWX add paths to the policy's lists, and make [paths]
	// present: what is not listed then is closed. A path that stands in another
	// list of the policy moves. Relative ones start at the working directory, as
	// in every other command.
	RO, ROX, RW, RWX []string
	// Allow sets keys, as KEY=VALUE: "ptrace=children", "memory.access=no-write",
	// "write=comm,oom_score_adj". A list's values are separated by commas; none
	// empties it. The last part of a key is enough when only one key ends so.
	Allow []string
	// Env keeps variables (NAME; "*" at its end stands for anything), from the
	// first on only those and what the policy keeps; or sets them (NAME=VALUE).
	Env []string
	// Memory sets memory.access; empty leaves it.
	Memory string
	// Devices adds device nodes; it does not make [paths] present.
	Devices []string
}

// Apply returns p changed by the flags; p itself stays as it is. The error is
// [Errors] with all that is wrong; each names its flag.
func (o Overrides) Apply(p policy.Policy) (policy.Policy, error) {
	p = p.Clone()
	b := &builder{policy: &p}
	b.flagMemory(o)
	b.flagPaths(o)
	b.flagDevices(o.Devices)
	b.flagEnv(o.Env)
	if len(b.errs) > 0 {
		return policy.Policy{}, b.errs
	}
	return p, nil
}

// setting is one KEY=VALUE of the flags.
type setting struct {
	flag  string
	value value
}

// flagMemory applies --memory and --allow.
func (b *builder) flagMemory(o Overrides) {
	given := map[*key]setting{}
	if o.Memory != "" {
		k := findKey("memory.access")
		b.flagSet(given, k, "--memory "+o.Memory, o.Memory)
	}
	for _, arg := range o.Allow {
		b.flag, b.inList = "--allow "+arg, false
		name, text, ok := strings.Cut(arg, "=")
		if !ok {
			b.wrong(value{}, "want KEY=VALUE, such as ptrace=children")
			continue
		}
		if k := b.allowKey(name); k != nil {
			b.flagSet(given, k, b.flag, text)
		}
	}
	b.finishFlags(given)
}

// allowKey finds the key that --allow means, or says why there is none.
func (b *builder) allowKey(name string) *key {
	found := findKey(name)
	if found == nil {
		var names []string
		for _, k := range keys {
			if strings.HasSuffix(k.name, "."+name) {
				found, names = k, append(names, k.name)
			}
		}
		if len(names) > 1 {
			b.wrong(value{}, "%q is the end of several keys: want %s", name, oneOf(names))
			return nil
		}
	}
	if found == nil {
		b.wrong(value{}, "unknown key %q%s", name, didYouMean(name, keyNames()))
		return nil
	}
	if found.flag != "" {
		b.wrong(value{}, "%s is set by %s", found.name, found.flag)
		return nil
	}
	return found
}

func (b *builder) flagSet(given map[*key]setting, k *key, flag, text string) {
	b.key, b.flag, b.inList = k, flag, false
	if before, ok := given[k]; ok && before.value.text != text {
		b.wrong(value{}, "contradicts %s", before.flag)
		return
	}
	v := value{shape: k.shape, text: text}
	if k.shape == shapeArray && text != "" {
		b.inList = true
		for item := range strings.SplitSeq(text, ",") {
			v.items = append(v.items, value{shape: shapeString, text: item})
		}
	}
	given[k] = setting{flag, v}
	k.set(b, v)
}

// finishFlags sees to what no setting can judge alone.
func (b *builder) finishFlags(given map[*key]setting) {
	b.inList = false
	for _, k := range keys {
		s, ok := given[k]
		if !ok {
			continue
		}
		b.key, b.flag = k, s.flag
		switch k.name {
		case "procfs.processes", "procfs.write", "procfs.system":
			b.checkProcfs(s.value)
		case "memory.access":
			if _, ok := given[findKey("procfs.system")]; !ok {
				b.checkSystem(s.value)
			}
		}
	}
}

// flagPaths applies --ro, --rox, --rw and --rwx.
func (b *builder) flagPaths(o Overrides) {
	p := &b.policy.Paths
	lists := []struct {
		flag   string
		args   []string
		target *[]string
	}{{"--ro", o.RO, &p.RO}, {"--rox", o.ROX, &p.ROX}, {"--rw", o.RW, &p.RW}, {"--rwx", o.RWX, &p.RWX}}

	given := map[string]string{} // path → flag
	for _, list := range lists {
		for _, arg := range list.args {
			b.flag, b.inList = list.flag+" "+arg, false
			clean, ok := b.flagPath(arg)
			if !ok {
				continue
			}
			if other, ok := given[clean]; ok && other != list.flag {
				b.wrong(value{}, "the path is given by %s too: give it once, with the rights that it needs", other)
				continue
			}
			given[clean] = list.flag
			for _, other := range lists {
				*other.target = slices.DeleteFunc(*other.target, func(s string) bool { return s == clean })
			}
			*list.target = sortedSet(append(*list.target, clean))
			p.Present = true
		}
	}
}

func (b *builder) flagDevices(args []string) {
	for _, arg := range args {
		b.flag, b.inList = "--device "+arg, false
		if clean, ok := b.flagPath(arg); ok {
			b.policy.Devices = sortedSet(append(b.policy.Devices, clean))
		}
	}
}

// flagPath makes a path that was given on the command line absolute. A leading
// ".." is taken from where the working directory really is, as the kernel does,
// and not from the spelling that a shell keeps in $PWD.
func (b *builder) flagPath(arg string) (clean string, ok bool) {
	abs := arg
	if arg != "" && arg[0] != '/' && arg[0] != '~' {
		dir, err := os.Getwd()
		if err == nil {
			dir, err = filepath.EvalSymlinks(dir)
		}
		if err != nil {
			b.wrong(value{}, "the working directory, where the path starts, cannot be told: %v", cause(err))
			return "", false
		}
		rest := arg
		for rest == ".." || strings.HasPrefix(rest, "../") {
			dir, rest = filepath.Dir(dir), strings.TrimLeft(strings.TrimPrefix(rest, ".."), "/")
		}
		abs = dir + "/" + rest
	}
	clean, reason := cleanPath(abs)
	if reason != "" {
		b.wrong(value{}, "%s", reason)
		return "", false
	}
	return clean, true
}

func (b *builder) flagEnv(args []string) {
	env := &b.policy.Environment
	for _, arg := range args {
		name, text, ok := strings.Cut(arg, "=")
		b.flag, b.inList = "--env "+name, false // the value may be a secret
		if ok {
			b.variable(field{name: name, value: value{shape: shapeString, text: text}})
			continue
		}
		before := env.Keep
		b.environmentKeep(value{shape: shapeArray, items: []value{{shape: shapeString, text: arg}}})
		env.Keep = sortedSet(append(before, env.Keep...))
	}
}
