// Hooks attaches BPF LSM programs that allow everything to a hook, and runs a command
// while they are there: what is installed meanwhile has to share the hook with them.
//
//	hooks HOOK COUNT COMMAND [ARGUMENT...]
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/memjail/memjail/sandbox/kernel"
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: hooks HOOK COUNT COMMAND [ARGUMENT...]")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			os.Exit(exit.ExitCode())
		}
		fmt.Fprintf(os.Stderr, "hooks: %v\n", err)
		os.Exit(125)
	}
}

func run(hook, count string, command []string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	for i := range n {
		program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Name: "allow", Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: hook, License: "GPL",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
		})
		if err != nil {
			return fmt.Errorf("loading program %d: %w", i+1, err)
		}
		defer program.Close()
		link, err := kernel.AttachLSM(program.FD())
		if err != nil {
			return fmt.Errorf("attaching program %d: %w", i+1, err)
		}
		defer link.Close()
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}
