package verify

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestExecuteRunsNothing: both ways to ask say the same of each file, and the
// program that may be executed is not.
func TestExecuteRunsNothing(t *testing.T) {
	dir := t.TempDir()
	ran := filepath.Join(dir, "ran")
	script, plain := filepath.Join(dir, "script"), filepath.Join(dir, "plain")
	for name, mode := range map[string]os.FileMode{script: 0o755, plain: 0o644} {
		if err := os.WriteFile(name, []byte("#!/bin/sh\necho >"+ran+"\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	if executeTooLong(script) == unix.EINVAL {
		t.Skip("this kernel looks at the arguments before the file: Linux before 6.8")
	}
	for name, want := range map[string]unix.Errno{script: 0, plain: unix.EACCES, dir: unix.EACCES,
		filepath.Join(dir, "none"): unix.ENOENT} {
		if got := executeTooLong(name); got != want {
			t.Errorf("executeTooLong(%s): %v, want %v", name, got, want)
		}
		err := tryExecute(name)
		if want == 0 && err != nil || want != 0 && !errors.Is(err, want) {
			t.Errorf("tryExecute(%s): %v, want %v", name, err, want)
		}
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("the script was run")
	}
}

// TestWriteChangesNothing: what is there stays as it is, and what is not there is
// not made.
func TestWriteChangesNothing(t *testing.T) {
	dir := t.TempDir()
	file, none, link := filepath.Join(dir, "file"), filepath.Join(dir, "none"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(none, link); err != nil {
		t.Fatal(err)
	}
	// Whoever makes the file itself finds that it is there.
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, dir, unix.IN_CREATE|unix.IN_MODIFY); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, none, dir} {
		if err := tryWrite(name); err != nil {
			t.Errorf("tryWrite(%s): %v", name, err)
		}
	}
	var untried *untriedError
	if err := tryWrite(link); !errors.As(err, &untried) {
		t.Errorf("a link to nothing: %v", err)
	}
	text, err := os.ReadFile(file)
	if err != nil || string(text) != "text" {
		t.Errorf("the file has %q: %v", text, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("the directory has %v: %v", entries, err)
	}
	for _, name := range created(t, watch) {
		if filepath.Base(none) == name {
			t.Error("the file itself was made for a moment")
		}
	}
}

// created are the names that events say something of.
func created(t *testing.T, watch int) []string {
	t.Helper()
	buffer := make([]byte, 4096)
	n, err := unix.Read(watch, buffer)
	if err != nil {
		t.Fatal(err) // the file in the directory is made in any case
	}
	var names []string
	for at := 0; at+unix.SizeofInotifyEvent <= n; {
		size := int(buffer[at+12]) | int(buffer[at+13])<<8 // of the name, at the end of the head
		name := buffer[at+unix.SizeofInotifyEvent : at+unix.SizeofInotifyEvent+size]
		names = append(names, unix.ByteSliceToString(name))
		at += unix.SizeofInotifyEvent + size
	}
	return names
}
