package landlock

import (
	"errors"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ProgramDirectories lists the directories that memory.code-files protects on this
// system, canonical, none inside another. What cannot be examined is left out.
func ProgramDirectories() []string {
	var lost error // the list is for information
	return codeRoots(func(path string) (string, bool) {
		found, err := canonicalPath(path)
		return found, err == nil
	}, &lost)
}

// LinkedPrograms lists the files of the directories, by one name each, that this user may
// write and that have more hard links than the directories contain: such a file has a name
// outside, where other rights may be granted. On an overlay a removed link may still count.
// It examines every file below the directories, which takes a while.
func LinkedPrograms(directories []string) []string {
	search := linkSearch{entered: map[fileID]bool{}, known: map[fileID]*linkedFile{}}
	for _, directory := range directories {
		// Links in a directory that cannot be read do not count, so the file is listed.
		_ = filepath.WalkDir(directory, search.visit)
	}
	var names []string
	for _, file := range search.order {
		if file.seen < file.links && writable(file.name) {
			names = append(names, file.name)
		}
	}
	return names
}

type fileID struct{ device, number uint64 }

// linkedFile is a file with several links, and how many of them were seen.
type linkedFile struct {
	name        string
	links, seen uint64
}

type linkSearch struct {
	entered map[fileID]bool // directories: a bind mount shows one twice
	known   map[fileID]*linkedFile
	order   []*linkedFile
}

func (s *linkSearch) visit(name string, entry fs.DirEntry, err error) error {
	var st unix.Stat_t
	if err != nil || !entry.IsDir() && !entry.Type().IsRegular() || unix.Lstat(name, &st) != nil {
		return nil
	}
	id := fileID{st.Dev, st.Ino}
	switch file := s.known[id]; {
	case entry.IsDir() && s.entered[id]:
		return fs.SkipDir
	case entry.IsDir():
		s.entered[id] = true
	case st.Nlink < 2:
	case file != nil:
		file.seen++
	default:
		file = &linkedFile{name: name, links: uint64(st.Nlink),
			seen: 1} //nolint:unconvert // its width differs between architectures
		s.known[id] = file
		s.order = append(s.order, file)
	}
	return nil
}

// writable reports whether the file itself can be written by this user, under a name
// on a mount that is not read-only.
func writable(name string) bool {
	err := unix.Faccessat(unix.AT_FDCWD, name, unix.W_OK, unix.AT_EACCESS)
	return err == nil || errors.Is(err, unix.EROFS) || errors.Is(err, unix.ETXTBSY)
}
