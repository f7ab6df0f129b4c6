// Changes changes the mode of files, or opens them, from many threads at once and says
// how many calls failed. Run as "changes unusual FILE" it changes one from unusual
// threads; as "changes serve BACKING ..." it serves a FUSE file system on descriptor 3,
// too, and makes such a call itself before it answers one.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// The messages of linux/fuse.h that are answered.
const (
	lookup   = 1
	forget   = 2
	getattr  = 3
	setattr  = 4
	statfs   = 17
	initial  = 26
	forgets  = 42
	rootNode = 1
)

func main() {
	args := os.Args[1:]
	if args[0] == "serve" {
		go serve(3, args[1])
		args = args[2:]
	}
	if args[0] == "unusual" {
		unusual(args[1])
		return
	}
	call := func(name string, round int) error { return syscall.Chmod(name, 0o700|uint32(round&1)) }
	if args[0] == "open" {
		call, args = open, args[1:]
	}
	// PATH with NUMBER in it, THREADS, ROUNDS
	threads, _ := strconv.Atoi(args[1])
	rounds, _ := strconv.Atoi(args[2])
	var failures atomic.Int64
	var last atomic.Value
	var begin, all sync.WaitGroup
	begin.Add(1)
	for i := range threads {
		all.Go(func() {
			begin.Wait()
			for round := range rounds {
				name := strings.ReplaceAll(args[0], "NUMBER", strconv.Itoa(i))
				if err := call(name, round); err != nil {
					failures.Add(1)
					last.Store(err)
				}
			}
		})
	}
	begin.Done()
	all.Wait()
	fmt.Println(failures.Load(), "failed", last.Load())
}

// unusual changes a file that has no name any more, from a thread with a descriptor table
// of its own, and after the main thread has ended.
func unusual(name string) {
	runtime.LockOSThread()
	change := func(what string) {
		fd, err := syscall.Open(name, syscall.O_RDWR|syscall.O_CREAT, 0o600)
		if err == nil {
			syscall.Unlink(name)
			err = syscall.Fchmod(fd, 0o640)
		}
		fmt.Println(what, err)
	}
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		if err := syscall.Unshare(syscall.CLONE_FILES); err != nil {
			fmt.Println(err)
		}
		for range 20 {
			syscall.Dup(1) // numbers that no other table has
		}
		change("own table")
		close(done)
	}()
	<-done
	go func() {
		runtime.LockOSThread()
		stat := fmt.Sprintf("/proc/self/task/%d/stat", os.Getpid())
		for text := []byte{}; !bytes.Contains(text, []byte(") Z ")); text, _ = os.ReadFile(stat) {
			runtime.Gosched()
		}
		change("no main thread")
		os.Exit(0)
	}()
	if syscall.Gettid() != os.Getpid() {
		fmt.Println("this is not the main thread")
	}
	syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0)
}

func open(name string, _ int) error {
	fd, err := syscall.Open(name, syscall.O_RDONLY, 0)
	if err == nil {
		syscall.Close(fd)
	}
	return err
}

// serve answers a file system that has its root only.
func serve(device int, backing string) {
	native := binary.NativeEndian
	buf := make([]byte, 1<<17)
	answer := func(errno int32, body []byte) {
		out := make([]byte, 16, 16+len(body))
		native.PutUint32(out, uint32(16+len(body)))
		native.PutUint32(out[4:], uint32(-errno))
		copy(out[8:], buf[8:16]) // the message's number
		syscall.Write(device, append(out, body...))
	}
	attributes := make([]byte, 16+88)
	native.PutUint64(attributes[16:], rootNode)
	native.PutUint32(attributes[16+60:], syscall.S_IFDIR|0o755)
	native.PutUint32(attributes[16+64:], 2) // links
	for {
		n, err := syscall.Read(device, buf)
		if err == syscall.EINTR || err == syscall.ENOENT {
			continue
		}
		if err != nil || n < 40 {
			return
		}
		switch native.Uint32(buf[4:]) {
		case initial:
			body := make([]byte, 64)
			native.PutUint32(body, 7)
			native.PutUint32(body[4:], 31)
			native.PutUint32(body[20:], 1<<16) // the longest write
			answer(0, body)
		case setattr:
			if err := syscall.Chmod(backing, 0o700); err != nil {
				answer(int32(err.(syscall.Errno)), nil)
				continue
			}
			answer(0, attributes)
		case getattr:
			answer(0, attributes)
		case statfs:
			answer(0, make([]byte, 80))
		case forget, forgets:
		case lookup:
			answer(int32(syscall.ENOENT), nil)
		default:
			answer(int32(syscall.ENOSYS), nil)
		}
	}
}
