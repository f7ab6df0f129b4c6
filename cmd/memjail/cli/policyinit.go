package cli

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/file"
	"github.com/spf13/cobra"
)

// initOptions are the flags of policy init.
type initOptions struct {
	extends []string
	output  string
}

func newPolicyInit(io streams) *cobra.Command {
	o := &initOptions{}
	cmd := &cobra.Command{
		Use:   "init [NAME] [flags]",
		Short: "Write a commented policy to start from",
		Long: `init writes a policy that extends another one, with comments and examples of what
policies usually add. With NAME it is a file in the user's directory of policies
(~/.config/memjail/policies), and "memjail run -p NAME" uses it. Without NAME and -o the
policy goes to standard output. A file that exists is left as it is.`,
		Example: `  memjail policy init work
  memjail policy init --extends build -o ci.toml`,
		Args: wantArgs(0, 1),
		RunE: func(_ *cobra.Command, args []string) error { return misused(o.run(args, io)) },
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.extends, "extends", []string{"workspace"}, "start from `POLICY`; may be repeated")
	f.Lookup("extends").DefValue = "workspace"
	f.StringVarP(&o.output, "output", "o", "", "write the policy to `FILE`")
	return cmd
}

func (o *initOptions) run(args []string, io streams) error {
	loader := file.Current()
	name, path := "my policy", o.output
	switch {
	case len(args) > 0 && path != "":
		return misusedf("NAME and -o cannot be used together")
	case len(args) > 0:
		name = args[0]
		if !file.IsName(name) || name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' }) {
			return misusedf("%q is not a name for a policy; -o writes a file", name)
		}
		var err error
		if path, err = loader.NewNamed(name); err != nil {
			return err
		}
	case path != "":
		name = strings.TrimSuffix(filepath.Base(path), ".toml")
	}
	text := file.Template(name, o.extends)
	// The names in extends may be wrong, and a file is read from the directory of the new one.
	loader.Untested = true
	if _, err := loader.Parse(cmp.Or(path, name), text, file.Default()); err != nil {
		return err
	}
	if path == "" {
		_, err := io.out.Write(text)
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("writing the policy: %w", err)
	}
	if _, err := f.Write(text); err != nil {
		f.Close()
		return fmt.Errorf("writing the policy: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("writing the policy: %w", err)
	}
	use := withSlash(path)
	if len(args) > 0 {
		use = name
	}
	fmt.Fprintf(io.err, "memjail: wrote %s; next: memjail run -p %s -- CMD\n", policy.ShellWord(path),
		policy.ShellWord(use))
	return nil
}
