package main_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// sameTest is a bash script that has to go inside exactly as it goes outside.
type sameTest struct {
	name   string
	needs  string // programs, separated by blanks
	as     string // "root": only root can do it; "self": only the tests' own account has the program
	script string
	// digits hides numbers, which differ from one run to the next.
	digits bool
}

// sameTests are run by each account, without memjail and inside, in directories
// of the same name; standard output, standard error and the exit status are
// compared. Most of what they print, they also check: a script that prints
// nothing on both sides would compare well.
var sameTests = []sameTest{
	{name: "pipelines", script: `
set -o pipefail
seq 1000 | grep 7 | sort -rn | tee kept | head -3
wc -l <kept
printf 'a\nb\n' | while read -r x; do echo "<$x>"; done
false | true | (exit 3) | cat; echo "${PIPESTATUS[*]} $?"
(echo err >&2; echo out) 2>&1 | sort`},
	{name: "process-substitution", script: `
diff <(seq 1 5) <(seq 1 6)
paste <(printf '1\n2\n') <(printf 'a\nb\n')
echo hello | tee >(tr a-z A-Z >up) >/dev/null; sleep 0.2; cat up
while read -r l; do echo "[$l]"; done < <(echo one; echo two)
cat <(cat <(echo nested))`},
	{name: "here-documents", needs: "python3", script: `
cat <<EOF
short $((1+1))
EOF
wc -c <<<"$(seq 30000)"
python3 - <<'EOF'
print("from standard input")
EOF
cat /dev/fd/3 3<<<'on three'`},
	{name: "redirections", script: `
exec 5>five; echo a >&5; exec 5>&-; cat five
exec 6<>six; echo b >&6; cat /proc/self/fd/6 6<six; cat /dev/fd/6 6<five
echo c | cat /dev/stdin; (echo d >/dev/stdout; echo e >/dev/stderr) 2>&1 | cat
echo f >/dev/null; head -c 4 /dev/zero | od -An -tx1; head -c 8 /dev/urandom | wc -c
echo g >/dev/full; echo "status $?"
umask 027; echo h >masked; stat -c %a masked`},
	{name: "background-jobs", script: `
sleep 30 & p=$!; kill $p; wait $p; echo "killed: $?"
(exit 4) & wait $!; echo "status $?"
for i in 1 2 3; do (sleep 0.$i; echo $i) & done; wait
trap 'echo trapped' USR1; kill -USR1 $$
timeout 0.2 sleep 5; echo "timeout $?"
seq 20 | xargs -P4 -n1 echo | sort -n | tail -1`},
	{name: "files", script: `
mkdir -p a/b; echo x >a/f; ln a/f a/hard; ln -s f a/soft; cat a/soft a/hard
mv a/f a/b/g; cp -a a c; chmod 640 c/hard; stat -c '%a %h' c/hard
find . -type f | sort; tar cf - a | tar tf - | sort; rm -r a; ls
truncate -s 10 t; dd if=/dev/zero of=t bs=1 count=3 seek=2 conv=notrunc status=none; wc -c <t
touch -d '2020-01-01 UTC' t; date -u -r t +%F; df . >/dev/null && du -s c >/dev/null && echo ok
cat missing; cat /; echo "$?"; rmdir c; echo "$?"`},
	{name: "ps", needs: "ps", script: `
ps -e -o comm= | grep -cx ps
ps -o comm= -p $$; ps -o stat= -p $$ | cut -c1
ps -ef | awk -v me=$$ '$2 == me { n++ } END { print n }'
ps aux | head -1; ps -eLo tid,comm | grep -c ' ps$'
cat /proc/$$/comm /proc/self/comm; tr '\0' ' ' </proc/self/cmdline; echo`},
	{name: "top", needs: "top", script: `
top -b -n1 >out; echo "status $?"
cut -c1-3 out | head -1; grep -c '^ *PID USER' out; grep -c ' top *$' out; grep -c 'Mem :' out`},
	{name: "procps", needs: "free vmstat uptime pgrep", script: `
free | awk '{ print $1 }'; vmstat | head -2 | tail -1; uptime | grep -c 'load average'
bash -c 'exec -a mj-named sleep 5' & sleep 0.3; pgrep -P $$ -f '^mj-named' | wc -l; kill $!
nproc; mount | grep -c ' /proc '; sysctl -n kernel.ostype; w -h >/dev/null; echo $?`},
	{name: "lsof", needs: "lsof", script: `
touch seven
bash -c 'exec lsof -w -a -p $$ -d cwd,0' <seven | awk 'NR > 1 { print $1, $4, $NF }'
bash -c 'exec lsof -w -a -p $$ -d 1,2' 2>&1 | awk '{ print $1, $4, $5 }' | cat
bash -c 'exec lsof -w -p $$' | grep -c ' txt '`},
	{name: "procfs", digits: true, script: `
wc -l </proc/cpuinfo; wc -l /proc/cpuinfo
for f in meminfo stat loadavg uptime version filesystems mounts self/status self/stat self/statm \
	self/cgroup self/limits self/mountinfo self/auxv self/environ self/maps self/smaps self/io self/cmdline \
	self/oom_score thread-self/stat sys/kernel/pid_max sys/kernel/hostname sys/vm/overcommit_memory net/dev self/net/tcp; do
	head -c 1 /proc/$f >/dev/null && echo "$f ok"
done
ls /proc/self/fd; ls /proc | grep -cx self
readlink /proc/self/exe; cat /proc/self/maps | grep -c /cat; grep -c VmRSS /proc/self/status
cat /proc/self/nothing; cat /proc/nothing; cat /proc/self; echo $?
echo 500 >/proc/self/oom_score_adj; cat /proc/self/oom_score_adj
printf renamed >/proc/self/comm; cat /proc/$$/comm
head -1 /etc/mtab | wc -l; cat /dev/stdin </proc/loadavg | wc -l`},
	{name: "python", needs: "python3", script: pythonScript},
	{name: "node", needs: "node", script: nodeScript},
	{name: "java", needs: "java javac", script: javaScript},
	{name: "gcc-make", needs: "gcc make", script: makeScript},
	{name: "rust", needs: "rustc", as: "self", script: `
cat >r.rs <<'EOF'
use std::{process::Command, thread};
fn main() {
    let t = thread::spawn(|| (1..=10).sum::<u32>());
    println!("{}", t.join().unwrap());
    let out = Command::new("echo").arg("child").output().unwrap();
    print!("{}", String::from_utf8_lossy(&out.stdout));
    std::process::exit(3);
}
EOF
rustc r.rs && ./r; echo "status $?"`},
	{name: "go", needs: "go", digits: true, script: goScript},
	{name: "git", needs: "git", script: `
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'
git init -q -b main r; cd r; echo one >f; git add f; git commit -q -m one
echo two >>f; git commit -qam two; git log --oneline; git diff --stat HEAD~1; cd ..
git clone -q r c; git -C c log -1 --format=%s; git clone -q "file://$PWD/r" d; git -C d rev-parse HEAD
echo three >>c/f; git -C c commit -qam three; git -C c push -q origin HEAD:topic; git -C r branch
git -C r gc -q; git -C r fsck 2>&1; git -C r -c advice.detachedHead=false checkout -q HEAD~1; cat r/f
git -C r stash list; git -C r archive HEAD | tar t`},
	{name: "fifo", script: `
mkfifo p; echo through >p & cat p; wait
cat p >got & printf 'a\nb\n' >p; wait; cat got
(sleep 0.2; echo late >p) & read -r x <p; echo "$x"; wait
exec 8<>p; echo both >&8; read -r y <&8; echo "$y"
timeout 0.3 cat p; echo "blocked $?"`},
	{name: "flock", needs: "flock", script: `
flock l sh -c 'flock -n l true; echo "held $?"'; flock -n l echo free
(flock 9; sleep 0.3; echo first) 9>l & sleep 0.1; flock l echo second; wait
flock -s l flock -s -n l echo shared`},
	{name: "tmpfile", needs: "python3", script: `
python3 - <<'EOF'
import fcntl, os
fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640)
os.write(fd, b"nameless")
print(os.fstat(fd).st_nlink, oct(os.fstat(fd).st_mode))
os.link(f"/proc/self/fd/{fd}", "named", src_dir_fd=os.open("/", os.O_PATH), follow_symlinks=True)
print(open("named").read(), os.fstat(fd).st_nlink)
again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
print(os.read(again, 99), again - fd)
m = os.memfd_create("m"); os.write(m, b"memfd"); print(open(f"/proc/self/fd/{m}").read())
fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB); print("locked")
EOF`},
	{name: "setpriv", needs: "setpriv ps", as: "root", script: `
chmod 755 .
setpriv --reuid=65534 --regid=65534 --clear-groups bash -c '
id -u; cat /proc/self/comm; wc -l </proc/cpuinfo | grep -c .; ps -e -o comm= | grep -cx ps
grep -c "/grep$" /proc/self/maps | grep -c .; echo x >denied; cat /etc/shadow; echo "$?"
head -c1 /proc/self/environ | wc -c; head -c1 /proc/1/environ | wc -c; echo 900 >/proc/self/oom_score_adj; cat /proc/self/oom_score_adj'
chown 65534 . && setpriv --reuid=65534 --clear-groups touch mine && stat -c %u mine
chroot / id -u; nice -n 5 nice; hostname | grep -c .`},
	{name: "gpg", needs: "gpg gpgconf", script: `
export GNUPGHOME=$PWD/g; mkdir -m 700 g; echo secret text >plain
gpg --batch --quiet --pinentry-mode loopback --passphrase pw -c plain; echo "status $?"
gpg --batch --quiet --pinentry-mode loopback --passphrase pw -d plain.gpg 2>/dev/null; echo "status $?"
gpgconf --kill gpg-agent
gpg --batch --quiet --pinentry-mode loopback --passphrase no -d plain.gpg >/dev/null 2>&1; echo "wrong $?"
gpgconf --kill gpg-agent; ls g | grep -c .`},
	{name: "ssh-agent", needs: "ssh-agent ssh-add ssh-keygen", script: `
eval "$(ssh-agent -s)" >/dev/null; ssh-keygen -q -t ed25519 -N '' -C key -f k; ssh-add -q k
ssh-add -l | awk '{ print $1, $3, $4 }'; ssh-agent -k >/dev/null; echo "status $?"
while [ -S "$SSH_AUTH_SOCK" ]; do sleep 0.05; done; ssh-add -l 2>/dev/null; echo "gone $?"`},
	{name: "tmux", needs: "tmux", script: `
tmux -f /dev/null -S "$PWD/t" new-session -d -x 80 -y 24 'tty | grep -c /dev/pts >out; stty size >>out; echo done >>out; sleep 5'
for i in $(seq 50); do grep -qs done out && break; sleep 0.1; done; cat out
tmux -S "$PWD/t" kill-server; echo "$?"`},
	{name: "environment", script: `
env | grep -v '^_=' | sort; pwd; ulimit -n; ulimit -s; umask; nice; echo "$#" "$@"`},
	{name: "loader", script: `
cp /bin/echo ./e; ./e copied
printf '#!/bin/sh\necho script "$@"\n' >s; chmod +x s; ./s 1 2; printf '#!/nonexistent\n' >n; chmod +x n; ./n; echo "$?"
LD_PRELOAD=/nonexistent.so ./e preload; chmod -x e; ./e; echo "$?"; kill -SEGV $$`},
}

const pythonScript = `
cat >p.py <<'EOF'
import asyncio, ctypes, mmap, multiprocessing, os, socket, sqlite3, subprocess, sys, tempfile, threading, time
from multiprocessing import shared_memory

def square(x):
    return x * x

async def child():
    p = await asyncio.create_subprocess_exec("echo", "async", stdout=asyncio.subprocess.PIPE)
    print((await p.communicate())[0], p.returncode)

def processes():
    print(subprocess.run(["sh", "-c", "echo sub; exit 3"], capture_output=True, text=True))
    print(subprocess.check_output("cat | tr a-z A-Z", input=b"text", shell=True))
    with multiprocessing.Pool(3) as pool:
        print(pool.map(square, range(10)))
    for method in "fork", "spawn", "forkserver":
        context = multiprocessing.get_context(method)
        q = context.Queue()
        p = context.Process(target=q.put, args=(method,))
        p.start(); print(q.get(timeout=20)); p.join(); print(p.exitcode)
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), 9)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), os.cpu_count() > 0)
    asyncio.run(child())

def threads():
    done = []
    ts = [threading.Thread(target=lambda i=i: (time.sleep(0.05 * i), done.append(i))) for i in range(5)]
    [t.start() for t in ts]; [t.join() for t in ts]
    print(done)

def memory():
    s = shared_memory.SharedMemory(create=True, size=64); s.buf[0] = 7; print(s.buf[0]); s.close(); s.unlink()
    m = mmap.mmap(-1, 4096); m[0] = 1; print(m[0])
    print(ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda x: x + 1)(41))

def sockets():
    a, b = socket.socketpair(); a.send(b"hi"); print(b.recv(9))
    server = socket.create_server(("127.0.0.1", 0)); c = socket.create_connection(server.getsockname())
    server.accept()[0].send(b"tcp"); print(c.recv(9))
    u = socket.socket(socket.AF_UNIX); u.bind("sock"); u.listen(); v = socket.socket(socket.AF_UNIX); v.connect("sock")
    v = socket.socket(socket.AF_UNIX); v.connect("sock"); print("unix", v.getpeername())

def files():
    db = sqlite3.connect("db"); db.execute("pragma journal_mode=wal"); db.execute("create table t(x)")
    db.execute("insert into t values(5)"); db.commit(); print(db.execute("select * from t").fetchall()); db.close()
    fd, name = tempfile.mkstemp(); os.write(fd, b"x"); os.unlink(name); print(os.fstat(fd).st_nlink)
    try: open("/nonexistent/x")
    except OSError as e: print(e)

if __name__ == "__main__":
    for part in processes, threads, memory, sockets, files:
        part(); sys.stdout.flush()
    sys.exit(9)
EOF
python3 p.py; echo "status $?"`

const nodeScript = `
cat >n.js <<'EOF'
const fs = require('fs'), cp = require('child_process'), os = require('os'), http = require('http');
const { Worker } = require('worker_threads');
fs.writeFileSync('f', 'text'); console.log(fs.readFileSync('f', 'utf8'), fs.readdirSync('.').length);
console.log(cp.execFileSync('sh', ['-c', 'echo child']).toString().trim(), cp.spawnSync('sh', ['-c', 'exit 5']).status);
console.log(os.cpus().length > 0, os.totalmem() > 0, os.uptime() > 0, process.memoryUsage().rss > 0);
new Worker("require('worker_threads').parentPort.postMessage(6*7)", { eval: true }).on('message', m => {
  console.log('worker', m);
  const s = http.createServer((q, r) => r.end('served')).listen(0, '127.0.0.1', () =>
    http.get({ port: s.address().port, host: '127.0.0.1', agent: false }, r => r.on('data', d => {
      console.log(d.toString()); s.close(); process.exitCode = 6;
    })));
});
EOF
node n.js; echo "status $?"`

const javaScript = `
cat >J.java <<'EOF'
import java.nio.file.*;
import java.util.stream.*;

public class J {
    public static void main(String[] a) throws Exception {
        Files.writeString(Path.of("f"), "text");
        System.out.println(Files.readString(Path.of("f")));
        System.out.println(IntStream.range(0, 100000).parallel().mapToLong(x -> x).sum());
        Thread t = new Thread(() -> System.out.println("thread"));
        t.start();
        t.join();
        Process p = new ProcessBuilder("sh", "-c", "echo child; exit 3").start();
        System.out.println(new String(p.getInputStream().readAllBytes()).trim() + " " + p.waitFor());
        System.out.println(ProcessHandle.current().info().command().isPresent());
        System.out.println(Runtime.getRuntime().availableProcessors() > 0);
        for (int i = 0; i < 50; i++)
            System.identityHashCode(new byte[1 << 20]);
        System.gc();
        System.exit(4);
    }
}
EOF
javac J.java && java -Xmx128m -cp . J; echo "status $?"`

const makeScript = `
mkdir src; for i in 1 2 3 4; do echo "int f$i(void) { return $i; }" >src/f$i.c; done
cat >src/main.c <<'EOF'
#include <pthread.h>
#include <stdio.h>
int f1(void), f2(void), f3(void), f4(void);
static void *run(void *p) { *(int *)p = f1() + f2() + f3() + f4(); return 0; }
int main(void)
{
	pthread_t t;
	int n = 0;
	pthread_create(&t, 0, run, &n);
	pthread_join(t, 0);
	printf("%d\n", n);
	return n;
}
EOF
cat >Makefile <<'EOF'
objects = $(patsubst %.c,%.o,$(wildcard src/*.c))
prog: libf.a src/main.o
	gcc -g -o $@ src/main.o -L. -lf -pthread
check: prog
	@./prog | grep -qx 10 && echo passed
libf.a: $(filter-out src/main.o,$(objects))
	ar rcs $@ $^
%.o: %.c
	@gcc -O2 -Wall -c -o $@ $<
EOF
make -j2 -s && ./prog; echo "status $?"; make -s check; make -q; echo "up to date $?"
echo 'int main(void) { return undefined; }' >bad.c; gcc bad.c 2>/dev/null; echo "bad $?"`

const goScript = `
export GOCACHE=$GOCACHE_SHARED GOPATH=$PWD/gopath
mkdir m; cd m; printf 'module example.test/m\n\ngo 1.21\n' >go.mod
echo "// Package m is new each time: $RANDOM$RANDOM." >m.go; cat >>m.go <<'EOF'
package m

func Double(x int) int { return 2 * x }
EOF
cat >m_test.go <<'EOF'
package m

import (
	"os"
	"os/exec"
	"testing"
)

func TestDouble(t *testing.T) {
	if Double(4) != 8 {
		t.Fatal("wrong")
	}
	if err := os.WriteFile(t.TempDir()+"/f", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("true").Run(); err != nil {
		t.Fatal(err)
	}
}
EOF
mkdir cmd; cat >cmd/main.go <<'EOF'
package main

import (
	"fmt"
	"os"

	"example.test/m"
)

func main() { fmt.Println("built", m.Double(21) == 42); os.Exit(7) }
EOF
go vet ./... && go build -o prog ./cmd && ./prog; echo "status $?"
go test -count=1 ./...; echo "tests $?"`

// TestSame compares each script outside and inside, for each account.
func TestSame(t *testing.T) {
	t.Parallel()
	forAccounts(t, func(t *testing.T, as account) {
		for _, test := range sameTests {
			if test.as == "root" && !as.isRoot() || test.as == "self" && as.uid >= 0 {
				continue
			}
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				as.needs(t, append(strings.Fields(test.needs), "bash")...)
				test.compare(t, as)
			})
		}
	})
}

// compare runs the script on both sides, and returns what it did outside.
func (s sameTest) compare(t *testing.T, as account) outcome {
	return s.compareUnder(t, as, func(string) []string { return nil })
}

// compareUnder compares with what the script does inside with flags, which get the directory
// that the script's own is in.
func (s sameTest) compareUnder(t *testing.T, as account, flags func(top string) []string) outcome {
	// The script and the compiler's cache lie beside the directory that is made
	// again for each side, so that both sides see the same names.
	top := as.workDir(t)
	script := filepath.Join(top, "script")
	if err := os.WriteFile(script, []byte(s.script+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	env := []string{"GOCACHE_SHARED=" + filepath.Join(top, "cache")}
	run := func(argv ...string) outcome {
		dir := filepath.Join(top, "w")
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		as.own(t, dir)
		return s.normalize(job{as: as, dir: dir, env: env, argv: argv, timeout: 2 * time.Minute}.run(t))
	}
	outside := run("bash", script, "argument")
	within := run(slices.Concat([]string{memjailPath(t), "run"}, flags(top),
		[]string{"--", "bash", script, "argument"})...)
	if outside.stdout == "" {
		t.Errorf("control: nothing was printed without memjail: %v", outside)
	}
	if outside != within {
		t.Errorf("not the same.\n=== without memjail: %v\n=== inside: %v", outside, within)
	}
	return outside
}

var (
	digits = regexp.MustCompile(`[0-9]+(\.[0-9]+)?`)
	// What bash says of a job that a signal has ended holds its pid.
	jobEnded = regexp.MustCompile(`(?m)^(\S*script: line \d+: +)\d+ `)
)

// normalize hides what differs from one run to the next.
func (s sameTest) normalize(o outcome) outcome {
	for _, text := range []*string{&o.stdout, &o.stderr} {
		*text = jobEnded.ReplaceAllString(*text, "${1}PID ")
		if s.digits {
			*text = digits.ReplaceAllString(*text, "N")
		}
	}
	return o
}
