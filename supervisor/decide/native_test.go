package decide

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The tests of this file hold each row of the table against what the kernel
// itself gives, without memjail.

const lookerVariable = "DECIDE_TEST_LOOKER"

// lookerNobody is the ordinary user that looks when root runs the tests.
const lookerNobody = 65534

// look is what came of opening and reading a file; "" is success.
type look struct {
	Open, Read string
	Mode       uint32
}

func (l look) refused() bool { return l.Open != "" || l.Read != "" }

// question is what a looker is asked.
type question struct {
	Paths       []string
	NonDumpable bool
}

// TestMain doubles as the looker, who says what he can open and read.
func TestMain(m *testing.M) {
	if os.Getenv(lookerVariable) == "" {
		os.Exit(m.Run())
	}
	var q question
	if err := json.NewDecoder(os.Stdin).Decode(&q); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if q.NonDumpable {
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	}
	answers := map[string]look{}
	for _, path := range q.Paths {
		answers[path] = lookAt(strings.ReplaceAll(path, "/TID/", fmt.Sprintf("/%d/", unix.Gettid())))
	}
	json.NewEncoder(os.Stdout).Encode(answers)
}

func lookAt(path string) look {
	var l look
	if info, err := os.Stat(path); err == nil {
		l.Mode = uint32(info.Mode().Perm())
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return look{Open: name(err), Mode: l.Mode}
	}
	defer unix.Close(fd)
	if _, err = unix.Read(fd, make([]byte, 4096)); err != nil {
		l.Read = name(err)
	}
	return l
}

func name(err error) string {
	var errno unix.Errno
	errors.As(err, &errno)
	return unix.ErrnoName(errno)
}

// who looks: which user, and as root without any capability.
type looker struct {
	uid          int
	capabilities bool
}

// ask has a looker try the paths.
func ask(t *testing.T, who looker, q question) map[string]look {
	t.Helper()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	text, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	// By descriptor: the directory of the test program may be closed to others.
	argv := []string{"/proc/self/fd/3"}
	if who.uid == 0 && !who.capabilities {
		setpriv, err := exec.LookPath("setpriv")
		if err != nil {
			t.Skip("this machine has no setpriv to drop capabilities with")
		}
		argv = append([]string{setpriv, "--bounding-set=-all", "--inh-caps=-all"}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.ExtraFiles = []*os.File{self}
	cmd.Dir, cmd.Stderr = "/", os.Stderr
	cmd.Env = append(os.Environ(), lookerVariable+"=1")
	cmd.Stdin = strings.NewReader(string(text))
	if who.uid != os.Geteuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(who.uid),
			Gid: uint32(who.uid)}}
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	answers := map[string]look{}
	if err := json.Unmarshal(out, &answers); err != nil {
		t.Fatal(err)
	}
	return answers
}

// ordinary is an ordinary user whose process another user's can be shown to.
func ordinary() looker {
	if uid := os.Geteuid(); uid != 0 {
		return looker{uid: uid}
	}
	return looker{uid: lookerNobody}
}

// examples are names that a row's pattern stands for, of which any kernel has one.
func examples(pattern string) []string {
	switch pattern {
	case "children":
		return []string{"task/TID/children"}
	case "fdinfo/*":
		return []string{"fdinfo/0"}
	case "net/**":
		return []string{"net/dev", "net/stat/rt_cache"}
	case "attr/*":
		return []string{"attr/current"}
	case "attr/*/*":
		return []string{"attr/apparmor/current", "attr/smack/current"}
	default:
		return []string{pattern}
	}
}

// readRows are the rows about reading files of a process, with an example each.
func readRows() map[string]Grant {
	rows := map[string]Grant{}
	for _, g := range Grants() {
		if g.Class != Process || g.Writes {
			continue
		}
		for _, example := range examples(g.Name) {
			rows[example] = g
		}
	}
	return rows
}

func pathsOf(process string) []string {
	var paths []string
	for name := range readRows() {
		paths = append(paths, "/proc/"+process+"/"+name)
	}
	return paths
}

// optional rows depend on how the kernel was built or for which machine.
var optional = map[string]bool{
	"cpuset": true, "oom_adj": true, "schedstat": true, "sched": true, "autogroup": true, "loginuid": true,
	"sessionid":   true,
	"arch_status": true, "ksm_stat": true, "ksm_merging_pages": true, "timers": true, "timens_offsets": true,
	"numa_maps":    true,
	"attr/current": true, "attr/apparmor/current": true, "attr/smack/current": true, "net/stat/rt_cache": true,
	"wchan":             true,
	"task/TID/children": true, "io": true, "cgroup": true, "smaps_rollup": true, "projid_map": true,
}

// TestProcessRowsOwn: a process can read of itself all that the table gives it;
// when it is not dumpable, what its mode gives everybody.
func TestProcessRowsOwn(t *testing.T) {
	for _, dumpable := range []bool{true, false} {
		t.Run(fmt.Sprintf("dumpable %t", dumpable), func(t *testing.T) {
			for path, l := range ask(t, ordinary(), question{Paths: pathsOf("self"), NonDumpable: !dumpable}) {
				row := strings.TrimPrefix(path, "/proc/self/")
				switch {
				case l.Open == "ENOENT":
					if !optional[row] {
						t.Errorf("%s: this kernel does not have it", row)
					}
				case l.Read == "EINVAL" && strings.HasPrefix(row, "attr/"): // no module fills it
				case row == "timerslack_ns" && l.Read == "EPERM": // only the process's first thread may
				case dumpable && l.refused():
					t.Errorf("%s: a process cannot read it of itself: %+v", row, l)
				case !dumpable && l.refused() && l.Mode&0o004 != 0:
					t.Errorf("%s: a process that is not dumpable cannot read it of itself: %+v", row, l)
				case !dumpable && !l.refused() && l.Mode&0o004 == 0:
					t.Errorf("%s: a process that is not dumpable reads it although its mode says no: %+v", row, l)
				}
			}
		})
	}
}

// TestProcessRowsOther: another user's process shows what the table gives
// everybody, and none of what is behind the ptrace gate.
func TestProcessRowsOther(t *testing.T) {
	process := fmt.Sprint(os.Getpid())
	if os.Geteuid() != 0 {
		process = "1"
	}
	answers := ask(t, ordinary(), question{Paths: pathsOf(process)})
	for row, g := range readRows() {
		l := answers["/proc/"+process+"/"+row]
		switch {
		case l.Open == "ENOENT" && optional[row]:
		case g.Who == Any && l.refused():
			t.Errorf("%s is granted to all, but the kernel refuses it to an ordinary user: %+v", row, l)
		case g.Gate == GatePtrace && !l.refused():
			t.Errorf("%s is said to be behind the ptrace gate, but an ordinary user reads it of root's process", row)
		}
	}
}

// ungatedOnce are rows behind a gate that kernels before 6.18 did not have.
var ungatedOnce = map[string]bool{"timers": true, "ksm_stat": true, "ksm_merging_pages": true}

// TestProcessRowsGate takes the modes out of play: root without capabilities owns
// the files of a process of root's that has them, but may not trace it.
func TestProcessRowsGate(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can look as root without capabilities")
	}
	process := fmt.Sprint(os.Getpid())
	mode := ask(t, looker{}, question{Paths: pathsOf(process)})
	control := ask(t, looker{capabilities: true}, question{Paths: pathsOf(process)})
	for row, g := range readRows() {
		path := "/proc/" + process + "/" + row
		l := mode[path]
		if l.Open == "ENOENT" || control[path].Read == "EINVAL" {
			continue
		}
		if control[path].refused() {
			t.Errorf("control: %s is refused to root: %+v", row, control[path])
		}
		if gated := l.refused(); gated != (g.Gate == GatePtrace) && !(ungatedOnce[row] && !gated) {
			t.Errorf("%s: refused without the right to trace: %t (%+v), the table says gate %d", row, gated, l, g.Gate)
		}
	}
}

// TestWriteRows: what may be written is the process's own, and nobody else's.
func TestWriteRows(t *testing.T) {
	for _, g := range Grants() {
		if !g.Writes {
			continue
		}
		if g.Class != Process || g.Who != Own {
			t.Errorf("%s may be written by others: %+v", g.Name, g)
		}
		if info, err := os.Stat("/proc/self/" + g.Name); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("%s: mode %v, %v; want 0644", g.Name, info.Mode(), err)
		}
	}
}

// systemFiles lists what of procfs outside the processes a row matches.
func systemFiles(t *testing.T) map[string]*Grant {
	t.Helper()
	files := map[string]*Grant{}
	err := filepath.WalkDir("/proc", func(path string, d fs.DirEntry, err error) error {
		below := strings.TrimPrefix(path, "/proc/")
		switch {
		case err != nil:
			return nil // closed to us, or gone
		case d.IsDir() && below != "" && below[0] >= '0' && below[0] <= '9':
			return fs.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		if g := find(Object{Class: System, Name: below}, false); g != nil {
			files[below] = g
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestSystemRows: the rows that name a file name one which every user may read;
// what a pattern covers is either that or refused to an ordinary user by its mode,
// as which memjail opens it.
func TestSystemRows(t *testing.T) {
	files := systemFiles(t)
	var paths []string
	for below := range files {
		paths = append(paths, "/proc/"+below)
	}
	answers := ask(t, ordinary(), question{Paths: paths})
	for below, g := range files {
		l := answers["/proc/"+below]
		if l.Open == "" {
			continue
		}
		if g.Name == below {
			t.Errorf("%s: an ordinary user cannot open it: %+v", below, l)
		} else if l.Mode&0o004 != 0 && l.Open != "ENOENT" && l.Open != "EINVAL" {
			t.Errorf("%s: mode %#o, and yet: %+v", below, l.Mode, l)
		}
	}
	for _, needed := range []string{"cpuinfo", "meminfo", "stat", "uptime", "version", "sys/kernel/osrelease",
		"sys/fs/file-nr"} {
		if files[needed] == nil {
			t.Errorf("%s is covered by no row", needed)
		}
	}
}
