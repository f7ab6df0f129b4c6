package jail_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/memjail/memjail/policy/file"
	"github.com/memjail/memjail/sandbox/jail"
	"github.com/memjail/memjail/supervisor"
)

// A program of the library calls jail.Init first in main; the one that runs this
// example does so in TestMain.
func ExampleCommand() {
	cmd := jail.Command(file.Default(), "/bin/sh", "-c",
		"echo hello; head -c 1 /proc/self/mem 2>/dev/null || echo closed")
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
	cmd := jail.Command(p, "/bin/sh", "-c", "echo seen")
	cmd.AddExec = true // the program, its interpreter and its libraries
	out, err := cmd.Output()
	fmt.Printf("%s%v\n", out, err)
	// Output:
	// /bin/sh: permission denied
	// seen
	// <nil>
}

// A policy can be made in Go, from a built-in one and what the flags of the command line
// say.
func ExampleCommand_overrides() {
	p, err := file.Overrides{
		ROX:        []string{"/usr", "/lib", "/lib64", "/bin"},
		ConnectTCP: []string{"443"},
		Allow:      []string{"abstract-sockets=sandbox"},
	}.Apply(file.Default())
	if err != nil {
		log.Fatal(err) // all mistakes at once, each with its name
	}
	out, err := jail.Command(p, "/bin/sh", "-c", "cat /etc/passwd 2>/dev/null || echo closed").Output()
	fmt.Printf("%s%v\n", out, err)
	// Output:
	// closed
	// <nil>
}

// A context ends all of a sandbox.
func ExampleCommandContext() {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	err := jail.CommandContext(ctx, file.Default(), "sleep", "60").Run()
	fmt.Println(err != nil, ctx.Err())
	// Output: true context deadline exceeded
}

// Refused attempts are events.
func ExampleCmd_events() {
	cmd := jail.Command(file.Default(), "/bin/sh", "-c", "true </proc/self/mem")
	cmd.Stderr = io.Discard
	cmd.Events = func(e supervisor.Event) { fmt.Println(e.Comm, e.Call, e.Access, e.Rule) }
	fmt.Println(cmd.Run())
	// Output:
	// sh openat read memory.access
	// exit status 2
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
