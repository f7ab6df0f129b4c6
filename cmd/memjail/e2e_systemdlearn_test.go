package main_test

import (
	"strings"
	"testing"
	"time"
)

// learningDropIn is the drop-in by which a unit is observed.
func learningDropIn(unit string) string {
	return "/run/systemd/system/" + unit + ".service.d/zzz-memjail-learn.conf"
}

// unitLearn: what is learned from a service while it works lets it do the same work, and
// closes what it did not use.
func unitLearn(t *testing.T, m *machine) {
	m.sh(t, "ip link set lo up")
	for _, c := range []struct{ unit, program, work, prints, holds string }{
		{"nginx", "nginx", "python3 -c 'import urllib.request; " +
			"print(urllib.request.urlopen(\"http://127.0.0.1/\").status)'",
			"200", "bind-tcp    = [80]"},
		{"redis-server", "redis-server", "redis-cli set k v; redis-cli get k; redis-cli save", "OK\nv\nOK",
			"\"?/var/lib/redis\", #"},
	} {
		t.Run(c.unit, func(t *testing.T) {
			needsUnit(t, m, c.unit)
			policy := "/etc/memjail/" + c.unit + ".toml"
			m.sh(t, "mkdir -p /etc/memjail; rm -f "+policy+"; systemd-run --quiet --collect --unit=learner "+
				"memjail systemd learn "+c.unit+" --for 30s --restart -o "+policy)
			works := func(what string) {
				t.Helper()
				var said string
				eventually(t, 20*time.Second, c.unit+" works "+what, func() bool {
					said, _ = m.try(c.work)
					return said == c.prints
				})
			}
			eventually(t, 20*time.Second, "it is started under observation", func() bool {
				out, _ := m.try("test -e " + learningDropIn(c.unit) + " && systemctl is-active " + c.unit)
				return out == "active"
			})
			time.Sleep(time.Second)
			works("while it is observed")
			if said := m.memoryOf(t, c.unit); !strings.Contains(said, "memory closed") {
				t.Error("its memory is open while it is observed")
			}
			m.sh(t, "kill -INT $(systemctl show --value -p MainPID learner)")
			eventually(t, 20*time.Second, "the learner has ended", func() bool {
				out, _ := m.try("systemctl is-active learner; test -e " + learningDropIn(c.unit) + " && echo there")
				return out == "inactive"
			})
			text := m.sh(t, "cat "+policy)
			if !strings.Contains(text, c.holds) {
				t.Errorf("want %q in\n%s", c.holds, text)
			}
			works("as before")
			m.wrap(t, c.unit, "-p", policy)
			m.sh(t, "systemctl restart "+c.unit)
			works("under the policy")
			said := m.memoryOf(t, c.unit)
			if !strings.Contains(said, "memory closed") {
				t.Error("its memory is open under the policy")
			}
			m.sh(t, "systemctl stop "+c.unit+"; memjail systemd remove "+c.unit+" && systemctl daemon-reload")
		})
	}
}

// unitLearnKilled: the drop-in is removed if memjail is killed, and nobody else's process
// says what a service used.
func unitLearnKilled(t *testing.T, m *machine) {
	m.unit(t, "lk.service", "[Service]\nType=notify\nExecStart="+aService+"serve\n")
	m.sh(t, "systemctl daemon-reload; systemctl start lk; rm -f /root/lk.toml; systemd-run --quiet --collect "+
		"--unit=learner -p Type=exec memjail systemd learn lk --for 60s --restart -o /root/lk.toml")
	eventually(t, 20*time.Second, "it is started under observation", func() bool {
		out, _ := m.try("test -e " + learningDropIn("lk") + " && systemctl is-active lk")
		return out == "active" && strings.HasPrefix(m.told(t, "lk"), "memory closed")
	})
	if out, err := m.try("memjail systemd learn lk --for 1s -o /root/other.toml"); err == nil ||
		!strings.Contains(out, "is being observed already") {
		t.Errorf("a second one: %v\n%s", err, out)
	}
	m.sh(t, "kill -9 $(systemctl show --value -p MainPID learner)")
	eventually(t, 20*time.Second, "the drop-in is gone and the service as it was", func() bool {
		_, there := m.try("test -e " + learningDropIn("lk"))
		return there != nil && strings.HasPrefix(m.told(t, "lk"), "memory open")
	})
	if out, err := m.try("memjail systemd learn lk --for 2s -o /root/none.toml"); err == nil ||
		!strings.Contains(out, "nothing was learned") {
		t.Errorf("nobody has started it: %v\n%s", err, out)
	}
	m.sh(t, "test ! -e /root/none.toml; test ! -e "+learningDropIn("lk")+"; systemctl stop lk")
}
