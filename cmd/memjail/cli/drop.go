package cli

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/capability"
	"github.com/spf13/cobra"
)

func newDrop(env []string, io streams) *cobra.Command {
	var keepCapabilities bool
	cmd := &cobra.Command{
		Use:   "drop -- CMD [ARGS]",
		Short: "Drop the memory capability and nothing else, and become a program",
		Long: `drop gives up memory access for CMD and all that it starts, for life, and becomes it:
no Landlock domain, no supervisor, and no filter but one for process_vm_readv and
process_vm_writev. It needs the memory capability (memjail capability install).

no_new_privs is set, so set-uid programs run as ordinary ones. As root, Linux
capabilities that reach memory otherwise (CAP_SYS_ADMIN, CAP_BPF, CAP_SYS_MODULE and
the like) are dropped as well.`,
		Example: `  memjail drop -- python3 server.py
  ExecStart=memjail drop -- /usr/sbin/daemon`,
		DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error {
			return drop(args, env, keepCapabilities, io)
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().BoolVar(&keepCapabilities, "keep-capabilities", false, "let root keep the capabilities by which memory is reached all the same")
	return cmd
}

// drop is the run function of drop.
func drop(args, env []string, keepCapabilities bool, io streams) error {
	if len(args) == 0 {
		return usagef("no command was given; try \"memjail drop -- CMD\"")
	}
	runtime.LockOSThread()
	become, err := sandbox.PrepareDrop(args, env, keepCapabilities)
	if err != nil {
		return err
	}
	if err := capability.Drop(); err != nil {
		if errors.Is(err, capability.ErrNotInstalled) {
			return fmt.Errorf("%w (as root: memjail capability install)", err)
		}
		return err
	}
	if keepCapabilities && os.Geteuid() == 0 {
		fmt.Fprintln(io.err, "memjail: warning: root keeps its capabilities, by some of which every memory is reached")
	}
	return become()
}
