// Package specialfs is the table of the special file systems, which a sandbox is never
// granted: those through which the kernel shows processes, traces them or is configured.
package specialfs

import (
	"github.com/memjail/memjail/policy/abspath"
	"golang.org/x/sys/unix"
)

// FS is a special file system.
type FS struct {
	// Name is its type, as in proc_pid_mountinfo(5) and mount(2).
	Name string
	// Magic is statfs(2)'s f_type.
	Magic uint32
	// Places are where it is mounted by custom. They are closed whether something is
	// mounted there now or not: a tracing tool started outside later mounts what it needs.
	Places []string
}

// Proc is the type of procfs, which is special in that some of its files are granted one
// by one.
const Proc = "proc"

// configfs, xenfs and spufs have their numbers in no header but in fs/configfs/mount.c,
// drivers/xen/xenfs/super.c and arch/powerpc/platforms/cell/spufs/inode.c.
const (
	configfsMagic = 0x62656570
	xenfsMagic    = 0xabba1974
	spufsMagic    = 0x23c9b64e
)

var table = [...]FS{
	{Proc, unix.PROC_SUPER_MAGIC, []string{"/proc"}},
	{"tracefs", unix.TRACEFS_MAGIC, []string{"/sys/kernel/tracing"}},
	{"debugfs", unix.DEBUGFS_MAGIC, []string{"/sys/kernel/debug"}},
	{"configfs", configfsMagic, []string{"/sys/kernel/config"}},
	{"bpf", unix.BPF_FS_MAGIC, []string{"/sys/fs/bpf"}},
	{"securityfs", unix.SECURITYFS_MAGIC, []string{"/sys/kernel/security"}},
	{"binfmt_misc", unix.BINFMTFS_MAGIC, nil}, // its place lies in procfs
	{"xenfs", xenfsMagic, nil},                // likewise
	{"spufs", spufsMagic, nil},
}

// All lists the special file systems; the list must not be changed.
func All() []FS { return table[:] }

// Named reports whether a file system of this type, as in mountinfo, is special.
func Named(fstype string) bool {
	for i := range table {
		if table[i].Name == fstype {
			return true
		}
	}
	return false
}

// OfMagic returns the type of a special file system by statfs(2)'s f_type; empty: it is
// not special.
func OfMagic(magic uint32) string {
	for i := range table {
		if table[i].Magic == magic {
			return table[i].Name
		}
	}
	return ""
}

// At returns the customary place that path is or lies below, and the type of the file
// system whose it is; both are empty where there is none.
func At(path string) (name, place string) {
	for i := range table {
		for _, place := range table[i].Places {
			if abspath.Within(place, path) {
				return table[i].Name, place
			}
		}
	}
	return "", ""
}
