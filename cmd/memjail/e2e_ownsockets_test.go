package main_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ownSockets connects to sockets of processes outside, and to some of its own.
const ownSockets = `import os, socket, sys
dir = sys.argv[1]
def attempt(name, do):
    try:
        do()
        print(name, "ok")
    except OSError:
        print(name, "refused")
def connect(path):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
def own(path):
    s = socket.socket(socket.AF_UNIX)
    s.bind(path)
    s.listen(1)
    connect(path)
os.chdir(dir + "/rw")
attempt("writable", lambda: connect(dir + "/rw/s"))
attempt("read-only", lambda: connect(dir + "/ro/s"))
attempt("in a directory that cannot be listed", lambda: connect(dir + "/ro/unlisted/s"))
attempt("relative", lambda: connect("s"))
attempt("not granted", lambda: connect(dir + "/out/s"))
attempt("by a descriptor", lambda: connect("/proc/self/fd/%d/s" % os.open(dir + "/ro", os.O_PATH)))
attempt("abstract", lambda: connect("\0memjail" + dir))
attempt("datagram", lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"x", dir + "/rw/d"))
attempt("named", lambda: connect(dir + "/ro/named"))
attempt("own", lambda: own(dir + "/rw/own"))
attempt("own abstract", lambda: own("\0memjail-own" + dir))
attempt("pair", socket.socketpair)
os.unlink(dir + "/rw/own")
`

// TestOwnSockets: under network.unix = "own" a program reaches its own sockets and no others.
func TestOwnSockets(t *testing.T) {
	for _, as := range accounts() {
		dir := as.workDir(t)
		for _, name := range []string{"rw", "ro", "out"} {
			if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
				t.Fatal(err)
			}
			as.own(t, filepath.Join(dir, name))
		}
		if err := os.Mkdir(filepath.Join(dir, "ro/unlisted"), 0o711); err != nil { // root's
			t.Fatal(err)
		}
		for _, name := range []string{dir + "/rw/s", dir + "/ro/s", dir + "/ro/unlisted/s", dir + "/out/s",
			dir + "/ro/named", "@memjail" + dir} {
			l, err := net.Listen("unix", name)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if name[0] == '/' {
				as.own(t, name)
			}
		}
		d, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: dir + "/rw/d", Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		as.own(t, dir+"/rw/d")
		try := []string{"/usr/bin/python3", "-c", ownSockets, dir}
		control := job{as: as, dir: dir, argv: try}.run(t)
		if strings.Count(control.stdout, " ok\n") != 12 {
			t.Fatalf("%s: control: %v", as.name, control)
		}
		const want = "writable refused\nread-only refused\nin a directory that cannot be listed refused\n" +
			"relative refused\nnot granted refused\n" +
			"by a descriptor refused\nabstract refused\ndatagram refused\nnamed ok\nown ok\nown abstract ok\npair ok\n"
		flags := []string{memjailPath(t), "run", "-q", "--unix", "own", "--unix", dir + "/ro/named", "--rox",
			"/usr", "--rox",
			"?/lib", "--rox", "?/lib64", "--ro", "/etc", "--rw", dir + "/rw", "--ro", dir + "/ro"}
		o := job{as: as, dir: dir + "/rw", argv: append(append(flags, "--view", "private", "--"), try...)}.run(t)
		if o.stdout != want {
			t.Errorf("%s: %v", as.name, o)
		}
		o = job{as: as, dir: dir + "/rw", argv: append(append(flags, "--landlock-abi", "8", "--"), try...)}.run(t)
		if o.code != 125 || !strings.Contains(o.stderr, "--view private") {
			t.Errorf("%s: without a view: %v", as.name, o)
		}
	}
}
