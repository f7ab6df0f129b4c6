package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// unitMany: several services are listed, wrapped at once or not at all, and told about.
func unitMany(t *testing.T, m *machine) {
	for _, name := range []string{"many-a", "many-b", "many-t@"} {
		m.unit(t, name+".service", "[Service]\nType=exec\nExecStart=/usr/bin/sleep 1000\n")
	}
	m.unit(t, "many-f.service", "[Service]\nType=forking\nExecStart=/usr/bin/sleep 1000\n")
	m.sh(t, "systemctl daemon-reload; systemctl start many-a many-t@one")
	out, err := m.try("memjail systemd drop-in many-a many-f many-missing")
	if err == nil || !strings.Contains(out, "no PIDFile=") || !strings.Contains(out, "no unit many-missing") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := m.try("ls -d /etc/systemd/system/many-*"); err == nil {
		t.Errorf("something was written: %s", out)
	}
	out = m.sh(t, "memjail systemd drop-in 'many-*' && systemctl daemon-reload")
	if strings.Count(out, "wrote ") != 3 || !strings.Contains(out, "left out: many-f.service") {
		t.Error(out)
	}
	list := func() string { return m.sh(t, "memjail systemd list 'many-*' | tr -s ' '") }
	for _, want := range []string{"many-a.service active wrapped memory what runs was started before",
		"many-b.service inactive wrapped", "many-t@one.service active wrapped", "many-f.service inactive impossible"} {
		if out := list(); !strings.Contains(out, want) {
			t.Errorf("no %q:\n%s", want, out)
		}
	}
	m.sh(t, "systemctl restart many-a many-t@one")
	if out := m.sh(t, "memjail systemd status many-a many-t@one"); strings.Count(out, "inside   yes") != 2 {
		t.Error(out)
	}
	if out, err := m.try("memjail systemd status many-f"); err == nil {
		t.Error("it is not wrapped, and the status is 0:", out)
	}
	if out := m.sh(t, "setpriv --reuid 12345 --regid 12345 --clear-groups memjail systemd list 'many-*' --format "+
		"json"); !strings.Contains(out, `"unit": "many-a.service"`) {
		t.Error(out)
	}
	m.sh(t, "systemctl stop many-a many-t@one; for u in many-a many-b many-t@; do memjail systemd remove $u; done; "+
		"systemctl daemon-reload")
}

// unitApply: a service stays wrapped if its check succeeds, with the options of systemd with
// which it does; otherwise all is as it was, and the service runs.
func unitApply(t *testing.T, m *machine) {
	m.unit(t, "ap.service", "[Service]\nType=exec\nExecStart=/bin/sh -c 'mkdir -p /run/ap-own && exec sleep 1000'\n")
	m.sh(t, "systemctl daemon-reload; systemctl start ap")
	out, err := m.try("memjail systemd apply ap --check 'exit 3' --within 1s")
	if err == nil || !strings.Contains(out, "all is as it was before") {
		t.Errorf("%v: %s", err, out)
	}
	m.unwrapped(t, "ap")
	if out := m.sh(t, "memjail systemd apply ap --check 'test -d /run/ap-own' --within 5s"); !strings.Contains(out,
		"and works") {
		t.Error(out)
	}
	m.sh(t, "memjail systemd status ap && memjail systemd remove ap && systemctl daemon-reload && rm -r /run/ap-own")
	// Under ProtectSystem=full /run can be written; without rules for paths nothing else is set.
	out = m.sh(t, "memjail systemd apply ap --harden --check 'test -d /run/ap-own' --within 5s 2>&1")
	if !strings.Contains(out, "exposure by systemd-analyze security") {
		t.Error(out)
	}
	m.sh(t, "memjail systemd status ap && systemctl show -p NoNewPrivileges ap | grep yes")
	m.sh(t, "memjail systemd remove ap; systemctl daemon-reload; systemctl stop ap")
}

// unwrapped fails unless a unit runs without memjail, and nothing of a trial is left.
func (m *machine) unwrapped(t *testing.T, unit string) {
	t.Helper()
	m.sh(t, "systemctl is-active "+unit+" && ! systemctl cat "+unit+" | grep 'memjail exec' && "+
		"! ls -d /run/memjail-apply* /run/systemd/system/"+unit+".service.d "+
		"/etc/systemd/system/"+unit+".service.d 2>/dev/null")
}

// unitApplyKilled: the change is taken back although memjail was killed in the middle.
func unitApplyKilled(t *testing.T, m *machine) {
	m.unit(t, "ak.service", "[Service]\nType=exec\nExecStart=/usr/bin/sleep 1000\n")
	m.sh(t, "systemctl daemon-reload; systemctl start ak")
	m.sh(t, "touch /run/ak-wait; memjail systemd apply ak --check 'while test -e /run/ak-wait; do sleep 0.1; done' "+
		">/dev/null 2>&1 & echo $! >/run/ak-pid")
	eventually(t, 20*time.Second, "the service runs under memjail", func() bool {
		out, _ := m.try("test -e /run/systemd/system/ak.service.d/zzz-memjail-apply.conf && " +
			"systemctl show -p ExecStart ak")
		return strings.Contains(out, "memjail exec")
	})
	m.sh(t, "kill -9 $(cat /run/ak-pid); rm /run/ak-wait")
	eventually(t, 20*time.Second, "all is as it was before", func() bool {
		_, err := m.try("systemctl is-active ak && ! systemctl cat ak | grep 'memjail exec' && " +
			"! ls /run/memjail-apply*")
		return err == nil
	})
	m.unwrapped(t, "ak")
	m.sh(t, "systemctl stop ak")
}

// services are those of Debian's packages for which there are policies, by the names of the
// client's loads, with their units.
var services = []struct{ name, unit string }{
	{"nginx", "nginx"}, {"apache2", "apache2"}, {"redis", "redis-server"}, {"memcached", "memcached"},
	{"postgresql", "postgresql@15-main"}, {"mariadb", "mariadb"}, {"haproxy", "haproxy"}, {"unbound", "unbound"},
	{"bind9", "named"}, {"chrony", "chrony"}, {"postfix", "postfix@-"}, {"dovecot", "dovecot"},
	{"rabbitmq", "rabbitmq-server"},
}

// TestServices serves a load from each service without memjail, and then, applied by its policy
// with that load as the check, once more, also after a reload. It needs the root directory that
// testdata/systemd/services.sh makes.
func TestServices(t *testing.T) {
	root := os.Getenv("MEMJAIL_SERVICES_ROOT")
	if root == "" {
		return // make services
	}
	root, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	m := bootSystemdOf(t, root)
	m.sh(t, "ip link set lo up; systemd-tmpfiles --create >/dev/null 2>&1; true")
	table := "| service | without | with | left out |\n|---|---|---|---|\n"
	for _, s := range services {
		t.Run(s.name, func(t *testing.T) {
			serveLoad(t, m, s.name, s.unit)
			table += hardenService(t, m, s.name, s.unit)
		})
	}
	if page := os.Getenv("MEMJAIL_SERVICES_TABLE"); page != "" && !t.Failed() {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		before, _, after, err := cutTable(string(text))
		if err == nil {
			err = os.WriteFile(page, []byte(before+table+after), 0o644)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// hardenService applies the options of systemd that the policy implies, as far as the service
// still answers, and returns a row: how systemd rates it before and after.
func hardenService(t *testing.T, m *machine, name, unit string) string {
	m.sh(t, "memjail systemd remove "+unit+"; systemctl daemon-reload; systemctl start "+unit)
	out, err := m.within(15*time.Minute, "memjail systemd apply "+unit+" --harden --check '/usr/local/lib/client.py "+
		name+"' --within 12s 2>&1")
	rated := regexp.MustCompile(`security: (\S+) \S+ without it, (\S+) `).FindStringSubmatch(out)
	if err != nil || rated == nil {
		t.Fatalf("%v: %s", err, out)
	}
	left := []string{}
	for _, found := range regexp.MustCompile(`left out (.*?): `).FindAllStringSubmatch(out, -1) {
		left = append(left, "`"+found[1]+"`")
	}
	m.sh(t, "systemctl stop "+unit)
	return fmt.Sprintf("| %s | %s | %s | %s |\n", name, rated[1], rated[2], strings.Join(left, ", "))
}

func serveLoad(t *testing.T, m *machine, name, unit string) {
	load := "/usr/local/lib/client.py " + name
	m.sh(t, load+" configure; systemctl start "+unit)
	control := m.sh(t, load)
	out := m.sh(t, "memjail systemd apply "+unit+" --check '"+load+"' --within 35s")
	if !strings.Contains(out, "is wrapped by") {
		t.Error(out)
	}
	inside := m.sh(t, load)
	m.try("systemctl reload " + unit) // not all can
	reloaded := m.sh(t, load)
	if inside != control || reloaded != control {
		t.Errorf("without memjail: %s\ninside: %s\nreloaded: %s", control, inside, reloaded)
	}
	m.sh(t, "memjail systemd status "+unit)
	refused, _ := m.try("journalctl --no-pager -q -o cat -u " + unit +
		" MEMJAIL_EVENT=refused --output-fields=MEMJAIL_PATH")
	t.Logf("%s: %s; refused: %q", name, inside, refused)
	m.sh(t, "systemctl stop "+unit)
	if result := m.property(t, unit, "Result"); result != "success" {
		t.Errorf("it ended with %s", result)
	}
}
