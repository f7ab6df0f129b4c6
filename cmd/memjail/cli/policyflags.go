package cli

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/file"
	"github.com/spf13/pflag"
)

// policyFlags are the flags that choose a policy, for every command that needs one.
type policyFlags struct {
	policies  []string // layers, the lowest first
	given     bool     // policies are not the default
	overrides file.Overrides
}

func (p *policyFlags) declare(f *pflag.FlagSet) {
	p.declarePolicy(f, "use `POLICY`: a name (policy list), or a file (a path with a slash or ending in .toml); "+
		"several are layers, each on top of the one before")
	list(f, &p.overrides.LS, "ls", "allow listing directories below `PATH`, but not reading files")
	list(f, &p.overrides.RO, "ro", "allow reading below `PATH`; with a '?' in front it may be missing")
	list(f, &p.overrides.ROX, "rox", "allow reading and executing below `PATH`")
	list(f, &p.overrides.RW, "rw", "allow reading and writing below `PATH`")
	list(f, &p.overrides.RWX, "rwx", "allow reading, writing and executing below `PATH`")
	f.StringVar(&p.overrides.View, "view", "",
		"`WHICH` files exist: shared (all, the default), private (those that path rules grant), auto")
	f.StringVar(&p.overrides.Tmp, "tmp", "", "`WHICH` /tmp: shared (the default) or private (an empty one)")
	f.BoolVar(&p.overrides.PrivateHome, "private-home", false,
		"an empty home directory, with the project and the tool chains of the real one")
	list(f, &p.overrides.Deny, "deny", "close `PATH`, and what is below it, whatever else allows it")
	f.StringVar(&p.overrides.Memory, "memory", "",
		"`MODE` of access to any process's memory: deny (the default), no-write or allow")
	list(f, &p.overrides.Allow, "allow",
		"set a policy key, as `KEY=VALUE`: ptrace=children, code-files=allow, ...")
	list(f, &p.overrides.Devices, "device", "allow the device node `PATH`")
	list(f, &p.overrides.Network, "network",
		"allow only sockets of the address `FAMILY` (inet, inet6, unix, netlink, ...); several with commas, or none")
	list(f, &p.overrides.ConnectTCP, "connect-tcp",
		"allow TCP connections only to `PORT`; several with commas, or none")
	list(f, &p.overrides.ConnectUDP, "connect-udp",
		"allow UDP datagrams only to `PORT`; several with commas, or none")
	list(f, &p.overrides.BindUDP, "bind-udp",
		"allow UDP sockets only the local `PORT`, 0 for any free port; several with commas, or none")
	list(f, &p.overrides.BindTCP, "bind-tcp",
		"allow TCP sockets to bind only `PORT`; several with commas, or none")
	list(f, &p.overrides.Unix, "unix",
		"allow only UNIX sockets at `PATH`, or own (those made inside), none, or all")
	list(f, &p.overrides.Env, "env",
		"`NAME` keeps only the variables with these names, NAME=VALUE sets one")
	list(f, &p.overrides.DropEnv, "drop-env",
		"drop variables whose names fit `PATTERN` (*_TOKEN); with a '!' in front let them through, or none")
}

// list declares a flag that may be repeated and takes one value each time.
func list(f *pflag.FlagSet, values *[]string, name, usage string) {
	f.Var((*listFlag)(values), name, usage)
}

// listFlag is an empty list at first. Those of pflag begin by writing their default as a line
// of CSV, through a buffer of 4 KiB each.
type listFlag []string

func (l *listFlag) Set(value string) error { *l = append(*l, value); return nil }
func (l *listFlag) String() string         { return strings.Join(*l, ",") }
func (*listFlag) Type() string             { return "stringArray" }

// The others make it a [pflag.SliceValue], for whoever passes flags on.

func (l *listFlag) Append(value string) error     { return l.Set(value) }
func (l *listFlag) Replace(values []string) error { *l = values; return nil }
func (l *listFlag) GetSlice() []string            { return *l }

// declarePolicy declares the flag that names policies.
func (p *policyFlags) declarePolicy(f *pflag.FlagSet, usage string) {
	p.policies = []string{file.DefaultName}
	f.VarP((*policyNames)(p), "policy", "p", usage)
}

// policyNames are the names of policies. The first that is given replaces the default.
type policyNames policyFlags

func (p *policyNames) Set(value string) error {
	if !p.given {
		p.policies, p.given = nil, true
	}
	p.policies = append(p.policies, value)
	return nil
}

func (p *policyNames) String() string { return strings.Join(p.policies, ",") }
func (*policyNames) Type() string     { return "stringArray" }

func (p *policyNames) Append(value string) error { return p.Set(value) }
func (p *policyNames) GetSlice() []string        { return p.policies }
func (p *policyNames) Replace(values []string) error {
	p.policies, p.given = values, true
	return nil
}

var _, _ pflag.SliceValue = (*listFlag)(nil), (*policyNames)(nil)

// name is what the policy is called in reports.
func (p *policyFlags) name() string { return strings.Join(p.policies, "+") }

// load returns the policy that the flags describe.
func (p *policyFlags) load() (policy.Policy, error) {
	pol, err := file.Load(p.policies...)
	if err != nil {
		return pol, err
	}
	return p.overrides.Apply(pol)
}

// lint returns the findings in the policy that the flags describe: of built-in layers only if
// there are no others, since their findings are known and whoever extends them cannot change
// them.
func (p *policyFlags) lint(pol policy.Policy, facts policy.LintFacts) ([]policy.Finding, error) {
	l := file.Current()
	l.Untested = true
	builtin, others, err := l.Builtin(p.policies...)
	if err != nil {
		return nil, err
	}
	if !others && reflect.DeepEqual(p.overrides, file.Overrides{}) {
		return policy.Lint(pol, facts), nil
	}
	return policy.LintChanges(pol, builtin, facts), nil
}

// args returns the flags as arguments for another memjail.
func (p *policyFlags) args() []string {
	var args []string
	for _, name := range p.policies {
		args = append(args, "--policy", name)
	}
	for _, list := range []struct {
		flag   string
		values []string
	}{
		{"--ls", p.overrides.LS}, {"--ro", p.overrides.RO}, {"--rox", p.overrides.ROX},
		{"--rw", p.overrides.RW}, {"--rwx", p.overrides.RWX},
		{"--allow", p.overrides.Allow}, {"--deny", p.overrides.Deny}, {"--device", p.overrides.Devices},
		{"--network", p.overrides.Network}, {"--connect-tcp", p.overrides.ConnectTCP},
		{"--bind-tcp", p.overrides.BindTCP},
		{"--connect-udp", p.overrides.ConnectUDP}, {"--bind-udp", p.overrides.BindUDP},
		{"--unix", p.overrides.Unix}, {"--env", p.overrides.Env},
		{"--drop-env", p.overrides.DropEnv},
	} {
		for _, value := range list.values {
			args = append(args, list.flag, value)
		}
	}
	for flag, value := range map[string]string{"--memory": p.overrides.Memory, "--view": p.overrides.View,
		"--tmp": p.overrides.Tmp} {
		if value != "" {
			args = append(args, flag, value)
		}
	}
	if p.overrides.PrivateHome {
		args = append(args, "--private-home")
	}
	return args
}

// absolute returns the same flags for a memjail with another working directory and another
// user's policies.
func (p *policyFlags) absolute() (*policyFlags, error) {
	q := *p
	var err error
	q.policies = slices.Clone(p.policies)
	for i, name := range q.policies {
		if q.policies[i], err = absolutePolicy(name); err != nil {
			return nil, err
		}
	}
	if q.overrides, err = p.overrides.Absolute(); err != nil {
		return nil, err
	}
	return &q, nil
}

// absolutePolicy returns the path of the file that a policy is in, or the name of a built-in
// one.
func absolutePolicy(name string) (string, error) {
	path := name
	if file.IsName(name) {
		var err error
		if path, err = file.Current().Find(name); path == "" {
			return name, err
		}
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("finding the policy %q: %w", name, err)
	}
	return path, nil
}
