// Hooks attaches BPF LSM programs that allow everything to a hook, as many as the kernel
// takes, detaches FREE of them, and runs a command: what that installs has to share the hook.
//
//	hooks HOOK FREE COMMAND [ARGUMENT...]
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
	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: hooks HOOK FREE COMMAND [ARGUMENT...]")
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

func run(hook, free string, command []string) error {
	n, err := strconv.Atoi(free)
	if err != nil {
		return err
	}
	var links []*os.File
	for {
		program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Name: "allow", Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: hook, License: "GPL",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
		})
		if err != nil {
			return fmt.Errorf("loading program %d: %w", len(links)+1, err)
		}
		defer program.Close()
		link, err := kernel.AttachLSM(program.FD())
		if errors.Is(err, unix.E2BIG) && len(links) > n {
			break
		}
		if err != nil {
			return fmt.Errorf("attaching program %d: %w", len(links)+1, err)
		}
		defer link.Close()
		links = append(links, link)
	}
	for _, link := range links[:n] {
		link.Close()
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}
