package jail_test

import (
	"fmt"
	"log"
	"os"

	"github.com/memjail/memjail/policy/file"
	"github.com/memjail/memjail/sandbox/jail"
)

// A program of the library calls jail.Init first in main; the one that runs this
// example does so in TestMain.
func ExampleCommand() {
	cmd := jail.Command(file.Default(), "/bin/sh", "-c", "echo hello; head -c 1 /proc/self/mem 2>/dev/null || echo closed")
	out, err := cmd.Output()
	fmt.Printf("%s%v\n", out, err)
	// Output:
	// hello
	// closed
	// <nil>
}

// A policy can be a file, or a built-in one.
func ExampleCommand_policy() {
	p, err := file.Load("strict")
	if err != nil {
		log.Fatal(err)
	}
	err = jail.Command(p, "/bin/sh", "-c", "echo never seen").Run()
	fmt.Println(err)
	// Output:
	// /bin/sh: permission denied
}

// A program that gives memory I/O up itself does so at the beginning of main. What
// follows is not run as a test, since it would restrict the tests.
func ExampleRestrictSelf() {
	restricted, err := jail.RestrictSelf(file.Default())
	if err != nil {
		log.Fatal(err)
	}
	for _, note := range restricted.Notes {
		log.Print(note)
	}
	_, err = os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	fmt.Println(err) // open /proc/self/mem: permission denied
}
