package cli

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// Version is the program's version where the build says it (-ldflags='-X ...'): for
// packages, which are built from a tree without its history.
var Version string

// version returns the program's version, and behind it the commit that it was built
// from if that is known and not part of the version already. Without [Version] it is
// what the Go toolchain recorded: the tag, or the version of the module proxy.
func version() string {
	info, ok := debug.ReadBuildInfo()
	switch {
	case Version != "" && ok:
		return Version + commitOf(info, Version)
	case Version != "":
		return Version
	case ok && info.Main.Version != "" && info.Main.Version != "(devel)":
		v := strings.TrimPrefix(info.Main.Version, "v")
		return v + commitOf(info, v)
	case ok:
		return "devel" + commitOf(info, "")
	}
	return "devel"
}

// commitOf describes the commit, unless the version names it.
func commitOf(info *debug.BuildInfo, version string) string {
	var revision, modified string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = ", modified"
		}
	}
	if revision == "" || strings.Contains(version, revision) {
		return ""
	}
	return fmt.Sprintf(" (commit %s%s)", revision, modified)
}

func newVersion(io streams) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return printVersion(io) },
	}
}

func printVersion(io streams) error {
	_, err := fmt.Fprintf(io.out, "memjail %s\n%s", version(), lacks())
	return err
}
