//go:build libseccomp

package filter

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	seccomp "github.com/seccomp/libseccomp-golang"
)

// TestProgramsAreCurrent compiles the table again and compares every byte.
func TestProgramsAreCurrent(t *testing.T) {
	made, err := os.ReadFile("programs/LIBSECCOMP")
	if err != nil {
		t.Fatal(err)
	}
	if have := strings.TrimSpace(string(made)); have != LibraryVersion() {
		t.Skipf("the programs were compiled by libseccomp %s, this is %s", have, LibraryVersion())
	}
	for _, arch := range arches {
		for _, listener := range []bool{false, true} {
			name, body, err := Compile(arch, listener)
			if err != nil {
				t.Fatal(err)
			}
			have, err := os.ReadFile(filepath.Join("programs", name))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(have, body) {
				t.Errorf("%s is not what the table says: run go generate", name)
			}
		}
	}
}

// TestNumbersAgreeWithLibseccomp compares our tables, which come from
// golang.org/x/sys, with libseccomp's, for every call in the table of rules and
// every other that both know.
func TestNumbersAgreeWithLibseccomp(t *testing.T) {
	for _, pair := range []struct {
		abi  *abi
		arch seccomp.ScmpArch
	}{{&abiAMD64, seccomp.ArchAMD64}, {&abiI386, seccomp.ArchX86}, {&abiARM64, seccomp.ArchARM64},
		{&abiARM, seccomp.ArchARM}} {
		agreed := 0
		for _, n := range pair.abi.sorted {
			name := pair.abi.calls[n]
			nr, err := seccomp.GetSyscallFromNameByArch(name, pair.arch)
			if err != nil || nr < 0 { // too new for it, or an older spelling
				continue
			}
			if int32(nr) != int32(n) {
				t.Errorf("%s: %s is %d, libseccomp says %d", pair.abi.name, name, n, nr)
			}
			agreed++
		}
		if agreed < 280 {
			t.Errorf("%s: only %d calls compared", pair.abi.name, agreed)
		}
		for _, d := range Denials() {
			nr, err := seccomp.GetSyscallFromNameByArch(d.Call, pair.arch)
			if err != nil || nr < 0 {
				continue
			}
			if n, ok := pair.abi.number(d.Call); !ok || int32(n) != int32(nr) {
				t.Errorf("%s: %s is %d, %v, libseccomp says %d", pair.abi.name, d.Call, n, ok, nr)
			}
		}
	}
}
