package file

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// othersChange describes who besides root and the user can change a file or directory, or
// returns "". In a directory with the sticky bit others cannot replace what is not theirs,
// and what is in it is looked at as well.
func othersChange(info fs.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "its owner is not known"
	}
	uid := os.Geteuid()
	if st.Uid != 0 && int(st.Uid) != uid {
		return fmt.Sprintf("it belongs to user %d", st.Uid)
	}
	mode := info.Mode()
	if mode&fs.ModeSymlink != 0 || mode.IsDir() && mode&fs.ModeSticky != 0 {
		return ""
	}
	ownGroup := st.Gid == 0 || uid != 0 && int(st.Gid) == os.Getegid()
	switch {
	case mode&0o002 != 0:
		return "every user can write it"
	case mode&0o020 != 0 && !ownGroup:
		return fmt.Sprintf("group %d can write it", st.Gid)
	}
	return ""
}
