package supervisor

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMetadataDifferential runs one program without and with a sandbox in which the
// supervisor makes all calls that change metadata, and compares what came of each:
// errno and the state of the files, for each ABI, as root and as an ordinary user.
func TestMetadataDifferential(t *testing.T) {
	dir, err := os.MkdirTemp("", "mj-metadata-")
	if err == nil {
		err = os.Chmod(dir, 0o755) // for the ordinary user
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	memjail := build(t, filepath.Join(dir, "memjail"), "../cmd/memjail", runtime.GOARCH, "-ldflags=-E memjail_entry")
	abis := []string{runtime.GOARCH}
	if runtime.GOARCH == "amd64" {
		abis = append(abis, "386")
	}
	for _, abi := range abis {
		changer := build(t, filepath.Join(dir, "changer-"+abi), "./testdata/metadata", abi)
		for _, uid := range accounts() {
			t.Run(abi+" uid "+strconv.Itoa(uid), func(t *testing.T) {
				work := filepath.Join(dir, "work")
				fresh := func() {
					if err := errors.Join(os.RemoveAll(work), os.Mkdir(work, 0o755),
						os.Chown(work, uid, uid)); err != nil {
						t.Fatal(err)
					}
				}
				fresh()
				native, err := runAs(uid, changer, work)
				if errors.Is(err, unix.ENOEXEC) {
					t.Skip("this kernel does not run 32-bit programs: ", err)
				}
				if err != nil {
					t.Fatalf("%v\n%s", err, native)
				}
				fresh()
				inside, err := runAs(uid, memjail, "run", "-q", "--allow", "metadata=granted", "--rwx", work,
					"--rox", changer, "--", changer, work)
				if err != nil {
					t.Fatalf("%v\n%s", err, inside)
				}
				compareLines(t, native, inside)
			})
		}
	}
}

// compareLines tells the first differences, with the call that they came of.
func compareLines(t *testing.T, native, inside string) {
	t.Helper()
	a, b := strings.Split(native, "\n"), strings.Split(inside, "\n")
	if len(a) < 10000 || len(a) != len(b) {
		t.Errorf("%d lines without a sandbox, %d inside", len(a), len(b))
	}
	call, different := "", 0
	for i := range min(len(a), len(b)) {
		if !strings.HasPrefix(a[i], "\t") {
			call = a[i]
		}
		if a[i] != b[i] && different < 20 {
			different++
			t.Errorf("%s\nwithout: %s\ninside:  %s", call, a[i], b[i])
		}
	}
}
