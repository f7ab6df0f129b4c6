package cli

import (
	"fmt"

	"github.com/memjail/memjail/sandbox"
	"github.com/spf13/cobra"
)

func newPin(env []string, io streams) *cobra.Command {
	var p policyFlags
	cmd := &cobra.Command{
		Use:   "pin [flags] CMD",
		Short: "Write the checksums of a program and of what it needs, for --pin-hash",
		Long: `pin writes the SHA-256 sums of CMD, of its interpreter and of the libraries that the
loader maps for it, one line per file, as sha256sum does. "memjail run --pin-hash FILE"
then starts CMD only if all of them are still the same, and runs it from a copy.

What CMD loads by itself later, and other programs that it starts, are not among
them. The environment counts (LD_LIBRARY_PATH, PATH), as the policy leaves it.`,
		Example: `  memjail pin /usr/sbin/svc > svc.sha256
  memjail run --pin-hash svc.sha256 -- /usr/sbin/svc`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("want one program; try \"memjail pin CMD\", without its arguments")
			}
			return nil
		},
		DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error {
			pol, err := p.load()
			if err != nil {
				return err
			}
			sums, err := sandbox.PinSums(pol, args[0], env)
			if err != nil {
				return err
			}
			if err := sums.Write(io.out); err != nil {
				return fmt.Errorf("writing the checksums: %w", err)
			}
			return nil
		},
	}
	f := cmd.Flags()
	p.declarePolicy(f, "`POLICY` whose environment CMD gets")
	f.StringArrayVar(&p.overrides.Env, "env", nil,
		"`NAME` keeps only the variables with these names, NAME=VALUE sets one")
	return cmd
}
