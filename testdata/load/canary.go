package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
)

const (
	canaryRole = "canary"
	canaryHeld = "the canary is as it was\n"
	canarySize = 1 << 20
)

// canary fills memory with a pattern, runs a command, and looks whether the pattern is still
// there. Its status is the command's.
func canary(argv []string) int {
	pattern := func(seed uint64, check []byte) bool {
		random := rand.NewPCG(seed, 1)
		same := true
		for i := range check {
			b := byte(random.Uint64())
			same = same && check[i] == b
			check[i] = b
		}
		return same
	}
	memory, seed := make([]byte, canarySize), rand.Uint64()
	pattern(seed, memory)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stderr, os.Stderr
	err := cmd.Run()
	if !pattern(seed, memory) {
		fmt.Println("THE CANARY HAS CHANGED")
		return 99
	}
	fmt.Print(canaryHeld)
	if cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, err)
		return 127
	}
	return cmd.ProcessState.ExitCode()
}
