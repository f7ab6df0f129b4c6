package main_test

import (
	"os"
	"strings"
	"testing"
)

// viewFlags show a script what programs need, and of all else nothing.
func viewFlags(as account) func(top string) []string {
	return func(top string) []string {
		flags := []string{"--view", "private", "--tmp", "private", "--rox", "/usr", "--ro", "/etc", "--ro", "?/sys",
			"--ro", "?/var/lib", "--rw", "/dev/shm", "--rwx", "/tmp", "--rwx", top}
		if as.uid < 0 { // compilers in the home directory of who runs the tests
			home, _ := os.UserHomeDir()
			for _, dir := range []string{"/.cargo", "/.rustup", "/.pyenv", "/go", "/.cache/go-build"} {
				flags = append(flags, "--rox", "?"+home+dir)
			}
		}
		return flags
	}
}

// viewTests are further programs that have to go in a view as they go outside.
var viewTests = []sameTest{
	{name: "identity", script: `
id -u; id -g; whoami; pwd; ls -d /usr /etc; ps -o comm= -p $$; cat /proc/$$/comm; test -w . && echo writable`},
	{name: "venv", needs: "/usr/bin/python3", script: `
/usr/bin/python3 -m venv --without-pip env && . env/bin/activate && python -c 'import sys; print(sys.prefix != sys.base_prefix)'
/usr/bin/python3 - <<'EOF'
import multiprocessing as m
def f(x): return x * x
if __name__ == "__main__":
    with m.Pool(2) as p: print(p.map(f, range(4)))
EOF`},
	{name: "git-clone", needs: "git", script: `
git init -q origin && cd origin && git config user.email a@b && git config user.name a && echo x >f && git add f &&
git commit -qm first && cd .. && git clone -q origin copy && cat copy/f && cd copy && git status --short --branch`},
	{name: "npm", needs: "npm tar", script: `
mkdir -p pkg && echo '{"name":"own","version":"1.0.0","main":"i.js"}' >pkg/package.json &&
echo 'module.exports = 42' >pkg/i.js && tar czf own.tgz pkg && mkdir w && cd w && echo '{"name":"w","version":"1.0.0"}' >package.json
npm install --offline --no-audit --no-fund --no-update-notifier --cache ../cache ../own.tgz >log 2>&1 || cat log
node -e 'console.log(require("own"))'`},
	{name: "ssh-keygen", needs: "ssh-keygen", script: `
ssh-keygen -q -t ed25519 -N '' -f key && ssh-keygen -y -f key | cut -c1-11; ssh -G example.org | grep -c ^port`},
	{name: "pty", needs: "script", script: `script -qec 'tty | cut -c1-9; echo $((6*7))' /dev/null | tr -d '\r'`},
	{name: "shm", needs: "/usr/bin/python3", script: `
/usr/bin/python3 -c 'from multiprocessing import shared_memory as s
m = s.SharedMemory(create=True, size=8); m.buf[0] = 7; n = s.SharedMemory(name=m.name); print(n.buf[0]); n.close(); m.close(); m.unlink()'`},
}

// TestViewSame: programs go in a private view as they go outside.
func TestViewSame(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		for _, test := range append(viewTests, sameTests...) {
			if test.as == "root" && !as.isRoot() || test.as == "self" && as.uid >= 0 {
				continue
			}
			if test.name == "go" || test.name == "rust" { // they take long, and do what the others do
				continue
			}
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				as.needs(t, append(strings.Fields(test.needs), "bash")...)
				test.compareUnder(t, as, viewFlags(as))
			})
		}
	})
}
