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
	overrides file.Overrides
}

func (p *policyFlags) declare(f *pflag.FlagSet) {
	p.declarePolicy(f, "use `POLICY`: a name (policy list), or a file (a path with a slash or ending in .toml); "+
		"several are layers, each on top of the one before")
	f.StringArrayVar(&p.overrides.LS, "ls", nil, "allow listing directories below `PATH`, but not reading files")
	f.StringArrayVar(&p.overrides.RO, "ro", nil, "allow reading below `PATH`; with a '?' in front it may be missing")
	f.StringArrayVar(&p.overrides.ROX, "rox", nil, "allow reading and executing below `PATH`")
	f.StringArrayVar(&p.overrides.RW, "rw", nil, "allow reading and writing below `PATH`")
	f.StringArrayVar(&p.overrides.RWX, "rwx", nil, "allow reading, writing and executing below `PATH`")
	f.StringVar(&p.overrides.View, "view", "",
		"`WHICH` files exist: shared (all, the default), private (those that path rules grant), auto")
	f.StringVar(&p.overrides.Tmp, "tmp", "", "`WHICH` /tmp: shared (the default) or private (an empty one)")
	f.BoolVar(&p.overrides.PrivateHome, "private-home", false,
		"an empty home directory, with the project and the tool chains of the real one")
	f.StringArrayVar(&p.overrides.Deny, "deny", nil, "close `PATH`, and what is below it, whatever else allows it")
	f.StringVar(&p.overrides.Memory, "memory", "",
		"`MODE` of access to any process's memory: deny (the default), no-write or allow")
	f.StringArrayVar(&p.overrides.Allow, "allow", nil,
		"set a policy key, as `KEY=VALUE`: ptrace=children, code-files=allow, ...")
	f.StringArrayVar(&p.overrides.Devices, "device", nil, "allow the device node `PATH`")
	f.StringArrayVar(&p.overrides.Network, "network", nil,
		"allow only sockets of the address `FAMILY` (inet, inet6, unix, netlink, ...); several with commas, or none")
	f.StringArrayVar(&p.overrides.ConnectTCP, "connect-tcp", nil,
		"allow TCP connections only to `PORT`; several with commas, or none")
	f.StringArrayVar(&p.overrides.ConnectUDP, "connect-udp", nil,
		"allow UDP datagrams only to `PORT`; several with commas, or none")
	f.StringArrayVar(&p.overrides.BindUDP, "bind-udp", nil,
		"allow UDP sockets only the local `PORT`, 0 for any free port; several with commas, or none")
	f.StringArrayVar(&p.overrides.BindTCP, "bind-tcp", nil,
		"allow TCP sockets to bind only `PORT`; several with commas, or none")
	f.StringArrayVar(&p.overrides.Unix, "unix", nil,
		"allow only UNIX sockets at `PATH`, or own (those made inside), none, or all")
	f.StringArrayVar(&p.overrides.Env, "env", nil,
		"`NAME` keeps only the variables with these names, NAME=VALUE sets one")
	f.StringArrayVar(&p.overrides.DropEnv, "drop-env", nil,
		"drop variables whose names fit `PATTERN` (*_TOKEN); with a '!' in front let them through, or none")
}

// declarePolicy declares the flag that names policies.
func (p *policyFlags) declarePolicy(f *pflag.FlagSet, usage string) {
	f.StringArrayVarP(&p.policies, "policy", "p", []string{file.DefaultName}, usage)
	f.Lookup("policy").DefValue = file.DefaultName // help prints a list in brackets
}

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
