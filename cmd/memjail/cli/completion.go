package cli

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/memjail/memjail/cmd/memjail/systemd"
	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/file"
	"github.com/memjail/memjail/sandbox/probe/attempts"
	"github.com/memjail/memjail/sandbox/verify"
	"github.com/spf13/cobra"
)

// completions has what a shell cannot complete by itself, by the names of flags.
func completions() map[string]cobra.CompletionFunc {
	all := map[string]cobra.CompletionFunc{
		"policy": completePolicy, "extends": completePolicy,
		"allow": completeAllow, "call": oneOf(policy.CallNames), "only": oneOf(attemptNames),
		"explain": oneOf(attemptNames), "env": oneOf(variableNames), "drop-env": oneOf(variableNames),
		"network": listed(append(valuesOf("network.families"), "none")),
		"unix":    orFiles("own", "none", "all"), "log": orFiles(journalLog),
		"log-format": fixed("text", "json"), "format": fixed(append(verifyNames(), "html")...),
		"state":  listed(systemd.EntryStates),
		"report": fixed(valuesOf("report.denials")...), "memory": fixed(valuesOf("memory.access")...),
		"view": fixed(valuesOf("paths.view")...), "tmp": fixed(valuesOf("paths.tmp")...),
		"program": completeCommand,
	}
	for _, flag := range []string{"ls", "ro", "rox", "rw", "rwx", "deny", "device"} {
		all[flag] = completePath
	}
	for _, flag := range []string{"connect-tcp", "bind-tcp", "connect-udp", "bind-udp"} {
		all[flag] = fixed("none")
	}
	return all
}

// arguments complete the arguments of commands, by their full names.
var arguments = map[string]cobra.CompletionFunc{
	"memjail run": completeCommand, "memjail exec": completeCommand, "memjail learn": completeCommand,
	"memjail drop": completeCommand, "memjail pin": completeCommand,
	"memjail verify": completePolicy, "memjail policy show": completePolicy, "memjail policy explain": completePolicy,
	"memjail policy lint": completePolicy, "memjail policy diff": completePolicy,
	"memjail policy export":   completePolicy,
	"memjail systemd drop-in": completeUnit, "memjail systemd check": completeUnit,
	"memjail systemd remove": completeUnit,
	"memjail systemd learn":  completeUnit, "memjail systemd list": completeUnit,
	"memjail systemd status": completeUnit, "memjail systemd apply": completeUnit,
}

// addCompletions adds what completes the flags and arguments of a command and all below it.
func addCompletions(cmd *cobra.Command, flags map[string]cobra.CompletionFunc) {
	for flag, complete := range flags {
		if cmd.Flags().Lookup(flag) != nil {
			// The only errors are an unknown flag, and one with a function already.
			_ = cmd.RegisterFlagCompletionFunc(flag, complete)
		}
	}
	if complete := arguments[cmd.CommandPath()]; complete != nil {
		cmd.ValidArgsFunction = complete
	}
	for _, sub := range cmd.Commands() {
		addCompletions(sub, flags)
	}
}

// oneOf completes from names that are made when they are needed.
func oneOf(names func() []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		return beginning(names(), word), cobra.ShellCompDirectiveNoFileComp
	}
}

func fixed(names ...string) cobra.CompletionFunc {
	return oneOf(func() []string { return names })
}

// listed completes names with commas between them.
func listed(names []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		return afterComma(names, word), cobra.ShellCompDirectiveNoFileComp
	}
}

// orFiles completes names, and leaves files to the shell.
func orFiles(names ...string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		return beginning(names, word), cobra.ShellCompDirectiveDefault
	}
}

func beginning(names []string, word string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !strings.HasPrefix(name, word) })
}

// afterComma completes the last of several names.
func afterComma(names []string, word string) []string {
	done := word[:strings.LastIndexByte(word, ',')+1]
	found := beginning(names, word[len(done):])
	for i := range found {
		found[i] = done + found[i]
	}
	return found
}

func valuesOf(key string) []string {
	for _, k := range file.Keys() {
		if k.Name == key {
			return k.Values
		}
	}
	return nil
}

func verifyNames() []string {
	var names []string
	for _, f := range verify.Formats() {
		names = append(names, string(f))
	}
	return names
}

func attemptNames() []string {
	var names []string
	for _, a := range attempts.All() {
		names = append(names, a.Name())
	}
	return names
}

func variableNames() []string {
	var names []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// completeAllow completes KEY=VALUE: keys by their last part, or in full after a dot.
func completeAllow(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	key, value, hasValue := strings.Cut(word, "=")
	var found []string
	for _, k := range file.Keys() {
		last := k.Name[strings.LastIndexByte(k.Name, '.')+1:]
		switch {
		case k.Flag != "":
		case hasValue && (k.Name == key || last == key):
			for _, v := range afterComma(k.Values, value) {
				found = append(found, key+"="+v)
			}
			return found, cobra.ShellCompDirectiveNoFileComp
		case hasValue:
		case strings.HasPrefix(k.Name, word) && strings.Contains(word, "."):
			found = append(found, cobra.CompletionWithDesc(k.Name+"=", k.About))
		case strings.HasPrefix(last, word):
			found = append(found, cobra.CompletionWithDesc(last+"=", k.About))
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// completeCommand completes programs in PATH and files, and after the program only files.
func completeCommand(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || strings.Contains(word, "/") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var found []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if info, err := os.Stat(filepath.Join(dir, e.Name())); strings.HasPrefix(e.Name(), word) && err == nil &&
				info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				found = append(found, e.Name())
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found), cobra.ShellCompDirectiveDefault
}

// manyUnits are the commands that take several units.
var manyUnits = []string{"drop-in", "list", "status", "apply"}

// completeUnit completes the services of systemd.
func completeUnit(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 && !slices.Contains(manyUnits, cmd.Name()) {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	o := &unitOptions{}
	o.findPlace(os.Environ())
	o.place.User, _ = cmd.Flags().GetBool("user")
	o.place.Root, _ = cmd.Flags().GetString("root")
	names := slices.Concat(o.place.Services(), o.place.Instances(), o.loaded())
	slices.Sort(names)
	names = slices.DeleteFunc(slices.Compact(names), func(name string) bool { return slices.Contains(args, name) })
	return beginning(names, word), cobra.ShellCompDirectiveNoFileComp
}

// completePolicy completes the names of policies, and leaves files to the shell.
func completePolicy(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, p := range file.Current().Named() {
		if strings.HasPrefix(p.Name, word) && p.Unusable == "" {
			names = append(names, cobra.CompletionWithDesc(p.Name, p.Text))
		}
	}
	return names, cobra.ShellCompDirectiveDefault
}

// completePath completes paths after a "?", and leaves all others to the shell.
func completePath(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	path, optional := strings.CutPrefix(word, file.OptionalMark)
	if !optional {
		return nil, cobra.ShellCompDirectiveDefault
	}
	dir, start := filepath.Split(path)
	entries, err := os.ReadDir(cmp.Or(dir, "."))
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var found []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), start) {
			continue
		}
		name := file.OptionalMark + dir + e.Name()
		if info, err := os.Stat(dir + e.Name()); err == nil && info.IsDir() {
			name += "/"
		}
		found = append(found, name)
	}
	return found, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
}
