package probe

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

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
		errno   unix.Errno
		dropped bool
		log     string
		foreign bool
		want    string
	}{
		{name: "reading without the capability", attempt: reading, errno: unix.EACCES, dropped: true, want: "capability"},
		{name: "the same by a foreign launcher", attempt: reading, errno: unix.EACCES, dropped: true, foreign: true, want: "capability"},
		{name: "reading with it", attempt: reading, errno: unix.EACCES, want: "landlock"},
		{name: "another refusal", attempt: reading, errno: unix.EPERM, dropped: true, want: "kernel"},
		{name: "writing without it", attempt: writing, errno: unix.EACCES, dropped: true, want: "landlock"},
		{name: "the log", attempt: writing, errno: unix.EPERM, dropped: true, log: log, want: "landlock"},
		{name: "an unknown call", attempt: writing, errno: unix.ENOSYS, want: "seccomp"},
		{name: "a known layer", attempt: Attempt{Layer: "descriptors"}, errno: unix.EBADF, want: "descriptors"},
		{name: "a known layer of memjail alone", attempt: Attempt{Layer: "descriptors"}, errno: unix.EBADF, foreign: true, want: "kernel"},
	} {
		r := suite{dropped: test.dropped}
		if !test.foreign {
			r.Policy = &policy.Policy{}
		}
		if test.log != "" {
			r.log = &logTail{path: test.log}
		}
		d := done{Outcome: Outcome{Step: "openat", Errno: test.errno}}
		if got := r.layer(&test.attempt, d); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}
