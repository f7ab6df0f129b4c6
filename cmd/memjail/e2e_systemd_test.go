package main_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// machine is a throw-away systemd with a copy of this system that is written in
// memory only; see testdata/systemd/boot.
type machine struct {
	pid  int
	root string // its root, as seen from here
}

// bootSystemd starts a systemd that ends with the test, with memjail and the test's
// programs installed in it.
func bootSystemd(t *testing.T) *machine {
	t.Helper()
	root := os.Getenv("MEMJAIL_TEST_SYSTEMD_ROOT")
	if root == "" {
		root = "/"
	}
	return bootSystemdOf(t, root)
}

// bootSystemdOf does so with another release of systemd, or other services, in a root that
// debootstrap(8) made.
func bootSystemdOf(t *testing.T, root string) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("booting a systemd needs root")
	}
	if _, err := os.Stat("/lib/systemd/systemd"); err != nil {
		t.Skip("there is no systemd here")
	}
	dir, err := e2eDir()
	if err != nil {
		t.Fatal(err)
	}
	boot := filepath.Join(dir, "boot")
	build := exec.Command("go", "build", "-o", boot, "./testdata/systemd/boot")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building boot: %v\n%s", err, out)
	}
	console := filepath.Join(t.TempDir(), "console")
	cmd := exec.Command(boot, "--root", root, "--console", console)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	line, _ := bufio.NewReader(out).ReadString('\n')
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		cmd.Wait()
		if strings.Contains(complaint.String(), "cgroup v2") {
			t.Skipf("this container lets nobody mount cgroup v2: %s", &complaint)
		}
		text, _ := os.ReadFile(console)
		t.Fatalf("systemd did not boot: %s\n%s", &complaint, text)
	}
	m := &machine{pid: pid, root: fmt.Sprintf("/proc/%d/root", pid)}
	m.install(t, memjailPath(t), "/usr/local/bin/memjail")
	for _, name := range []string{"service.py", "load.py", "client.py"} {
		m.install(t, filepath.Join("..", "..", "testdata", "systemd", name), "/usr/local/lib/"+name)
	}
	return m
}

func (m *machine) install(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	m.write(t, to, string(text), 0o755)
}

// write writes a file of the machine; the name is new, so no file of this system is
// opened for writing.
func (m *machine) write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(m.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// try runs a shell's lines inside and returns what they print.
func (m *machine) try(lines string) (string, error) { return m.within(40*time.Second, lines) }

// within is try with another limit of time.
func (m *machine) within(limit time.Duration, lines string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", "-t", strconv.Itoa(m.pid), "-a", "--", "sh", "-c", lines)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
		"HOME=/root"}
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (m *machine) sh(t *testing.T, lines string) string {
	t.Helper()
	out, err := m.try(lines)
	if err != nil {
		last, _ := m.try("journalctl --no-pager -o short -n 15; tail -n 5 /var/log/postgresql/*.log 2>/dev/null")
		t.Fatalf("%s: %v\n%s\nthe journal:\n%s", lines, err, out, last)
	}
	return out
}

// unit makes a service, or another unit if the name says so.
func (m *machine) unit(t *testing.T, name, text string) {
	t.Helper()
	m.write(t, "/run/systemd/system/"+name, text, 0o644)
}

func (m *machine) property(t *testing.T, unit, name string) string {
	t.Helper()
	return m.sh(t, "systemctl show --value -p "+name+" "+unit)
}

// wrap writes the drop-in for a unit.
func (m *machine) wrap(t *testing.T, unit string, flags ...string) {
	t.Helper()
	m.sh(t, "memjail systemd drop-in "+unit+" "+strings.Join(flags, " ")+" && systemctl daemon-reload")
}

// journal waits for a line of a unit in the journal, which comes in its own time.
func (m *machine) journal(t *testing.T, unit, want string) {
	t.Helper()
	var have string
	eventually(t, 10*time.Second, fmt.Sprintf("the journal of %s says %q", unit, want), func() bool {
		have, _ = m.try("journalctl --no-pager -o cat -u " + unit)
		return strings.Contains(have, want)
	})
}

// both runs a case with a unit as it is and wrapped by memjail. What the case returns
// must be the same, but for the service's memory, which is open the first time.
func (m *machine) both(t *testing.T, unit string, flags []string, run func(t *testing.T) string) {
	t.Helper()
	m.sh(t, "systemctl daemon-reload")
	control := run(t)
	m.sh(t, "systemctl stop "+unit+"; systemctl reset-failed "+unit+" 2>/dev/null; true")
	m.wrap(t, unit, flags...)
	wrapped := run(t)
	m.sh(t, "systemctl stop "+unit+"; systemctl reset-failed "+unit+" 2>/dev/null; true")
	if !strings.Contains(control, "memory open") || strings.Contains(wrapped, "memory open") ||
		strings.ReplaceAll(control, "memory open", "memory closed") != wrapped {
		t.Errorf("%s wrapped:\n%s\nunwrapped:\n%s", unit, wrapped, control)
		logs, _ := m.try("journalctl --no-pager -o cat -u " + unit + " | tail -20")
		t.Log(logs)
	}
}

// told is what the service tells as its status, with its process number replaced by
// whether it is the main process.
func (m *machine) told(t *testing.T, unit string) string {
	t.Helper()
	return strings.ReplaceAll(m.property(t, unit, "StatusText"), "pid "+m.property(t, unit, "MainPID")+",",
		"main process,")
}

const aService = "/usr/bin/python3 /usr/local/lib/service.py "

// TestSystemd runs services of every kind in a real systemd, as they are and wrapped
// by the drop-in that memjail writes.
func TestSystemd(t *testing.T) {
	m := bootSystemd(t)
	for _, c := range []struct {
		name string
		run  func(t *testing.T, m *machine)
	}{
		{"notify", unitNotify}, {"watchdog", unitWatchdog}, {"restart", unitRestart}, {"sockets", unitSockets},
		{"forking", unitForking}, {"oneshot", unitOneshot}, {"argv0", unitArgv0}, {"kill-mode", unitKillMode},
		{"supervisor-killed", unitSupervisorKilled}, {"hardened", unitHardened}, {"narrow", unitNarrow},
		{"probe", unitProbe}, {"refused", unitRefused}, {"unreachable", unitUnreachable},
		{"journal", unitJournal}, {"check", unitCheck}, {"template", unitTemplate}, {"user", unitUser},
		{"nginx", unitNginx}, {"redis", unitRedis}, {"postgresql", unitPostgreSQL},
		{"learn", unitLearn}, {"learn-killed", unitLearnKilled},
		{"many", unitMany}, {"apply", unitApply}, {"apply-killed", unitApplyKilled},
		{"runc", unitRunc}, {"private-pids", unitPrivatePIDs},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, m) })
	}
}

func unitNotify(t *testing.T, m *machine) {
	m.unit(t, "n.service", "[Service]\nType=notify\nExecStart="+aService+
		"serve\nExecReload=/bin/sh -c 'kill -HUP $$MAINPID'\n")
	m.both(t, "n", nil, func(t *testing.T) string {
		m.sh(t, "systemctl start n")
		said := []string{m.told(t, "n")}
		m.sh(t, "systemctl reload n")
		eventually(t, 5*time.Second, "the service has reloaded",
			func() bool { return strings.Contains(m.told(t, "n"), "reloads 1") })
		said = append(said, m.told(t, "n"))
		begin := time.Now()
		m.sh(t, "systemctl stop n")
		if time.Since(begin) > 5*time.Second {
			t.Errorf("it took %v to stop", time.Since(begin))
		}
		m.journal(t, "n", "stopping, reads python3") // served until it has stopped
		return strings.Join(append(said, m.property(t, "n", "Result")), "\n")
	})
}

func unitWatchdog(t *testing.T, m *machine) {
	for _, mode := range []string{"serve", "hang"} {
		m.unit(t, "w-"+mode+".service",
			"[Service]\nType=notify\nWatchdogSec=700ms\nTimeoutAbortSec=2\nExecStart="+aService+mode+"\n")
		m.both(t, "w-"+mode, nil, func(t *testing.T) string {
			m.sh(t, "systemctl start w-"+mode)
			said := m.told(t, "w-"+mode)
			time.Sleep(1500 * time.Millisecond)
			eventually(t, 5*time.Second, "the watchdog has done its work",
				func() bool { return m.property(t, "w-"+mode, "ActiveState") != "deactivating" })
			return said + " " + m.property(t, "w-"+mode, "ActiveState") + " " + m.property(t, "w-"+mode, "Result")
		})
	}
}

func unitRestart(t *testing.T, m *machine) {
	for _, end := range []string{"exit 7", "die 10"} {
		name := strings.ReplaceAll(end, " ", "-")
		m.unit(t, name+".service",
			"[Unit]\nStartLimitBurst=2\nStartLimitIntervalSec=60\n[Service]\nRestart=on-failure\nRestartSec=50ms\n"+
				"ExecStartPre="+aService+"print unwrapped\nExecStart="+aService+end+"\n")
		m.both(t, name, nil, func(t *testing.T) string {
			m.sh(t, "systemctl start "+name)
			eventually(t, 10*time.Second, "the service has failed for good",
				func() bool { return m.property(t, name, "ActiveState") == "failed" })
			said := "memory open\n" // of this service nothing is known but its end
			if out, _ := m.try("systemctl cat " + name); strings.Contains(out, "memjail exec") {
				said = "memory closed\n"
			}
			return said + m.sh(t, "systemctl show -p NRestarts,ExecMainCode,ExecMainStatus,Result "+name)
		})
	}
}

func unitSockets(t *testing.T, m *machine) {
	for _, name := range []string{"web", "adm"} {
		m.unit(t, "s-"+name+".socket", "[Socket]\nListenStream=/run/"+name+".sock\nFileDescriptorName="+name+
			"\nService=s.service\n")
	}
	m.unit(t, "s.service", "[Unit]\nRequires=s-web.socket "+
		"s-adm.socket\n[Service]\nType=notify\nSockets=s-web.socket s-adm.socket\nExecStart="+aService+"serve\n")
	m.both(t, "s", nil, func(t *testing.T) string {
		m.sh(t, "systemctl stop s; systemctl start s-web.socket s-adm.socket")
		ask := `python3 -c 'import socket,sys; s=socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect(sys.argv[1]); print(s.recv(99).decode(),end="")' `
		answers := m.sh(t, ask+"/run/web.sock; "+ask+"/run/adm.sock")
		// In which order systemd hands them over is its own affair.
		return answers + strings.ReplaceAll(m.told(t, "s"), "adm:web", "web:adm")
	})
}

func unitForking(t *testing.T, m *machine) {
	m.unit(t, "f.service", "[Service]\nType=forking\nPIDFile=/run/f.pid\nExecStart="+aService+"daemon /run/f.pid\n")
	m.both(t, "f", nil, func(t *testing.T) string {
		m.sh(t, "systemctl start f")
		pid := m.property(t, "f", "MainPID")
		if want := m.sh(t, "cat /run/f.pid"); pid != want {
			t.Errorf("the main process is %s, the service says %s", pid, want)
		}
		line := m.sh(t, "journalctl --sync; journalctl --no-pager -o cat -u f _TRANSPORT=stdout | grep "+
			"^daemon | tail -1")
		said := strings.ReplaceAll(line, "pid "+pid+",", "main process,")
		m.sh(t, "systemctl stop f")
		return said + m.property(t, "f", "Result")
	})
	m.sh(t, "systemctl start f")
	m.killSupervisor(t, "f")
	eventually(t, 10*time.Second, "the daemon is killed with its supervisor", func() bool {
		return m.property(t, "f", "ActiveState") == "failed" && m.property(t, "f", "Result") == "signal"
	})
	m.unit(t, "f-guess.service", "[Service]\nType=forking\nExecStart="+aService+"daemon /run/f.pid\n")
	out, err := m.try("memjail systemd drop-in f-guess")
	if err == nil || !strings.Contains(out, "f-guess.service:2: with Type=forking and no PIDFile=") {
		t.Errorf("without PIDFile=: %v\n%s", err, out)
	}
}

func unitOneshot(t *testing.T, m *machine) {
	m.unit(t, "o.service", "[Service]\nType=oneshot\nExecStart="+aService+"print one\nExecStart=-"+aService+
		"print \"two words %n\" ; "+aService+"print three\n")
	m.both(t, "o", nil, func(t *testing.T) string {
		mark := strconv.FormatInt(time.Now().UnixNano(), 10)
		m.sh(t, "systemd-cat -t o-"+mark+" echo begin; systemctl start o; journalctl --sync")
		lines := m.sh(t, "journalctl --no-pager -o cat -u o _TRANSPORT=stdout | grep memory | tail -3 | "+
			"sed 's/pid [0-9]*/pid/'")
		return lines + m.property(t, "o", "Result")
	})
}

// unitArgv0: the prefix @, by which a program finds another name of its own.
func unitArgv0(t *testing.T, m *machine) {
	m.unit(t, "a.service", "[Service]\nType=oneshot\nExecStart=@/bin/sh -named -c 'echo $$0; exec "+aService+
		"print as'\n")
	m.both(t, "a", nil, func(t *testing.T) string {
		m.sh(t, "systemctl start a; journalctl --sync")
		return m.sh(t, "journalctl --no-pager -o cat -u a _TRANSPORT=stdout | grep -e named -e memory | "+
			"tail -2 | sed 's/pid [0-9]*/pid/'")
	})
}

func unitKillMode(t *testing.T, m *machine) {
	for _, mode := range []string{"control-group", "mixed", "process"} {
		name := "k-" + mode
		m.unit(t, name+".service", "[Service]\nType=notify\nTimeoutStopSec=500ms\nKillMode="+mode+
			"\nExecStart="+aService+"child /run/"+name+"\n")
		m.both(t, name, nil, func(t *testing.T) string {
			m.sh(t, "systemctl start "+name)
			said := m.told(t, name)
			m.sh(t, "systemctl stop "+name)
			first := m.sh(t, "cat /run/"+name)
			time.Sleep(200 * time.Millisecond)
			last := m.sh(t, "cat /run/"+name)
			words := strings.Fields(last)
			said += fmt.Sprintf(" child lives: %v, reads %s", first != last, words[1])
			m.sh(t, "kill -9 "+words[0]+" 2>/dev/null; true")
			eventually(t, 5*time.Second, "nothing of "+name+" is left", func() bool {
				left, _ := m.try("cat /sys/fs/cgroup/system.slice/" + name + ".service/cgroup.procs 2>/dev/null")
				return left == ""
			})
			return said
		})
	}
}

// killSupervisor kills it as the kernel does when there is no memory left.
func (m *machine) killSupervisor(t *testing.T, unit string) {
	t.Helper()
	m.sh(t, `for p in $(cat /sys/fs/cgroup/system.slice/`+unit+`.service/cgroup.procs); do
		grep -qz '^memjail: supervisor' /proc/$p/cmdline && kill -9 $p; done; true`)
}

func unitSupervisorKilled(t *testing.T, m *machine) {
	m.unit(t, "sk.service", "[Service]\nType=notify\nRestart=on-failure\nRestartSec=50ms\nExecStart="+aService+
		"serve\n")
	m.wrap(t, "sk")
	m.sh(t, "systemctl start sk")
	pid := m.property(t, "sk", "MainPID")
	m.killSupervisor(t, "sk")
	eventually(t, 10*time.Second, "the service was started again", func() bool {
		return m.property(t, "sk", "NRestarts") == "1" && m.property(t, "sk", "ActiveState") == "active"
	})
	told := "journalctl --no-pager -o cat --output-fields=MEMJAIL_PID _SYSTEMD_UNIT=sk.service " +
		"MEMJAIL_EVENT=supervisor-end"
	eventually(t, 10*time.Second, "the journal says why", func() bool {
		out, _ := m.try(told)
		return out == pid
	})
	if now := m.property(t, "sk", "MainPID"); now == pid || now == "0" {
		t.Errorf("the main process was %s and is %s", pid, now)
	}
	if said := m.told(t, "sk"); !strings.HasPrefix(said, "memory closed, main process, reads python3") {
		t.Error(said)
	}
	m.sh(t, "systemctl stop sk")
}

// hardening is what a careful author of a unit sets.
const hardening = `DynamicUser=yes
PrivateTmp=yes
ProtectSystem=strict
ProtectHome=yes
PrivateUsers=yes
PrivateDevices=yes
RestrictNamespaces=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
ProtectProc=invisible
ProtectKernelTunables=yes
RestrictSUIDSGID=yes
LockPersonality=yes
CapabilityBoundingSet=
RestrictAddressFamilies=AF_UNIX
SystemCallArchitectures=native
SystemCallFilter=@system-service
`

func unitHardened(t *testing.T, m *machine) {
	for name, more := range map[string]string{
		"h-kill":   "",
		"h-errno":  "SystemCallErrorNumber=EPERM\nSystemCallFilter=~@privileged @resources\n",
		"h-noexec": "NoExecPaths=/\nExecPaths=/usr/bin /usr/lib /lib /lib64\n",
		"h-root":   "DynamicUser=no\nCapabilityBoundingSet=~CAP_SYS_PTRACE\nSystemCallFilter=~@privileged\n",
	} {
		m.unit(t, name+".service", "[Service]\nType=notify\nStateDirectory="+name+"\n"+hardening+more+
			"ExecStart="+aService+"serve\n")
		m.both(t, name, []string{"-p", "service"}, func(t *testing.T) string {
			m.sh(t, "systemctl start "+name)
			return m.told(t, name)
		})
	}
}

// unitNarrow: a unit that lists no more calls than its program makes starts, is served,
// tells the journal, and is killed with its supervisor.
func unitNarrow(t *testing.T, m *machine) {
	m.unit(t, "narrow.service",
		"[Service]\nType=exec\nSystemCallFilter=read write open openat close access arch_prctl "+
			"prlimit64 set_tid_address "+
			"set_robust_list rseq mprotect brk mmap munmap pread64 newfstatat getrandom exit_group lseek "+
			"fadvise64 nanosleep clock_nanosleep fstat\n"+
			"ExecStartPre=/bin/cat /proc/self/status\nExecStart=/bin/sleep 60\n")
	m.sh(t, "systemctl daemon-reload; systemctl start narrow; systemctl stop narrow")
	m.wrap(t, "narrow")
	m.sh(t, "systemctl start narrow")
	m.journal(t, "narrow", "/bin/sleep starts under the policy memory")
	m.killSupervisor(t, "narrow")
	eventually(t, 10*time.Second, "the service is killed with its supervisor", func() bool {
		return m.property(t, "narrow", "ActiveState") == "failed" && m.property(t, "narrow", "ExecMainStatus") == "9"
	})
	m.journal(t, "narrow", "the supervisor was killed")
}

// unitProbe attacks memory from inside a hardened unit, but for the 32-bit calls: with
// SystemCallArchitectures=native each would end a thread of the prober.
func unitProbe(t *testing.T, m *machine) {
	m.unit(t, "p.service", "[Service]\nType=oneshot\n"+hardening+
		"SystemCallArchitectures=\nSystemCallErrorNumber=EPERM\n"+
		"SystemCallFilter=seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self\n"+
		"ExecStart=/usr/local/bin/memjail probe --only proc-mem/open/...\n")
	out, err := m.try("systemctl daemon-reload; systemctl start p; rc=$?; journalctl --sync; journalctl " +
		"--no-pager -o cat -u p; exit $rc")
	if err != nil || !strings.Contains(out, " 0 open,") || strings.Contains(out, "\n0 held") {
		t.Errorf("%v\n%s", err, out)
	}
}

// unitUnreachable: nothing is written for a unit that could not execute or start memjail,
// whether its options say so or only a start shows it; and what is advised helps.
func unitUnreachable(t *testing.T, m *machine) {
	m.sh(t, "install -D -m 755 /usr/local/bin/memjail /root/bin/memjail; install -D -m 755 "+
		"/usr/local/bin/memjail /opt/memjail; "+
		"install -d -m 755 /opt/hidden; id somebody || useradd -r somebody; chmod 700 /root")
	for name, test := range map[string]struct{ options, memjail, why string }{
		"ux-dynamic": {"DynamicUser=yes", "/root/bin/memjail", "DynamicUser=yes"},
		"ux-user":    {"User=somebody", "/root/bin/memjail", "User=somebody"},
		"ux-home":    {"ProtectHome=yes", "/root/bin/memjail", "ProtectHome=yes"},
		"ux-hidden":  {"InaccessiblePaths=/opt", "/opt/memjail", "InaccessiblePaths=/opt"},
		"ux-covered": {"BindReadOnlyPaths=/opt/hidden:/opt", "/opt/memjail", "it cannot execute /opt/memjail"},
		"ux-calls": {"SystemCallFilter=~landlock_restrict_self\nSystemCallErrorNumber=EPERM\nLimitNOFILE=4",
			"/opt/memjail", "ends with status"},
		"ux-limit-as": {"LimitAS=20M", "/opt/memjail", "ends with status"},
	} {
		m.unit(t, name+".service", "[Service]\nType=oneshot\n"+test.options+"\nExecStart=/bin/true\n")
		m.sh(t, "systemctl daemon-reload; systemctl start "+name) // the control
		out, err := m.try("memjail systemd drop-in " + name + " --memjail " + test.memjail)
		if err == nil || !strings.Contains(out, test.why) || !strings.Contains(out, "othing was written") {
			t.Errorf("%s: %v, want %q: %s", name, err, test.why, out)
		}
		if out, err := m.try("test ! -e /etc/systemd/system/" + name + ".service.d"); err != nil {
			t.Errorf("%s: something was written: %s", name, out)
		}
	}
	// With memjail where the advice has it put, the same units start.
	for _, name := range []string{"ux-dynamic", "ux-user", "ux-home", "ux-hidden", "ux-covered"} {
		m.sh(t, "memjail systemd drop-in "+name+
			" --memjail /usr/local/bin/memjail && systemctl daemon-reload && systemctl start "+name)
	}
}

func unitRefused(t *testing.T, m *machine) {
	m.unit(t, "r.service", "[Service]\nType=oneshot\nExecStart=/usr/bin/touch /run/refused-ran\n")
	// the control
	m.sh(t, "systemctl daemon-reload; systemctl start r; test -e /run/refused-ran && rm /run/refused-ran")
	m.write(t, "/etc/memjail/r.toml", "version = 1\n", 0o644)
	m.wrap(t, "r", "-p", "/etc/memjail/r.toml")
	m.sh(t, "systemctl start r; test -e /run/refused-ran && rm /run/refused-ran")
	m.write(t, "/etc/memjail/r.toml", "version = 1\nmin-abi = 99\n", 0o644)
	if out, err := m.try("systemctl start r"); err == nil {
		t.Errorf("it started: %s", out)
	}
	if status := m.property(t, "r", "ExecMainStatus"); status != "125" {
		t.Error("status", status)
	}
	if out, err := m.try("test -e /run/refused-ran"); err == nil {
		t.Error("the service ran", out)
	}
	m.journal(t, "r", "min-abi = 99 (/etc/memjail/r.toml:2:")
	if out, _ := m.try("systemctl status --no-pager r"); !strings.Contains(out, "min-abi") {
		t.Errorf("the unit's status does not tell: %s", out)
	}
}

// unitJournal: what is refused can be found in the journal by the unit and by fields,
// and nothing inside makes a field of its own.
func unitJournal(t *testing.T, m *machine) {
	m.write(t, "/usr/local/lib/refused.sh",
		"echo own line\ncat /proc/1/mem\n(: >'/etc/new\nMEMJAIL_RULE=forged')\ntrue\n", 0o755)
	m.unit(t, "j.service", "[Service]\nType=oneshot\nExecStart=/bin/sh /usr/local/lib/refused.sh\n")
	m.wrap(t, "j", "-p", "service")
	m.sh(t, "systemctl start j")
	field := func(match, name string) string {
		out, _ := m.try("journalctl --no-pager -o cat -u j.service " + match + " --output-fields=" + name)
		return out
	}
	eventually(t, 10*time.Second, "both refusals are in the journal", func() bool {
		return field("MEMJAIL_RULE=memory.access", "MEMJAIL_PATH") == "/proc/1/mem" &&
			strings.HasPrefix(field("MEMJAIL_RULE=paths.ro", "MEMJAIL_PATH"), "/etc/new")
	})
	if out := field("MEMJAIL_RULE=forged", "MESSAGE"); out != "" && out != "-- No entries --" {
		t.Errorf("a field was forged: %s", out)
	}
	// The journal remembers who a sender is, so memjail must not have sent as the command.
	if out := field("_TRANSPORT=stdout _COMM=sh", "MESSAGE"); !strings.HasPrefix(out, "own line") {
		t.Errorf("the command's own line is not told as its own: %s", out)
	}
	if out := field("_COMM=memjail MEMJAIL_EVENT=start", "MEMJAIL_POLICY"); out != "service" {
		t.Errorf("the start is not told: %s", out)
	}
	unitJournalRestarts(t, m)
	m.wrap(t, "j", "-p", "service", "--report", "off")
	count := "journalctl --no-pager -o cat -u j.service SYSLOG_IDENTIFIER=memjail MEMJAIL_EVENT=refused | wc -l"
	before := m.sh(t, count)
	m.sh(t, "systemctl start j; sleep 0.3; journalctl --sync")
	if after := m.sh(t, count); after != before {
		t.Errorf("--report off: %s entries, before %s", after, before)
	}
}

// unitJournalRestarts: a journal that was started again hears from services that were
// there before.
func unitJournalRestarts(t *testing.T, m *machine) {
	m.write(t, "/usr/local/lib/later.sh",
		"while ! test -e /run/later; do sleep 0.05; done; cat /proc/1/mem\nsleep 20\n", 0o755)
	m.unit(t, "jr.service", "[Service]\nExecStart=/bin/sh /usr/local/lib/later.sh\n")
	m.wrap(t, "jr")
	m.sh(t, "systemctl start jr; systemctl restart systemd-journald; touch /run/later")
	eventually(t, 10*time.Second, "the journal hears of it", func() bool {
		out, _ := m.try("journalctl --no-pager -o cat --output-fields=MEMJAIL_PATH " +
			"_SYSTEMD_UNIT=jr.service MEMJAIL_EVENT=refused")
		return out == "/proc/1/mem"
	})
	m.sh(t, "systemctl stop jr")
}

func unitCheck(t *testing.T, m *machine) {
	m.unit(t, "c.service", "[Service]\nType=simple\n"+hardening+"ExecStart="+aService+"serve\n")
	out := m.sh(t, "memjail systemd check c")
	wanted := []string{"not wrapped", "covers  NoNewPrivileges=yes (/run/systemd/system/c.service:",
		"exposure by systemd-analyze"}
	if m.version(t) < 257 { // @system-service has them from then on
		wanted = append(wanted, "the drop-in adds SystemCallFilter=fsopen landlock_add_rule "+
			"landlock_create_ruleset landlock_restrict_self pidfd_getfd ptrace seccomp")
	}
	for _, want := range wanted {
		if !strings.Contains(out, want) {
			t.Errorf("check does not say %q:\n%s", want, out)
		}
	}
	m.wrap(t, "c")
	if out := m.sh(t, "memjail systemd check c"); !strings.Contains(out,
		"wrapped by /etc/systemd/system/c.service.d/zz-memjail.conf") {
		t.Error(out)
	}
	m.unit(t, "c.service", "[Service]\nExecStart="+aService+"hang\n")
	if out, err := m.try("memjail systemd check c"); err == nil || !strings.Contains(out, "OUT OF DATE") {
		t.Error(err, out)
	}
	m.sh(t, "memjail systemd remove c; ! systemctl cat c | grep -q 'memjail exec'; test ! -e "+
		"/etc/systemd/system/c.service.d")
}

func unitTemplate(t *testing.T, m *machine) {
	m.unit(t, "t@.service", "[Service]\nType=notify\nExecStart="+aService+"serve %i\n")
	m.both(t, "t@x.service", nil, func(t *testing.T) string {
		m.sh(t, "systemctl start t@x")
		return m.told(t, "t@x") + m.sh(t, "tr '\\0' ' ' </proc/$(systemctl show --value -p MainPID t@x)/cmdline")
	})
	m.sh(t, "memjail systemd drop-in t@.service; systemctl daemon-reload; systemctl start t@y")
	if said := m.told(t, "t@y"); !strings.HasPrefix(said, "memory closed, main process") {
		t.Error(said)
	}
	m.sh(t, "systemctl stop t@y")
}

// unitUser: a unit of an ordinary user's own manager.
func unitUser(t *testing.T, m *machine) {
	m.sh(t, "useradd -m tester && systemctl start dbus systemd-logind user@$(id -u tester)")
	as := "U=$(id -u tester); as() { runuser -u tester -- env HOME=/home/tester " +
		"XDG_RUNTIME_DIR=/run/user/$U DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/$U/bus \"$@\"; }\n"
	m.write(t, "/etc/systemd/user/u.service", "[Service]\nType=notify\nExecStart="+aService+"serve\n", 0o644)
	status := "as systemctl --user daemon-reload && as systemctl --user restart u && as systemctl " +
		"--user show --value -p StatusText u"
	if said := m.sh(t, as+status); !strings.HasPrefix(said, "memory open") {
		t.Errorf("unwrapped: %s", said)
	}
	said := m.sh(t, as+"as memjail systemd drop-in --user u -p service >/dev/null && "+status+
		" && as systemctl --user show --value -p MainPID u && as memjail systemd remove --user u && as "+
		"systemctl --user stop u")
	var pid int
	if _, err := fmt.Sscanf(said, "memory closed, pid %d, reads python3", &pid); err != nil ||
		!strings.Contains(said, "\n"+strconv.Itoa(pid)+"\n") {
		t.Errorf("wrapped: %s", said)
	}
}

// needsUnit skips where a service's package is not installed.
func needsUnit(t *testing.T, m *machine, unit string) {
	t.Helper()
	if _, err := m.try("systemctl cat " + unit); err != nil {
		t.Skipf("there is no %s here", unit)
	}
}

func (m *machine) version(t *testing.T) (number int) {
	t.Helper()
	if _, err := fmt.Sscanf(m.sh(t, "systemctl --version"), "systemd %d", &number); err != nil {
		t.Fatal(err)
	}
	return number
}

// memoryOf says whether a unit's main process is one that memjail started: in a
// domain without new privileges.
func (m *machine) memoryOf(t *testing.T, unit string) string {
	t.Helper()
	if m.sh(t, "grep Seccomp_filters: /proc/$(systemctl show --value -p MainPID "+unit+
		")/status; systemctl cat "+unit+" | grep -c 'memjail exec' || true") == "" {
		t.Fatal("no status")
	}
	if out, _ := m.try("pgrep -f '^memjail: supervisor'"); out != "" {
		return "memory closed\n"
	}
	return "memory open\n"
}

func unitNginx(t *testing.T, m *machine) {
	needsUnit(t, m, "nginx")
	m.sh(t, "ip link set lo up")
	m.both(t, "nginx", []string{"-p", "service", "--rw", "/run", "--rw", "/var/log/nginx", "--rw",
		"/var/lib/nginx"}, func(t *testing.T) string {
		m.sh(t, "systemctl start nginx")
		said := m.memoryOf(t, "nginx") + m.sh(t,
			`/usr/local/lib/load.py http://127.0.0.1/ 2 >/tmp/load & sleep 0.7; systemctl reload nginx; sleep 0.5; systemctl reload nginx; wait; cat /tmp/load`)
		m.sh(t, "systemctl stop nginx")
		return said + m.property(t, "nginx", "Result")
	})
}

func unitRedis(t *testing.T, m *machine) {
	needsUnit(t, m, "redis-server")
	m.both(t, "redis-server", []string{"-p", "service"}, func(t *testing.T) string {
		m.sh(t, "systemctl start redis-server")
		said := m.memoryOf(t, "redis-server") + m.sh(
			t, `redis-cli set key value; redis-cli get key; redis-cli bgsave >/dev/null
			redis-benchmark -q -n 3000 -t set,get,lpush >/tmp/bench 2>&1 && tr '\r' '\n' </tmp/bench | grep -c 'requests per second'
			sleep 0.3; redis-cli info persistence | grep rdb_last_bgsave_status`)
		m.sh(t, "systemctl restart redis-server")
		return said + m.sh(t, "redis-cli get key; redis-cli flushall") + m.property(t, "redis-server", "StatusText")
	})
}

// runsAs is a line that postgres, the account, runs.
func asPostgres(line string) string { return "cd /tmp && runuser -u postgres -- sh -c '" + line + "'" }

func unitPostgreSQL(t *testing.T, m *machine) {
	needsUnit(t, m, "postgresql@")
	out, err := m.try("ls -d /etc/postgresql/*/main")
	if err != nil {
		t.Skip("there is no cluster of PostgreSQL here")
	}
	version := strings.Split(out, "/")[3]
	unit := "postgresql@" + version + "-main"
	m.sh(t, "ip link set lo up; systemctl stop "+unit+
		"; mkdir -p /run/postgresql; chown postgres:postgres /run/postgresql")
	// whatever certificate this system has
	m.write(t, "/etc/postgresql/"+version+"/main/conf.d/test.conf", "ssl = off\n", 0o644)
	flags := []string{"-p", "service", "--rw", "/var/lib/postgresql", "--rw", "/var/log/postgresql", "--rw",
		"/run/postgresql", "--rw", "/dev/shm"}
	query := func(q string) string { return asPostgres(`psql -qAt -c "` + q + `" bench`) }
	m.both(t, unit, flags, func(t *testing.T) string {
		m.sh(t, "systemctl start "+unit)
		said := m.memoryOf(t, unit)
		m.sh(t, asPostgres("dropdb --if-exists bench 2>/dev/null; createdb bench; pgbench -q -i bench 2>&1"))
		said += m.sh(t, "("+asPostgres(
			"pgbench -c 4 -j 2 -t 200 bench 2>&1")+") >/tmp/pgbench & sleep 0.1; systemctl reload "+unit+
			"; wait; grep -e 'actually processed' -e 'failed transactions' /tmp/pgbench")
		said += m.sh(t, query("select count(*), sum(abalance)=(select sum(delta) from pgbench_history) "+
			"from pgbench_accounts"))
		// One process of it crashes: PostgreSQL recovers by itself.
		m.sh(t, `kill -9 $(`+query(
			"select pid from pg_stat_activity where backend_type=\\$\\$background writer\\$\\$")+`)`)
		eventually(t, 20*time.Second, "PostgreSQL has recovered",
			func() bool { _, err := m.try(query("select 1")); return err == nil })
		// The whole of it crashes: it recovers at its next start.
		m.sh(t, "systemctl kill -s KILL "+unit+"; sleep 0.3; systemctl reset-failed "+unit+"; systemctl start "+unit)
		said += m.sh(t, query("select count(*) from pgbench_history"))
		m.sh(t, "systemctl stop "+unit)
		return said + m.property(t, unit, "Result")
	})
	secondPostgreSQL(t, m, version)
}

// secondPostgreSQL: one outside holds the data, and a second one on the same data sees
// that, although it can signal nobody outside.
func secondPostgreSQL(t *testing.T, m *machine, version string) {
	t.Helper()
	data := " -D /var/lib/postgresql/" + version + "/main "
	options := "-c config_file=/etc/postgresql/" + version + "/main/postgresql.conf -c external_pid_file="
	bin := "/usr/lib/postgresql/" + version + "/bin/"
	m.sh(t, asPostgres(bin+"pg_ctl"+data+`-w -l /tmp/outside.log -o "-p 5499 `+options+`" start >/dev/null`))
	m.unit(t, "second.service", "[Service]\nType=notify\nUser=postgres\nExecStart="+bin+"postgres"+data+options+"\n")
	m.sh(t, "systemctl daemon-reload")
	for _, want := range []string{"lock file \"postmaster.pid\" already exists", "pre-existing shared memory block"} {
		if out, err := m.try("systemctl start second"); err == nil {
			t.Errorf("a second PostgreSQL started on the same data: %s", out)
		}
		if status := m.property(t, "second", "ExecMainStatus"); status != "1" {
			t.Errorf("the second PostgreSQL ended with status %s", status)
		}
		m.journal(t, "second", want)
		m.wrap(t, "second", "-p", "service", "--rw", "/var/lib/postgresql", "--rw", "/run/postgresql", "--rw",
			"/dev/shm")
	}
	m.sh(t, asPostgres("psql -p 5499 -qAt -c \"select count(*) from pgbench_history\" bench; "+bin+"pg_ctl"+
		data+"-w stop >/dev/null"))
}

// unitRunc: memjail is process 1 of a container.
func unitRunc(t *testing.T, m *machine) {
	if _, err := m.try("command -v runc"); err != nil {
		t.Skip("there is no runc here")
	}
	m.sh(t, `mkdir -p /tmp/b/up /tmp/b/work /tmp/b/rootfs && cd /tmp/b && mount -t tmpfs tmpfs up && mkdir up/u up/w &&
		mount -t overlay -o lowerdir=/,upperdir=up/u,workdir=up/w overlay rootfs && runc spec`)
	run := func(argv string) string {
		m.sh(t, `cd /tmp/b && python3 - <<'X'
import json
c = json.load(open("config.json"))
c["process"]["terminal"] = False
c["process"]["args"] = `+argv+`
json.dump(c, open("config.json", "w"))
X`)
		return m.sh(t, "cd /tmp/b && runc run one </dev/null; echo status $?")
	}
	command := `"/bin/sh", "-c", "python3 /usr/local/lib/service.py print in; (sleep 0.2; exit 3) & exit 9"`
	control, wrapped := run(`["/bin/sh", "-c", `+
		command[len(`"/bin/sh", "-c", `):]+`]`), run(`["/usr/local/bin/memjail", "exec", "-q", "--", `+command+`]`)
	strip := func(s string) string {
		return strings.Join(strings.FieldsFunc(strings.ReplaceAll(s, "memory open", "memory closed"),
			func(r rune) bool { return r >= '0' && r <= '9' && r != '9' }), "")
	}
	if !strings.Contains(control, "memory open") || strip(control) != strip(wrapped) {
		t.Errorf("wrapped:\n%s\nunwrapped:\n%s", wrapped, control)
	}
	m.sh(t, "umount /tmp/b/rootfs /tmp/b/up")
}

// unitPrivatePIDs: memjail is process 1 of a unit, from systemd 257 on.
func unitPrivatePIDs(t *testing.T, m *machine) {
	if version := m.version(t); version < 257 {
		t.Logf("systemd %d has no PrivatePIDs=", version)
		return
	}
	m.unit(t, "pp.service", "[Service]\nType=notify\nPrivatePIDs=yes\nExecStart="+aService+"serve\n")
	m.wrap(t, "pp")
	m.sh(t, "systemctl start pp")
	if said := m.property(t, "pp", "StatusText"); !strings.HasPrefix(said, "memory closed") {
		t.Error(said)
	}
	m.sh(t, "systemctl stop pp")
}
