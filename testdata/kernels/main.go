// Kernels runs a static program or a shell script on a stock Debian kernel in qemu, by
// software emulation. That takes some seconds and no privilege.
//
//	kernels list
//	kernels boot [--kernel NAME] [--append ARGUMENTS] [--file HOST:GUEST]...
//	             [--memory MIB] [--cpus N] [--timeout D] [--instructions] [--verbose] COMMAND [ARGUMENT...]
//
// NAME is 5.10, 6.1, 6.12, 6.12-rt (PREEMPT_RT), newest (the newest in Debian), 6.1-arm64 or
// 6.12-arm64. apt fetches the packages from a Debian mirror, in today's version. They are unpacked, never installed, and kept in
// --cache (by default below the user's cache directory).
//
// The guest is an initramfs with busybox, the files of --file, an ordinary user
// "user" (uid 1000), the usual file systems mounted, and no network. COMMAND runs as
// root. Its standard output and error are boot's standard output, and its status is
// boot's. Other statuses: 124, it did not end in time; 77, this machine has no such kernel
// or no qemu, and standard error has the reason; 125, boot itself failed.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Statuses of boot itself.
const (
	unavailable = 77 // as automake's "skip"
	timedOut    = 124
	failed      = 125
)

// unavailableError reports why this machine cannot boot a kernel. That is no failure of
// what is tested.
type unavailableError struct{ reason string }

func (e unavailableError) Error() string { return e.reason }

func main() {
	status, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "kernels: %v\n", err)
		status = failed
		if errors.As(err, new(unavailableError)) {
			status = unavailable
		}
	}
	os.Exit(status)
}

func run(args []string) (int, error) {
	if len(args) == 0 {
		return 0, errors.New("usage: kernels list | boot [FLAGS] COMMAND [ARGUMENT...]")
	}
	o := options{files: map[string]string{}}
	flags := flag.NewFlagSet(args[0], flag.ExitOnError)
	flags.StringVar(&o.cache, "cache", "", "`DIR` for packages and kernels")
	flags.StringVar(&o.kernel, "kernel", "6.12", "`NAME` of the kernel: "+strings.Join(names(), ", "))
	flags.StringVar(&o.append, "append", "", "more `ARGUMENTS` for the kernel, such as lsm=lockdown,yama,apparmor")
	flags.Func("file", "`HOST:GUEST`, a file of this machine and its name in the guest", o.addFile)
	flags.IntVar(&o.memory, "memory", 512, "memory of the guest in `MIB`")
	flags.IntVar(&o.cpus, "cpus", 1, "processors of the guest")
	flags.DurationVar(&o.timeout, "timeout", 3*time.Minute, "end the guest after `D`")
	flags.BoolVar(&o.instructions, "instructions", false,
		"let the guest's clock count instructions, one for a nanosecond, whatever this machine does meanwhile")
	flags.BoolVar(&o.verbose, "verbose", false, "show the kernel's messages on standard error")
	flags.Parse(args[1:])
	if o.cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			dir = os.TempDir() // no HOME: as good as any
		}
		o.cache = filepath.Join(dir, "memjail-kernels")
	}
	switch {
	case args[0] == "list":
		return 0, list(o.cache)
	case args[0] == "boot" && flags.NArg() > 0:
		return boot(o, flags.Args())
	case args[0] == "boot":
		return 0, errors.New("boot needs a command")
	}
	return 0, fmt.Errorf("unknown command %q", args[0])
}

// options are the flags.
type options struct {
	cache, kernel, append string
	files                 map[string]string // name in the guest → name here
	memory, cpus          int
	timeout               time.Duration
	verbose, instructions bool
}

func (o *options) addFile(pair string) error {
	host, guest, ok := strings.Cut(pair, ":")
	if !ok || !filepath.IsAbs(guest) {
		return fmt.Errorf("want HOST:/ABSOLUTE/GUEST")
	}
	o.files[filepath.Clean(guest)] = host
	return nil
}

// list prints the kernels that can be booted. It fails only if there is none.
func list(cache string) error {
	var last error
	found := 0
	for _, name := range names() {
		image, err := findKernel(cache, name)
		if err != nil {
			fmt.Printf("%-10s %v\n", name, err)
			last = err
			continue
		}
		found++
		fmt.Printf("%-10s %s %s\n", name, image.release, image.path)
	}
	if found == 0 {
		return last
	}
	return nil
}
