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
		Short: "Drop the memory capability and execute a command, without a sandbox",
		Long: `drop drops the memory capability for life, for CMD and everything that it starts, and
executes CMD in its own place. There is no Landlock domain, no supervisor, and one
seccomp rule, for process_vm_readv and process_vm_writev. The capability must be
installed (memjail capability install).

no_new_privs is set, so set-uid programs run without the file's rights. As root, drop
also drops the Linux capabilities that give access to memory (CAP_SYS_ADMIN, CAP_BPF,
CAP_SYS_MODULE and others).`,
		Example: `  memjail drop -- python3 server.py
  ExecStart=memjail drop -- /usr/sbin/daemon`,
		DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error {
			return drop(args, env, keepCapabilities, io)
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().BoolVar(&keepCapabilities, "keep-capabilities", false,
		"keep root's Linux capabilities, some of which give access to memory nevertheless")
	return cmd
}

// drop is the run function of drop.
func drop(args, env []string, keepCapabilities bool, io streams) error {
	if len(args) == 0 {
		return usagef("no command; use \"memjail drop -- CMD\"")
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
		fmt.Fprintln(io.err, "memjail: warning: root keeps its Linux capabilities, and some of them "+
			"give access to all memory")
	}
	return become()
}
