package main_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// pythonExtension compiles a module in C with the headers of the Python that runs
// it, into a virtual environment in the working directory, and imports it there.
const pythonExtension = `
/usr/bin/python3 -m venv --without-pip env && . env/bin/activate
cat >own.c <<'EOF'
#include <Python.h>
static PyObject *twice(PyObject *module, PyObject *arg) {
	long n = PyLong_AsLong(arg);
	return n == -1 && PyErr_Occurred() ? NULL : PyLong_FromLong(2 * n);
}
static PyMethodDef methods[] = { { "twice", twice, METH_O, NULL }, { NULL } };
static struct PyModuleDef module = { PyModuleDef_HEAD_INIT, "own", NULL, -1, methods };
PyMODINIT_FUNC PyInit_own(void) { return PyModule_Create(&module); }
EOF
eval "$(python - <<'EOF'
import sysconfig
print("headers=%s packages=%s suffix=%s" % (sysconfig.get_paths()["include"], sysconfig.get_paths()["purelib"], sysconfig.get_config_var("EXT_SUFFIX")))
EOF
)"
gcc -shared -fPIC -I"$headers" -o "$packages/own$suffix" own.c && echo compiled
python - <<'EOF'
import own, subprocess, sys
print(own.twice(21), own.__file__.startswith(sys.prefix), sys.prefix != sys.base_prefix, flush=True)
subprocess.run([sys.executable, "-c", "import own; print(own.twice(2), flush=True)"], check=True)
try:
    own.twice("x")
except TypeError:
    print("refused by the module")
EOF
echo "status $?"`

// nodeAddon compiles an addon of Node-API and requires it, in the main thread and in
// a worker. That interface is a stable one, so the few lines of it that are needed
// stand here and no headers have to be installed.
const nodeAddon = `
mkdir -p node_modules/own; cd node_modules/own
cat >own.c <<'EOF'
#include <stddef.h>
#include <stdint.h>
typedef struct napi_env__ *napi_env;
typedef struct napi_value__ *napi_value;
typedef struct napi_callback_info__ *napi_callback_info;
typedef napi_value (*napi_callback)(napi_env, napi_callback_info);
int napi_get_cb_info(napi_env, napi_callback_info, size_t *, napi_value *, napi_value *, void **);
int napi_get_value_int32(napi_env, napi_value, int32_t *);
int napi_create_int32(napi_env, int32_t, napi_value *);
int napi_create_function(napi_env, const char *, size_t, napi_callback, void *, napi_value *);
static napi_value twice(napi_env env, napi_callback_info info) {
	napi_value arg, result;
	size_t count = 1;
	int32_t n;
	if (napi_get_cb_info(env, info, &count, &arg, NULL, NULL) || napi_get_value_int32(env, arg, &n) || napi_create_int32(env, 2 * n, &result))
		return NULL;
	return result;
}
napi_value napi_register_module_v1(napi_env env, napi_value exports) {
	napi_value function;
	return napi_create_function(env, "twice", 5, twice, NULL, &function) ? NULL : function;
}
EOF
echo '{"name":"own","version":"1.0.0","main":"own.node"}' >package.json
gcc -shared -fPIC -o own.node own.c && echo compiled; cd ../..
cat >main.js <<'EOF'
const { Worker, isMainThread } = require('worker_threads'), twice = require('own');
console.log(isMainThread, twice(21));
if (isMainThread) new Worker(__filename);
EOF
node main.js; echo "status $?"`

// needsHeaders skips where a module in C cannot be compiled.
func needsHeaders(t *testing.T) {
	t.Helper()
	const find = `import os, sysconfig; raise SystemExit(not os.path.exists(sysconfig.get_paths()["include"] + "/Python.h"))`
	if err := exec.Command("/usr/bin/python3", "-c", find).Run(); err != nil {
		t.Skip("this machine has no headers of Python (python3-dev)")
	}
}

// TestNativeModules: interpreters load code that was compiled in the working
// directory a moment ago as they do without memjail.
func TestNativeModules(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		t.Run("python", func(t *testing.T) {
			t.Parallel()
			as.needs(t, "bash", "gcc", "/usr/bin/python3")
			needsHeaders(t)
			prints(t, sameTest{script: pythonExtension}.compare(t, as),
				"compiled\n42 True True\n4\nrefused by the module\nstatus 0\n")
		})
		t.Run("node", func(t *testing.T) {
			t.Parallel()
			as.needs(t, "bash", "gcc", "node")
			prints(t, sameTest{script: nodeAddon}.compare(t, as), "compiled\ntrue 42\nfalse 42\nstatus 0\n")
		})
	})
}

func prints(t *testing.T, o outcome, want string) {
	t.Helper()
	if o.stdout != want {
		t.Errorf("control: want %q: %v", want, o)
	}
}

// ownPackage makes a package and puts overlays over the directories that installing
// it changes, in the mount namespace of the shell only. Their upper layers lie in a
// directory that nothing else is about.
const ownPackage = `set -e
mount -t tmpfs none /mnt
for dir in usr var etc; do
	mkdir /mnt/$dir /mnt/$dir.work
	mount -t overlay -o lowerdir=/$dir,upperdir=/mnt/$dir,workdir=/mnt/$dir.work none /$dir
done
mkdir -p own/DEBIAN own/usr/bin own/usr/lib/memjail-own own/etc lists/partial
cat >own/DEBIAN/control <<'EOF'
Package: memjail-own
Version: 1.0
Architecture: all
Maintainer: nobody <nobody@example.org>
Description: a package for a test
EOF
printf '#!/bin/sh\nset -e\necho configured >/usr/lib/memjail-own/made\n' >own/DEBIAN/postinst
printf '#!/bin/sh\nrm -f /usr/lib/memjail-own/made\n' >own/DEBIAN/prerm
printf '#!/bin/sh\ncat /usr/lib/memjail-own/made\n' >own/usr/bin/memjail-own
chmod 755 own/DEBIAN/postinst own/DEBIAN/prerm own/usr/bin/memjail-own
dpkg-deb --root-owner-group -b own own.deb >/dev/null
exec "$@"
`

// useOwnPackage installs the package, runs its program and removes it.
const useOwnPackage = `export DEBIAN_FRONTEND=noninteractive
apt="apt-get -qq -y -o Dir::State::lists=$PWD/lists -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=/dev/null"
$apt install ./own.deb >log 2>&1 && memjail-own && $apt remove memjail-own >log 2>&1 && echo removed
test -e /usr/bin/memjail-own -o -e /usr/lib/memjail-own && echo "left behind"
cat log >&2`

// TestPackageManager: with memory.code-files = "allow" a package is installed and
// removed as without memjail; by default nothing gets into the program directories.
func TestPackageManager(t *testing.T) {
	as := account{uid: -1}
	as.needs(t, "apt-get", "dpkg-deb", "unshare")
	if os.Geteuid() != 0 {
		t.Skip("only root installs packages")
	}
	if out, err := exec.Command("unshare", "-m", "sh", "-c", "mount -t tmpfs none /mnt").CombinedOutput(); err != nil {
		t.Skipf("nothing can be mounted here: %s", out)
	}
	memjail := memjailPath(t)
	for _, test := range []struct {
		name     string
		launcher []string
		done     bool
	}{
		{"control", nil, true},
		{"allow", []string{memjail, "run", "-q", "--allow", "code-files=allow", "--"}, true},
		{"protect", []string{memjail, "run", "-q", "--"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := as.workDir(t)
			argv := append([]string{"unshare", "-m", "sh", "-c", ownPackage, "sh"}, test.launcher...)
			o := job{as: as, dir: dir, argv: append(argv, "sh", "-c", useOwnPackage)}.run(t)
			switch {
			case test.done && o.stdout != "configured\nremoved\n":
				t.Errorf("not installed and removed: %v", o)
			case !test.done && (o.stdout != "" || !strings.Contains(o.stderr, "Permission denied")):
				t.Errorf("not refused: %v", o)
			}
			if _, err := os.Stat("/usr/bin/memjail-own"); err == nil {
				t.Fatal("the package got out of its mount namespace")
			}
		})
	}
}
