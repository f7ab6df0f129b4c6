package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/memjail/memjail/policy/file"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagMistake describes a wrong flag of a command, with the one that was probably meant, and
// where its flags are listed.
func flagMistake(cmd *cobra.Command, err error) string {
	var unknown *pflag.NotExistError
	suggestion := ""
	if errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() == "" {
		suggestion = likelyFlag(cmd, unknown.GetSpecifiedName())
	}
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		want := map[string]string{"bool": "true or false", "int": "a whole number",
			"duration": "a time with its unit, such as 5s"}[invalid.GetFlag().Value.Type()]
		if want != "" {
			return fmt.Sprintf("--%s %s: want %s", invalid.GetFlag().Name, invalid.GetValue(), want)
		}
	}
	return fmt.Sprintf("%v%s; see \"%s --help\"", err, suggestion, cmd.CommandPath())
}

// otherNames are what other launchers call some flags.
var otherNames = map[string]string{"readonly": "ro", "read-only": "ro", "ro-bind": "ro", "bind": "rw",
	"read-write": "rw",
	"writable":   "rw", "dev": "device", "net": "network", "seccomp": "allow", "clean-env": "env",
	"unset-env": "drop-env"}

func likelyFlag(cmd *cobra.Command, name string) string {
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			known = append(known, "--"+f.Name)
		}
	})
	if other := otherNames[name]; other != "" && cmd.Flags().Lookup(other) != nil {
		return fmt.Sprintf(" (did you mean %q?)", "--"+other)
	}
	return file.DidYouMean("--"+name, known)
}

// likelyCommand is the end of a message about an unknown command.
func likelyCommand(cmd *cobra.Command, name string) string {
	cmd.SuggestionsMinimumDistance = 2
	var quoted []string
	for _, s := range cmd.SuggestionsFor(name) {
		quoted = append(quoted, fmt.Sprintf("%q", cmd.CommandPath()+" "+s))
	}
	if len(quoted) == 0 {
		return ""
	}
	return ": did you mean " + strings.Join(quoted, " or ") + "?"
}

// unknownCommand refuses all arguments of a command that only has commands of its own.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	likely := likelyCommand(cmd, args[0])
	if likely == "" {
		likely = fmt.Sprintf("; see \"%s --help\"", cmd.CommandPath())
	}
	return misusedf("%s: unknown command %q%s", cmd.Name(), args[0], likely)
}

// wantArgs refuses another number of arguments than these.
func wantArgs(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= most {
			return nil
		}
		want := fmt.Sprint(least)
		if most != least {
			want = fmt.Sprintf("%d to %d", least, most)
		}
		if most == 0 {
			want = "no"
		}
		plural := "s"
		if most == 1 {
			plural = ""
		}
		return misusedf("%s needs %s argument%s, and %d were given: %s", cmd.CommandPath(), want, plural, len(args),
			cmd.UseLine())
	}
}
