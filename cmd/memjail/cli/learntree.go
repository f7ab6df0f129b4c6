package cli

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// maxTreeFiles and maxTreeBytes bound a directory that is copied to be run in.
const (
	maxTreeFiles = 20_000
	maxTreeBytes = 256 << 20
)

// errTree says why a directory is not copied.
var errTree = errors.New("it is too large, or has files that cannot be copied")

// copyTree copies a directory with modes, times and symbolic links. Errors: errTree.
func copyTree(from, to string) error {
	files, size := 0, int64(0)
	var dirs []string
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if files++; info.Mode().IsRegular() {
			size += info.Size()
		}
		if files > maxTreeFiles || size > maxTreeBytes {
			return errTree
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			dirs = append(dirs, relative)
		}
		return copyEntry(path, filepath.Join(to, relative), info)
	})
	for _, dir := range slices.Backward(dirs) { // their times change while they are filled
		if info, err := os.Stat(filepath.Join(from, dir)); err == nil {
			os.Chmod(filepath.Join(to, dir), info.Mode().Perm())
			os.Chtimes(filepath.Join(to, dir), info.ModTime(), info.ModTime())
		}
	}
	return err
}

func copyEntry(from, to string, info fs.FileInfo) error {
	switch {
	case info.IsDir():
		return os.MkdirAll(to, 0o700)
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	case !info.Mode().IsRegular():
		return errTree
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(info.Mode().Perm()), out.Close(), os.Chtimes(to, info.ModTime(), info.ModTime()))
}

// tree is the content of a directory: for each path below it a text that is the same where
// the file is.
type tree map[string]string

// readTree reads a directory. The path of the directory counts as one in files, so that
// copies can be compared. Where there is too much it returns nil.
func readTree(dir, one string) tree {
	t := tree{}
	total := int64(0)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		relative, _ := filepath.Rel(dir, path)
		// Other bits of the mode follow the umask, or whether a file could be linked.
		text := fmt.Sprint(info.Mode().Type(), info.Mode()&0o111 != 0)
		switch total += info.Size(); {
		case len(t) > maxTreeFiles || total > 2*maxTreeBytes:
			return errTree
		case info.Mode().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil && !errors.Is(err, unix.EACCES) {
				return err
			}
			sum := sha256.Sum256(bytes.ReplaceAll(content, []byte(dir), []byte(one)))
			text += fmt.Sprintf(" %x", sum)
		case info.Mode()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			text += " " + target
		}
		t[relative] = text
		return nil
	})
	if err != nil {
		return nil
	}
	return t
}

// differing are the paths that are not the same in two trees, sorted.
func (t tree) differing(other tree) []string {
	var found []string
	for path, text := range t {
		if other[path] != text {
			found = append(found, path)
		}
	}
	for path := range maps.Keys(other) {
		if _, both := t[path]; !both {
			found = append(found, path)
		}
	}
	slices.Sort(found)
	return found
}
