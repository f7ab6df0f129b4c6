// Memjail runs a program so that nobody inside can read or write the memory of a
// running process other than with that process's own instructions.
package main

import (
	"os"
	"runtime"

	"github.com/memjail/memjail/cmd/memjail/cli"
)

// The main goroutine stays on the main thread, which is the parent that the
// kernel ties the command's life to.
func init() { runtime.LockOSThread() }

func main() {
	os.Exit(cli.Main(os.Args, os.Environ(), os.Stdout, os.Stderr))
}
