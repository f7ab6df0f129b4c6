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
	growStack()
	os.Exit(cli.Main(os.Args, os.Environ(), os.Stdout, os.Stderr))
}

// growStack has the runtime make this goroutine's stack as large as a start needs while there
// is nothing on it. Otherwise it would be made twice as large several times, on the way, and
// copied with the frames of everything that has been called by then.
//
//go:noinline
func growStack() byte {
	var room [20 << 10]byte
	return room[len(os.Args)%len(room)] // of unknown value, so that the compiler keeps it
}
