// Metadata makes every call that changes metadata in many ways, on objects of every
// kind in the directory that it is given, and prints what came of each: the errno, and
// the state of the objects afterwards. Its output is compared without and with a
// sandbox.
package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	noNumber   = ^uintptr(0)
	fdcwd      = ^uintptr(99) // AT_FDCWD
	badAddress = uintptr(16)
)

// target is an object and how a path or a descriptor leads to it.
type target struct {
	name string
	dir  uintptr // where the path starts, or the descriptor itself
	path string
}

var keep [][]byte // what calls point to

func text(s string) uintptr { return bytesAt(append([]byte(s), 0)) }

func bytesAt(b []byte) uintptr {
	if len(b) == 0 {
		return 0
	}
	keep = append(keep, b)
	return uintptr(unsafe.Pointer(&b[0]))
}

// words makes an array of the ABI's long.
func words(values ...int64) uintptr {
	var b []byte
	for _, v := range values {
		if unsafe.Sizeof(uintptr(0)) == 4 {
			b = binary.NativeEndian.AppendUint32(b, uint32(v))
		} else {
			b = binary.NativeEndian.AppendUint64(b, uint64(v))
		}
	}
	return bytesAt(b)
}

func words64(values ...int64) uintptr {
	var b []byte
	for _, v := range values {
		b = binary.NativeEndian.AppendUint64(b, uint64(v))
	}
	return bytesAt(b)
}

func main() {
	if err := os.Chdir(os.Args[1]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	syscall.Umask(0)
	makeObjects()
	paths, descriptors := targets()
	for _, c := range calls() {
		for _, t := range paths {
			c.onPath(t)
		}
		for _, t := range descriptors {
			c.onDescriptor(t)
		}
	}
	setAttributes()
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func makeObjects() {
	must(os.WriteFile("file", []byte("content"), 0o644))
	must(os.Mkdir("dir", 0o755))
	must(os.WriteFile("dir/below", nil, 0o644))
	must(os.Symlink("file", "link"))
	must(os.Symlink("nothing", "dangling"))
	must(os.Symlink("loop", "loop"))
	must(os.Symlink("dir", "linkdir"))
	must(os.Mkdir("closed", 0o755))
	must(os.WriteFile("closed/file", nil, 0o644))
	must(unix.Mkfifo("fifo", 0o644))
	must(os.Chmod("closed", 0))
}

func open(path string, flags int) uintptr {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	must(err)
	return uintptr(fd)
}

func targets() (paths, descriptors []target) {
	dir := open("dir", unix.O_RDONLY)
	file := open("file", unix.O_RDONLY)
	written := open("file", unix.O_RDWR)
	named := open("file", unix.O_PATH)
	linkNamed := open("link", unix.O_PATH|unix.O_NOFOLLOW)
	memfd, err := unix.MemfdCreate("data", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	must(err)
	var pipe [2]int
	must(unix.Pipe2(pipe[:], unix.O_CLOEXEC))
	// Not by socket(2): in a 32-bit program that is socketcall(2), and refused to root.
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(err)
	socket := ends[0]
	deleted := open("dir/gone", unix.O_RDWR|unix.O_CREAT)
	must(os.Remove("dir/gone"))
	wd, err := os.Getwd()
	must(err)
	paths = []target{{"file", fdcwd, "file"}, {"link", fdcwd, "link"}, {"directory", fdcwd, "dir"},
		{"below", dir, "below"},
		{"absolute", fdcwd, wd + "/dir/../file"}, {"dot", fdcwd, "dir/."}, {"slash", fdcwd, "file/"},
		{"slash of a directory", fdcwd, "dir/"},
		{"link with slash", fdcwd, "linkdir/"}, {"through a link", fdcwd, "linkdir/below"},
		{"missing", fdcwd, "missing"},
		{"below missing", fdcwd, "missing/x"}, {"below a file", fdcwd, "file/x"},
		{"dangling", fdcwd, "dangling"}, {"loop", fdcwd, "loop"},
		{"closed", fdcwd, "closed/file"}, {"empty", fdcwd, ""}, {"empty of a file", file, ""},
		{"empty of a name", named, ""},
		{"empty of a link", linkNamed, ""}, {"too long", fdcwd, strings.Repeat("x", 256)},
		{"far too long", fdcwd, strings.Repeat("x/", 2048)},
		{"on no descriptor", 999, "below"}, {"on a file", file, "below"},
		{"own descriptor", fdcwd, fmt.Sprintf("/proc/self/fd/%d", file)},
		{"fifo", fdcwd, "fifo"}, {"address", fdcwd, "<address>"}, {"null", fdcwd, "<null>"},
		{"null on a file", file, "<null>"}}
	descriptors = []target{{name: "read", dir: file}, {name: "written", dir: written},
		{name: "named", dir: named}, {name: "link named", dir: linkNamed},
		{name: "directory", dir: dir}, {name: "memfd", dir: uintptr(memfd)},
		{name: "pipe", dir: uintptr(pipe[1])}, {name: "socket", dir: uintptr(socket)},
		{name: "deleted", dir: deleted}, {name: "none", dir: 999}, {name: "negative", dir: ^uintptr(0)},
		{name: "AT_FDCWD", dir: fdcwd}}
	return paths, descriptors
}

// call is a system call with the arguments that come after the object.
type call struct {
	name   string
	number uintptr
	names  string // "path", "fd", "at"
	rest   []uintptr
	flags  int // index among all arguments of the AT_* flags, or 0
}

func (c call) onPath(t target) {
	path := text(t.path)
	own := strings.HasPrefix(t.path, "/proc/")
	if own && c.name[0] == 'l' {
		return // a link of procfs itself, which nobody may change inside
	}
	switch t.path {
	case "<address>":
		path = badAddress
	case "<null>":
		path = 0
	}
	switch c.names {
	case "path":
		if t.dir == fdcwd {
			c.make(t.name, append([]uintptr{path}, c.rest...))
		}
	case "at":
		args := append([]uintptr{t.dir, path}, c.rest...)
		if c.flags == 0 {
			c.make(t.name, args)
			return
		}
		for _, flags := range []uintptr{0, unix.AT_SYMLINK_NOFOLLOW, unix.AT_EMPTY_PATH, unix.AT_EMPTY_PATH |
			unix.AT_SYMLINK_NOFOLLOW, 0x40000} {
			if flags&unix.AT_EMPTY_PATH != 0 && path == 0 {
				continue // its meaning differs from one kernel to the next
			}
			if own && flags&unix.AT_SYMLINK_NOFOLLOW != 0 || t.dir == fdcwd && t.path == "" &&
				c.name == "removexattrat" {
				continue // as above, and as with fsetxattr
			}
			args := append([]uintptr(nil), args...)
			for len(args) <= c.flags {
				args = append(args, 0)
			}
			args[c.flags] = flags
			c.make(fmt.Sprintf("%s flags %#x", t.name, flags), args)
		}
	}
}

func (c call) onDescriptor(t target) {
	if c.names == "fd" && (t.dir != fdcwd || c.name != "fsetxattr") { // Linux 6.13 and later take it for the directory
		c.make(t.name, append([]uintptr{t.dir}, c.rest...))
	}
}

func (c call) make(what string, args []uintptr) {
	if c.number == noNumber {
		return
	}
	for len(args) < 6 {
		args = append(args, 0)
	}
	_, _, errno := unix.Syscall6(c.number, args[0], args[1], args[2], args[3], args[4], args[5])
	fmt.Printf("%s %s: %d %v\n", c.name, what, int(errno), errno)
	state()
}

// state prints what the calls may have changed. Times that are now differ.
func state() {
	for _, name := range []string{"file", "dir", "dir/below", "link", "fifo"} {
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			fmt.Println("	"+name, err)
			continue
		}
		when := func(t unix.Timespec) string {
			if time.Since(time.Unix(int64(t.Sec), 0)) < time.Hour { //nolint:unconvert // its width differs
				return "now"
			}
			return fmt.Sprintf("%d.%09d", t.Sec, t.Nsec)
		}
		line := fmt.Sprintf("\t%s %o %d:%d %s %s", name, st.Mode, st.Uid, st.Gid, when(st.Atim), when(st.Mtim))
		var list [4096]byte
		n, _ := unix.Llistxattr(name, list[:])
		for _, attribute := range strings.FieldsFunc(string(list[:max(n, 0)]), func(r rune) bool { return r == 0 }) {
			var value [64 << 10]byte
			n, _ := unix.Lgetxattr(name, attribute, value[:])
			line += fmt.Sprintf(" %s=%d:%.40q", attribute, n, value[:max(n, 0)])
		}
		fmt.Println(line)
	}
}

// acl is an access control list for the user 1 beside owner, group and others.
func acl(bits uint16) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range [][3]uint32{{1, 6, ^uint32(0)}, {2, uint32(bits), 1}, {4, 4, ^uint32(0)},
		{16, 7, ^uint32(0)}, {32, 4, ^uint32(0)}} {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, e[2])
	}
	return b
}

// setAttributes goes through names, sizes and flags of extended attributes.
func setAttributes() {
	file := open("file", unix.O_RDONLY)
	names := []string{"user.a", "security.capability", "system.a", "system.posix_acl_access",
		"system.posix_acl_default", "user.", "nothing", "",
		strings.Repeat("u", 255), "user." + strings.Repeat("u", 250), strings.Repeat("u", 256), "<address>"}
	if os.Getuid() != 0 { // who has CAP_SYS_ADMIN outside only
		names = append(names, "trusted.a", "security.a")
	}
	for _, name := range names {
		for _, size := range []int{0, 1, 12, 27, 28, 29, 36, 44, 1000, 4096, 65536, 65537} {
			for flags := range uintptr(4) {
				value := make([]byte, size)
				for i := range value {
					value[i] = byte('a' + i%26)
				}
				attribute := text(name)
				if name == "<address>" {
					attribute = badAddress
				}
				what := fmt.Sprintf("%.20q size %d", name, size)
				all := []uintptr{attribute, bytesAt(value), uintptr(size), flags}
				call{name: fmt.Sprintf("setxattr flags %d", flags), number: unix.SYS_SETXATTR}.make(what,
					append([]uintptr{text("file")}, all...))
				call{name: fmt.Sprintf("fsetxattr flags %d", flags), number: unix.SYS_FSETXATTR}.make(what,
					append([]uintptr{file}, all...))
				args := words64(int64(bytesAt(value)), int64(size)|int64(flags)<<32)
				call{name: fmt.Sprintf("setxattrat flags %d", flags), number: 463}.make(what,
					[]uintptr{fdcwd, text("file"), 0, attribute, args, 16})
				call{name: "removexattr", number: unix.SYS_REMOVEXATTR}.make(what, []uintptr{text("file"), attribute})
			}
		}
	}
	list := acl(6)
	for _, name := range []string{"system.posix_acl_access", "system.posix_acl_default"} {
		for _, object := range []string{"file", "dir", "link", "fifo", "missing"} {
			for _, number := range []uintptr{unix.SYS_SETXATTR, unix.SYS_LSETXATTR} {
				call{name: fmt.Sprint("an ACL, call ", number), number: number}.make(object+" "+name,
					[]uintptr{text(object), text(name), bytesAt(list), uintptr(len(list)), 0})
			}
		}
		call{name: "an ACL", number: unix.SYS_FSETXATTR}.make(name, []uintptr{file, text(name), bytesAt(list),
			uintptr(len(list)), 0})
	}
	call{name: "an address for a value", number: unix.SYS_SETXATTR}.make("",
		[]uintptr{text("file"), text("user.a"), badAddress, 28, 0})
	args := words64(int64(bytesAt(list)), int64(len(list)), 0, 0)
	for _, size := range []uintptr{0, 15, 17, 24, 5000} {
		call{name: "setxattrat", number: 463}.make(fmt.Sprint("of size ", size),
			[]uintptr{fdcwd, text("file"), 0, text("user.b"), args, size})
	}
}
