package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Template returns a policy to start from: a file that extends others and has commented
// lines for what policies usually add. name is what it is called.
func Template(name string, extends []string) []byte {
	return fmt.Appendf(nil, templateText, name, strings.Join(extends, "+"),
		tomlStrings(extends))
}

const templateText = `# %s: %s, and what is added here
#
# What the keys mean: https://github.com/memjail/memjail/blob/main/docs/policy.md
#
#   memjail policy show FILE             what it comes to, and which line sets what
#   memjail policy explain FILE --write ~/.ssh
#   memjail policy lint FILE             probable mistakes
#   memjail verify FILE                  all of it, and the tests below, for CI
#   memjail learn -- CMD                 what a program needs
#:schema ` + SchemaID + `

version = 1

# The layers below, by name ("memjail policy list") or file. This file changes only the keys
# that it has: its lists add to theirs, and an empty list empties theirs.
extends = %s

# Paths. A directory stands for everything below it; "?" in front: it may be missing.
# ${HOME}, ${PWD}, ${env:NAME} are variables. Careful: under "memory", which has no rules on
# paths, the first of these lists closes all other paths.
#[paths]
#ro  = ["?~/data"]               # read
#rox = ["?/opt/tool"]            # read and execute
#rw  = ["?~/.local/state/app"]   # read, write, create, remove
#rwx = []                        # all of these

# Ports and sockets. A list allows what it has and nothing else; [] is none.
#[network]
#connect-tcp = [443]
#bind-tcp    = []

# Variables that are set, and those that are dropped; "!" lets one through.
#[environment]
#set  = { CI = "1" }
#drop = ["*_TOKEN", "!MY_TOKEN"]

#[limits]
#nofile = 1024

# What this policy claims. "memjail verify" tries each, inside and, as the control, outside.
[[test]]
name   = "memory stays closed"
access = "read"
path   = "/proc/self/mem"
expect = "deny"
`

// NewNamed returns the path of a new policy with a name in the user's directory, which is made
// if it is missing. The error wraps [fs.ErrExist] if there is a policy with that name.
func (l Loader) NewNamed(name string) (string, error) {
	for _, n := range l.Named() {
		if n.Name == name {
			return "", fmt.Errorf("policy %q: %w: want another name", name, fs.ErrExist)
		}
	}
	dir := l.directories()[0]
	if dir == SystemPolicies {
		return "", fmt.Errorf("policy %q: HOME is not set: give the path of a file", name)
	}
	above := dir
	for {
		_, err := trustedPath(above)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || above == "/" {
			return "", fmt.Errorf("policy %q: %w", name, cause(err))
		}
		above = filepath.Dir(above)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("policy %q: %w", name, err)
	}
	return filepath.Join(dir, name+suffix), nil
}
