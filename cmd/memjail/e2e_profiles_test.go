package main_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// work is what somebody does in one directory, as a shell script that fails with
// its first failing line and prints what the test knows.
type work struct {
	name   string
	needs  []string
	files  map[string]string
	script string
	prints string
}

var works = []work{
	{"a C build that runs its own tests", []string{"make", "gcc"}, map[string]string{
		"Makefile": "CFLAGS = -O1\ncheck: main\n\t./main | grep -qx 42 && echo passed\nmain: main.o " +
			"part.o\nclean:\n\trm -f *.o main\n",
		"main.c": "#include <stdio.h>\nint part(void);\nint main(void) { printf(\"%d\\n\", part()); return 0; }\n",
		"part.c": "int part(void) { return 42; }\n",
	}, "make -s clean check", "passed"},
	{"git", []string{"git"}, map[string]string{"file": "text\n"},
		"git init -q . && git add file && git -c user.name=N -c user.email=n@example.org commit -qm " +
			"first && git log --format=%s && git gc -q", "first"},
	{"Python's unit tests", []string{"/usr/bin/python3"}, map[string]string{
		"test_own.py": "import unittest, tempfile, subprocess, sys\nclass T(unittest.TestCase):\n" +
			"    def test_file(self):\n        with tempfile.TemporaryFile() as f: f.write(b'x')\n" +
			"    def test_process(self):\n        subprocess.run([sys.executable, '-c', 'pass'], check=True)\n",
	}, "/usr/bin/python3 -m unittest -q 2>/dev/null && echo passed", "passed"},
	{"a virtual environment with a local package", []string{"/usr/bin/python3"}, map[string]string{
		"wheel.py": "import zipfile\nz = zipfile.ZipFile('tiny-1.0-py3-none-any.whl', 'w')\n" +
			"z.writestr('tiny.py', 'answer = 42')\n" +
			"z.writestr('tiny-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n')\n" +
			"z.writestr('tiny-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nGenerator: " +
			"x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n" +
			"z.writestr('tiny-1.0.dist-info/RECORD', '')\nz.close()\n",
	}, "/usr/bin/python3 wheel.py && /usr/bin/python3 -m venv env && " +
		"env/bin/pip install -q --no-cache-dir --disable-pip-version-check --no-index ./tiny-1.0-py3-none-any.whl && " +
		"env/bin/python -c 'import tiny; print(tiny.answer)'", "42"},
	{"archives, copies and installation", []string{"tar", "rsync", "install", "setfattr", "setfacl", "getfattr",
		"getfacl"}, map[string]string{"src/d/f": "text\n"},
		"chmod 640 src/d/f; setfattr -n user.test -v 1234567890123456789012345678 src/d/f; setfacl -m " +
			"u:1:r src/d/f; touch -d '2001-02-03 UTC' src/d/f; " +
			"ln -s f src/d/l; touch -h -d '2002-02-03 UTC' src/d/l; chown -h $(id -u) src/d/l; " +
			"tar --xattrs --acls -cf a.tar src; mkdir x; tar --xattrs --acls -xpf a.tar -C x; cp -a src " +
			"y; rsync -aXA src/ z/; " +
			"install -D -p -m 750 src/d/f dest/usr/bin/f; stat -c '%a %Y' dest/usr/bin/f; " +
			"for i in x/src y z; do stat -c '%a %Y' $i/d/f $i/d/l; getfattr -n user.test --only-values " +
			"$i/d/f; echo; getfacl -cn $i/d/f | grep user:1; done | sort | uniq -c | tr -s ' '",
		"750 981158400\n 3 1234567890123456789012345678\n 3 640 981158400\n 3 777 1012694400\n 3 user:1:r--"},
	{"an npm package from a local archive", []string{"npm", "node"}, map[string]string{
		"tiny/package.json": `{"name":"tiny","version":"1.0.0","main":"index.js"}`,
		"tiny/index.js":     "module.exports = 42",
		"app/package.json":  `{"name":"app","version":"1.0.0"}`,
	}, "export npm_config_cache=$PWD/cache npm_config_update_notifier=false; (cd tiny && npm pack -s >/dev/null) && " +
		"cd app && npm install -s --offline --no-audit --no-fund ../tiny/tiny-1.0.0.tgz >/dev/null && " +
		"node -e 'console.log(require(\"tiny\"))'", "42"},
}

// TestWorkspace: what is done in a directory of work is done there as without
// memjail, and the home directory stays closed.
func TestWorkspace(t *testing.T) {
	t.Parallel()
	forAccounts(t, func(t *testing.T, as account) {
		for _, w := range works {
			t.Run(w.name, func(t *testing.T) {
				t.Parallel()
				as.needs(t, w.needs...)
				home := as.homeDir(t)
				plantSecret(t, as, home)
				for _, launcher := range [][]string{nil, {memjailPath(t), "run", "-q", "-p", "workspace", "--"}} {
					dir := as.workDir(t)
					for name, text := range w.files {
						plantFile(t, as, dir, name, text)
					}
					script := "set -e; " + w.script + "; cat \"$HOME/.ssh/id\" 2>/dev/null || echo closed"
					o := job{as: as, dir: dir, argv: append(launcher, "sh", "-c", script),
						env: []string{"HOME=" + home}, timeout: 2 * time.Minute}.run(t)
					want := w.prints + "\nsecret\n"
					if launcher != nil {
						want = w.prints + "\nclosed\n"
					}
					if o.code != 0 || o.stdout != want {
						t.Errorf("%q: want %q: %v", launcher, want, o)
					}
				}
			})
		}
	})
}

func plantSecret(t *testing.T, as account, home string) {
	t.Helper()
	plantFile(t, as, home, ".ssh/id", "secret\n")
}

func plantFile(t *testing.T, as account, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	for up := filepath.Dir(path); len(up) > len(dir); up = filepath.Dir(up) {
		if err := os.MkdirAll(up, 0o755); err != nil {
			t.Fatal(err)
		}
		as.own(t, up)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	as.own(t, path)
}

// freePort is a port that nobody listens on, a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// startDaemon starts a daemon in the foreground under the policy for services and
// waits until it answers on its port.
func startDaemon(t *testing.T, as account, dir, port string, argv ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	cmd := job{as: as, dir: dir, argv: become(t, []string{"-p", "service", "--bind-tcp", port}, argv...),
		env: []string{"STATE_DIRECTORY=" + dir}}.command(t, ctx)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", argv[0], &said)
		}
	})
	eventually(t, 20*time.Second, argv[0]+" answers", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return cmd
}

// TestServiceNginx: a web server answers under load, and loses nothing over a
// reload.
func TestServiceNginx(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		as.needs(t, "nginx")
		dir, port := as.workDir(t), freePort(t)
		page := strings.Repeat("page ", 1000)
		plantFile(t, as, dir, "www/index.html", page)
		config := fmt.Sprintf("worker_processes 2;\npid %[1]s/pid;\nerror_log %[1]s/error.log;\nevents "+
			"{}\nhttp { access_log off;\n"+
			"client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; "+
			"uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;\n"+
			"server { listen 127.0.0.1:%[2]s; root %[1]s/www; } }\n", dir, port)
		if as.isRoot() {
			config = "user root;\n" + config
		}
		plantFile(t, as, dir, "conf", config)
		cmd := startDaemon(t, as, dir, port, "nginx", "-p", dir, "-c", dir+"/conf", "-e", dir+"/error.log",
			"-g", "daemon off;")
		var callers sync.WaitGroup
		failures := make(chan error, 1000)
		for range 4 {
			callers.Go(func() {
				for range 100 {
					if err := fetch("http://127.0.0.1:"+port+"/", page); err != nil {
						failures <- err
					}
				}
			})
		}
		cmd.Process.Signal(syscall.SIGHUP) // the process that was started is the server itself
		callers.Wait()
		close(failures)
		for err := range failures {
			t.Error(err)
		}
	})
}

func fetch(url, want string) error {
	r, err := http.Get(url)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if string(body) != want {
		return fmt.Errorf("got %d bytes, want %d", len(body), len(want))
	}
	return nil
}

// TestServiceRedis: a database keeps what it is given, also over a dump by a forked
// process.
func TestServiceRedis(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		as.needs(t, "redis-server")
		dir, port := as.workDir(t), freePort(t)
		startDaemon(t, as, dir, port, "redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", dir,
			"--save", "", "--daemonize", "no")
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		answers := bufio.NewReader(c)
		ask := func(command string) string {
			fmt.Fprintf(c, "%s\r\n", command)
			line, err := answers.ReadString('\n')
			if err != nil {
				t.Fatalf("%s: %v", command, err)
			}
			if strings.HasPrefix(line, "$") && line != "$-1\r\n" {
				if line, err = answers.ReadString('\n'); err != nil {
					t.Fatalf("%s: %v", command, err)
				}
			}
			return strings.TrimSpace(line)
		}
		for i := range 500 {
			if a := ask(fmt.Sprintf("SET key%d value%d", i, i)); a != "+OK" {
				t.Fatalf("SET: %s", a)
			}
		}
		if a := ask("BGSAVE"); !strings.Contains(a, "saving started") {
			t.Errorf("BGSAVE: %s", a)
		}
		for i := range 500 {
			if a := ask(fmt.Sprintf("GET key%d", i)); a != fmt.Sprintf("value%d", i) {
				t.Fatalf("GET: %s", a)
			}
		}
		eventually(t, 10*time.Second, "the dump is written", func() bool {
			st, err := os.Stat(filepath.Join(dir, "dump.rdb"))
			return err == nil && st.Size() > 0
		})
	})
}

// TestOwnDenials: a call and a group that the user's own policy refuses are refused,
// and others are not.
func TestOwnDenials(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		dir := as.workDir(t)
		plantFile(t, as, dir, "own.toml", "version = 1\n[syscalls]\ndeny = [\"@clock\", \"keyctl\"]\n")
		list := filepath.Join(dir, "list")
		numbers := []int{unix.SYS_KEYCTL, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_ADJTIME, unix.SYS_GETPRIORITY,
			unix.SYS_FCHDIR}
		var lines strings.Builder
		for _, n := range numbers {
			fmt.Fprintf(&lines, "call %d\n", n)
		}
		if err := os.WriteFile(list, []byte(lines.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		try := attackProgram(t, "c/try.c")
		made := func(launcher ...string) []string {
			stdin, err := os.Open(list)
			if err != nil {
				t.Fatal(err)
			}
			defer stdin.Close()
			return strings.Fields(job{as: as, dir: dir, argv: append(launcher, try), stdin: stdin}.run(t).stdout)
		}
		outside, inside := made(), made(memjailPath(t), "run", "-q", "-p", "own.toml", "--")
		if len(outside) != len(numbers) || len(inside) != len(numbers) {
			t.Fatalf("outside %q, inside %q", outside, inside)
		}
		eperm := strconv.Itoa(int(unix.EPERM))
		for i, n := range numbers {
			refused := i < 3
			if refused != (inside[i] == eperm) || outside[i] == eperm || !refused && inside[i] != outside[i] {
				t.Errorf("call %d: errno %s inside, %s outside", n, inside[i], outside[i])
			}
		}
	})
}
