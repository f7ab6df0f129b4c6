package probe

import (
	"cmp"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

// TestLayerOfLateLog: a line that is written after the attempt's answer is waited for.
func TestLayerOfLateLog(t *testing.T) {
	log := logTail{path: filepath.Join(t.TempDir(), "log")}
	if err := os.WriteFile(log.path, []byte(`{"call":"bpf","layer":"landlock"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	log.skip()
	if got := log.layerSoon("bpf", 0); got != "" {
		t.Errorf("an old line counts: %q", got)
	}
	go func() {
		time.Sleep(20 * time.Millisecond)
		f, err := os.OpenFile(log.path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		f.WriteString(`{"call":"bpf","layer":"seccomp"}` + "\n") // an error is seen below
	}()
	if got := log.layerSoon("bpf", time.Minute); got != "seccomp" {
		t.Errorf("%q", got)
	}
}

// TestLayer: what refused an attempt, by the errno, the log, and whether the memory
// capability has been dropped inside.
func TestLayer(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(log, []byte(`{"call":"openat","layer":"landlock"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	reading, writing := Attempt{Effect: Read, ByCapability: true}, Attempt{Effect: Write}
	for _, test := range []struct {
		name    string
		attempt Attempt
		step    string // "": openat
		errno   unix.Errno
		dropped bool
		log     string
		foreign bool
		want    string
	}{
		{name: "reading without the capability", attempt: reading, errno: unix.EACCES, dropped: true,
			want: "capability"},
		{name: "the same by a foreign launcher", attempt: reading, errno: unix.EACCES, dropped: true,
			foreign: true, want: "capability"},
		{name: "reading with it", attempt: reading, errno: unix.EACCES, want: "landlock"},
		{name: "another refusal", attempt: reading, errno: unix.EPERM, dropped: true, want: "kernel"},
		{name: "writing without it", attempt: writing, errno: unix.EACCES, dropped: true, want: "landlock"},
		{name: "the log", attempt: writing, errno: unix.EPERM, dropped: true, log: log, want: "landlock"},
		{name: "an unknown call", attempt: writing, errno: unix.ENOSYS, want: "seccomp"},
		{name: "a known layer", attempt: Attempt{Layer: "descriptors"}, errno: unix.EBADF, want: "descriptors"},
		{name: "a known layer that refuses by the same errno", attempt: Attempt{Layer: "kernel"},
			step: "execve", errno: unix.EACCES, want: "kernel"},
		{name: "an open before it comes to that", attempt: Attempt{Layer: "seccomp"}, errno: unix.EACCES,
			want: "landlock"},
		{name: "a known layer of memjail alone", attempt: Attempt{Layer: "descriptors"}, errno: unix.EBADF,
			foreign: true, want: "kernel"},
	} {
		r := suite{dropped: test.dropped}
		if !test.foreign {
			r.Policy = &policy.Policy{}
		}
		if test.log != "" {
			r.log = &logTail{path: test.log}
		}
		d := done{Outcome: Outcome{Step: cmp.Or(test.step, "openat"), Errno: test.errno}}
		if got := r.layer(&test.attempt, d); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}
