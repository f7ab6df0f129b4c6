package main_test

import (
	"crypto/sha256"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/memjail/memjail/cmd/memjail/oci"
)

// readMemory is a command of a container's shell that reads three bytes of the memory of
// process 1, where a program begins.
const readMemory = `dd if=/proc/1/mem bs=4096 skip=1024 count=1 2>/dev/null | head -c 4 | tail -c 3`

// ociBundle makes a bundle with busybox, whose first process attacks itself and then waits
// for SIGTERM.
func ociBundle(t *testing.T, as account, dir string) {
	t.Helper()
	for _, name := range []string{"bin", "dev", "etc", "proc", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, "rootfs", name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	shell(t, dir, `cp "$(command -v busybox)" rootfs/bin && cd rootfs/bin &&
		for name in cat dd echo head id kill mkdir mount mv ps sh sleep tail touch true tty; do ln -s busybox $name; done`)
	if as.uid >= 0 {
		shell(t, dir, "chown -R "+strconv.Itoa(as.uid)+":"+strconv.Itoa(as.uid)+" .")
	}
	argv := []string{"runc", "spec"}
	if !as.isRoot() {
		argv = append(argv, "--rootless")
	}
	if o := (job{as: as, dir: dir, argv: argv}).run(t); o.code != 0 {
		t.Fatalf("runc spec: %v", o)
	}
	config := readConfig(t, dir)
	process := config["process"].(map[string]any)
	process["terminal"] = false
	process["args"] = []string{"sh", "-c", `echo "first: $(` + readMemory + `)"
		trap "echo stopped; exit 7" TERM; while :; do sleep 0.1; done`}
	// Of the capabilities that engines give, those that matter to processes and devices.
	capabilities := process["capabilities"].(map[string]any)
	for name := range capabilities {
		capabilities[name] = []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID",
			"CAP_SETUID",
			"CAP_MKNOD", "CAP_SYS_CHROOT"}
	}
	config["x-unknown"] = map[string]any{"kept": "<&>"}
	writeJSON(t, filepath.Join(dir, "config.json"), config)
	process["args"] = []string{"sh", "-c", `echo "exec process: $(` + readMemory + `)"`}
	writeJSON(t, filepath.Join(dir, "process.json"), process)
	as.own(t, filepath.Join(dir, "process.json"))
	as.own(t, filepath.Join(dir, "config.json"))
}

func readConfig(t *testing.T, dir string) map[string]any {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	return config
}

func writeJSON(t *testing.T, name string, v any) {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// copyTestFile copies a file of testdata/containers to where every account reads it.
func copyTestFile(t *testing.T, name, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "testdata", "containers", name))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, text, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// inRoom returns a command that runs another one in testdata/containers/room, as an
// account. The room takes root; without it the command runs as it is.
func inRoom(t *testing.T, as account, dir string, argv ...string) []string {
	t.Helper()
	if os.Geteuid() != 0 {
		return argv
	}
	room := []string{copyTestFile(t, "room", dir)}
	if as.uid >= 0 {
		id := strconv.Itoa(as.uid)
		room = append(room, "setpriv", "--reuid", id, "--regid", id, "--clear-groups")
	}
	return append(room, argv...)
}

// TestOCIBundle runs a bundle with each runtime as it is, the control, and through
// memjail-oci: every way into the container that the runtime has.
func TestOCIBundle(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		for _, runtime := range []string{"runc", "crun"} {
			t.Run(runtime, func(t *testing.T) {
				as.needs(t, "busybox", "runc", runtime, "dd")
				if runtime == "crun" && os.Geteuid() != 0 {
					t.Skip("crun needs cgroups of one kind; only root can arrange that here")
				}
				plain := runBundle(t, as, as.find(t, runtime))
				wrapped := runBundle(t, as, memjailOCI(t), "--runtime", runtime)
				version := strings.SplitN(plain, "\n", 2)[0]
				if want := version + unconfinedBundle; plain != want {
					t.Fatalf("control:\n%s\nwant\n%s", plain, want)
				}
				if want := version + confinedBundle; wrapped != want {
					t.Errorf("got\n%s\nwant\n%s", wrapped, want)
				}
			})
		}
	})
}

// What testdata/containers/bundle.sh prints without and with memjail.
const (
	unconfinedBundle = `
exec: ELF
exec environment: b /tmp
exec process: ELF
exec: status 9
moved: /dev/own
changes: tried
exec again: ELF
first: ELF
stopped
run: status 7
gone
`
	confinedBundle = `
exec: 
exec environment: b /tmp
exec process: 
exec: status 9
changes: tried
exec again: 
first: 
stopped
run: status 7
gone
`
)

// memjailOCI is memjail under its name as a runtime.
func memjailOCI(t *testing.T) string {
	t.Helper()
	memjail := memjailPath(t)
	name := filepath.Join(filepath.Dir(memjail), "memjail-oci")
	if err := os.Symlink(filepath.Base(memjail), name); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	return name
}

// runBundle runs testdata/containers/bundle.sh and returns what it printed.
func runBundle(t *testing.T, as account, runtime ...string) string {
	t.Helper()
	dir := as.workDir(t)
	ociBundle(t, as, dir)
	before, err := os.ReadFile(memjailPath(t))
	if err != nil {
		t.Fatal(err)
	}
	script := copyTestFile(t, "bundle.sh", dir)
	argv := append([]string{"sh", script}, append(slices.Clone(runtime), "--root", filepath.Join(dir, "state"))...)
	o := job{as: accounts()[0], dir: dir, argv: inRoom(t, as, dir, argv...),
		env: []string{"XDG_RUNTIME_DIR=" + dir}}.run(t)
	if after, err := os.ReadFile(memjailPath(t)); err != nil || sha256.Sum256(before) != sha256.Sum256(after) {
		t.Fatalf("the container has changed the program outside: %v", err)
	}
	if o.code != 0 || o.stderr != "" {
		t.Logf("%v", o)
	}
	if config := readConfig(t, dir); config["x-unknown"].(map[string]any)["kept"] != "<&>" {
		t.Errorf("the field x-unknown of config.json is lost: %v", config)
	}
	return o.stdout
}

// TestOCIRefused: a container that cannot run under memjail is not created, its bundle is
// not changed, and the engine finds the reason in the runtime's log. Calls that start
// nothing are the runtime's own.
func TestOCIRefused(t *testing.T) {
	as := accounts()[0]
	as.needs(t, "busybox", "runc")
	dir := as.workDir(t)
	ociBundle(t, as, dir)
	call := func(args ...string) outcome {
		argv := append([]string{memjailOCI(t), "--runtime", "runc", "--root", filepath.Join(dir, "state")}, args...)
		return job{as: as, dir: dir, argv: inRoom(t, as, dir, argv...)}.run(t)
	}
	config := readConfig(t, dir)
	config["annotations"] = map[string]string{"io.memjail.policy": "strict"}
	writeJSON(t, filepath.Join(dir, "config.json"), config)
	before, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	const reason = `annotation io.memjail.policy: "strict" is not among what the administrator allows: memory`
	o := call("--log", "log.json", "--log-format", "json", "run", "one")
	if o.code != 125 || !strings.HasPrefix(o.stderr, "memjail: ") || !strings.Contains(o.stderr, reason) {
		t.Errorf("%v", o)
	}
	var entry struct{ Level, Msg string }
	if text, err := os.ReadFile(filepath.Join(dir, "log.json")); err != nil || json.Unmarshal(text, &entry) != nil ||
		entry.Level != "error" || !strings.Contains(entry.Msg, reason) {
		t.Errorf("the log is %s, %v", text, err)
	}
	if after, err := os.ReadFile(filepath.Join(dir, "config.json")); err != nil || string(after) != string(before) {
		t.Errorf("config.json has changed: %s", after)
	}
	if o := call("--log", "log.txt", "--policy", "./mine.toml", "create", "one"); o.code != 125 {
		t.Errorf("%v", o)
	}
	text, err := os.ReadFile(filepath.Join(dir, "log.txt"))
	if err != nil || !strings.Contains(string(text), `level=error msg="memjail: --policy: policy \"./mine.toml\"`) {
		t.Errorf("the log is %s, %v", text, err)
	}
	if o := call("state", "one"); o.code == 0 {
		t.Errorf("there is a container: %v", o)
	}
	if o := call("exec", "one", "true"); o.code != 125 || !strings.Contains(o.stderr, "does not exist") {
		t.Errorf("exec in no container: %v", o)
	}
	for _, args := range [][]string{{"--version"}, {"features"}, {"list"}, {"no-such-verb", "--flag"},
		{"exec", "--help"}} {
		plain := job{as: as, dir: dir, argv: inRoom(t, as, dir,
			append([]string{"runc", "--root", filepath.Join(dir, "state")}, args...)...)}.run(t)
		got := call(args...)
		for _, o := range []*outcome{&got, &plain} { // runc logs the time, which goes on
			o.stderr = regexp.MustCompile(`time="[^"]*"`).ReplaceAllString(o.stderr, "")
		}
		if got != plain {
			t.Errorf("%v: %v\nwithout memjail: %v", args, got, plain)
		}
	}
}

// TestOCIUnwrapped: in a container that the runtime itself has created no process is
// started that would not be restricted.
func TestOCIUnwrapped(t *testing.T) {
	as := accounts()[0]
	as.needs(t, "busybox", "runc")
	dir := as.workDir(t)
	ociBundle(t, as, dir)
	script := `R="--root $PWD/state"; (runc $R run one </dev/null 2>&1 | cat >out) & 
		for _ in $(seq 200); do grep -q ^first: out && break; sleep .05; done
		runc $R exec one sh -c 'echo control' </dev/null
		"$1" --runtime runc $R exec one sh -c 'echo started' </dev/null 2>&1
		runc $R kill one TERM; wait`
	o := job{as: as, dir: dir, argv: inRoom(t, as, dir, "bash", "-c", script, "-", memjailOCI(t))}.run(t)
	const want = "control\nmemjail: exec in the container one: it was created without memjail, and a process in it " +
		"would not be restricted: create it again\n"
	if o.stdout != want {
		t.Errorf("%v", o)
	}
}

// TestOCIFiles: the files that docs/containers.md shows are right, and the page shows them.
func TestOCIFiles(t *testing.T) {
	page := docsPages(t)["docs/containers.md"]
	dir := filepath.Join("..", "..", "testdata", "containers")
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if !strings.Contains(page, read("daemon.json")) {
		t.Error("the page does not show daemon.json")
	}
	_, runtime, _ := strings.Cut(read("containerd.toml"), "runtimes.memjail]")
	if !strings.Contains(page, runtime) {
		t.Error("the page does not show the runtime of containerd.toml")
	}
	_, settings, _ := strings.Cut(read("kubernetes/installer.yaml"), "oci.toml: |\n")
	settings, _, _ = strings.Cut(settings, "---")
	for name, text := range map[string]string{"oci.toml": read("oci.toml"), "installer.yaml": settings} {
		if _, err := oci.ParseSettings(name, []byte(text)); err != nil {
			t.Error(err)
		}
	}
	if o := (job{as: accounts()[0], dir: dir, argv: []string{memjailPath(t), "policy", "show", "--toml",
		"./build.toml"}}).run(t); o.code != 0 || !strings.Contains(o.stdout, `"allow"`) {
		t.Errorf("build.toml: %v", o)
	}
}

// TestPolicyExport runs a program that makes refused calls in a container without a profile,
// the control, and with what "policy export" writes.
func TestPolicyExport(t *testing.T) {
	as := accounts()[0]
	as.needs(t, "busybox", "runc", "crun")
	if os.Geteuid() != 0 {
		t.Skip("crun needs cgroups of one kind; only root can arrange that here")
	}
	policyFile := filepath.Join(as.workDir(t), "p.toml")
	text := "version = 1\n[syscalls]\ndeny = [\"kcmp\", \"prlimit64:set\"]\n[network]\nfamilies = [\"unix\"]\n"
	if err := os.WriteFile(policyFile, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	export := func(format, name string) (map[string]any, string) {
		o := job{as: as, dir: "/", argv: []string{memjailPath(t), "policy", "export", "--format", format, name}}.run(t)
		var profile map[string]any
		if err := json.Unmarshal([]byte(o.stdout), &profile); err != nil || o.code != 0 {
			t.Fatalf("%v: %v", o, err)
		}
		return profile, o.stderr
	}
	docker, lost := export("docker", "memory")
	if !strings.Contains(lost, "not in the profile: memory.access: /proc/PID/mem") {
		t.Errorf("what is lost is not named: %s", lost)
	}
	own, lost := export("oci-seccomp", policyFile)
	if !strings.Contains(lost, "syscalls.deny: prlimit64:set") {
		t.Errorf("what is lost is not named: %s", lost)
	}
	resource, _ := export("spo", policyFile)
	if resource["kind"] != "SeccompProfile" || !reflect.DeepEqual(resource["spec"], any(own)) ||
		resource["metadata"].(map[string]any)["name"] != "memjail-p" {
		t.Errorf("%v", resource)
	}
	dir := as.workDir(t)
	ociBundle(t, as, dir)
	shell(t, dir, "gcc -static -O1 -o rootfs/bin/calls "+attackSource("c/calls.c"))
	config := readConfig(t, dir)
	config["process"].(map[string]any)["args"] = []string{"calls"}
	const all = "process_vm_readv ok\nprocess_vm_writev ok\nptrace ok\nkcmp ok\nsocketpair ok\nSO_KEEPALIVE ok\n" +
		"SO_ZEROCOPY ok\nprlimit of another ok\nRLIMIT_CORE ok\nclone3 ok\nunshare ok\n"
	const memory = "process_vm_readv EPERM\nprocess_vm_writev EPERM\nptrace EPERM\nkcmp EPERM\nsocketpair ok\n" +
		"SO_KEEPALIVE ok\nSO_ZEROCOPY ENOPROTOOPT\nprlimit of another EPERM\nRLIMIT_CORE ok\nclone3 ENOSYS\n" +
		"unshare EPERM\n"
	for _, runtime := range []string{"runc", "crun"} {
		for _, test := range []struct {
			profile map[string]any
			want    string
		}{{nil, all}, {docker, memory},
			{own, strings.Replace(memory, "KEEPALIVE ok", "KEEPALIVE EBADF", 1)}} {
			delete(config["linux"].(map[string]any), "seccomp")
			if test.profile != nil {
				config["linux"].(map[string]any)["seccomp"] = test.profile
			}
			writeJSON(t, filepath.Join(dir, "config.json"), config)
			o := job{as: as, dir: dir, argv: inRoom(t, as, dir, runtime, "--root", filepath.Join(dir, "state"), "run",
				"one")}.run(t)
			if o.code != 0 || o.stdout != test.want {
				t.Errorf("%s: %v\nwant\n%s", runtime, o, test.want)
			}
		}
	}
}
