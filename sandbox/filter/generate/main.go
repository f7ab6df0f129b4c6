//go:build libseccomp

// Command generate has libseccomp compile the seccomp programs that memjail
// embeds, and writes them. With -check it compares instead and fails on the
// first difference. It needs cgo and libseccomp's development files; it is run
// by go generate in sandbox/filter.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/memjail/memjail/sandbox/filter"
)

func main() {
	log.SetFlags(0)
	dir := flag.String("dir", "programs", "where the programs are")
	check := flag.Bool("check", false, "compare, write nothing")
	flag.Parse()
	if err := run(*dir, *check); err != nil {
		log.Fatal(err)
	}
}

func run(dir string, check bool) error {
	for _, arch := range []string{"amd64", "arm64"} {
		for _, listener := range []bool{false, true} {
			name, body, err := filter.Compile(arch, listener)
			if err != nil {
				return err
			}
			if err := settle(filepath.Join(dir, name), body, check); err != nil {
				return err
			}
		}
	}
	return settle(filepath.Join(dir, "LIBSECCOMP"), []byte(filter.LibraryVersion()+"\n"), check)
}

// settle writes a file, or compares it with what it should be.
func settle(path string, want []byte, check bool) error {
	if !check {
		return os.WriteFile(path, want, 0o644)
	}
	have, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(have, want) {
		return fmt.Errorf("checking %q: libseccomp %s makes something else of the table; run go generate", path,
			filter.LibraryVersion())
	}
	return nil
}
