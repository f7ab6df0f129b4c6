// Open opens and closes a file a number of times and prints how many
// nanoseconds that took. It is what the benchmarks run inside and outside.
//
//	open FILE COUNT
package main

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: open FILE COUNT")
		os.Exit(2)
	}
	name := os.Args[1]
	count, err := strconv.Atoi(os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	start := time.Now()
	for range count {
		fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err != nil {
			fmt.Fprintln(os.Stderr, "opening", name+":", err)
			os.Exit(1)
		}
		syscall.Close(fd)
	}
	fmt.Println(time.Since(start).Nanoseconds())
}
