package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/memjail/memjail/sandbox/report/reporttest"
)

// logLines reads a log in JSON.
func logLines(t *testing.T, file string) []map[string]any {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var lines []map[string]any
	for line := range strings.Lines(string(text)) {
		var value map[string]any
		if err := json.Unmarshal([]byte(line), &value); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		lines = append(lines, value)
	}
	return lines
}

// TestLogSchema holds logs of real refusals and docs/log-schema.json together.
func TestLogSchema(t *testing.T) {
	schema := reporttest.ReadSchema(t, filepath.Join("..", "..", "docs", "log-schema.json"))
	forAccounts(t, func(t *testing.T, as account) {
		home, dir := as.homeDir(t), as.workDir(t)
		plantFile(t, as, home, ".npmrc", "token")
		plantFile(t, as, home, "n\xff\x1b\n", "")
		python := []string{"/usr/bin/python3", "-c"}
		kinds := map[string]bool{}
		for _, test := range []struct{ run, argv []string }{
			{[]string{"-p", "workspace"}, []string{"bash", "-c", `cat ~/.npmrc ~/n*; ls ~; mkdir ~/x; rm ~/.npmrc; ` +
				`./missing; chmod 600 ~/.npmrc; /bin/cat /proc/self/mem`}},
			{[]string{"--connect-tcp", "9"}, []string{"bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/10"}},
			{[]string{"--network", "none"}, append(python, "import socket; socket.socket(socket.AF_UNIX)")},
			{nil, append(python, "import ctypes; ctypes.CDLL(None).ptrace(0, 0, 0, 0)")},
			{[]string{"-p", "strict", "--add-exec"}, []string{"/bin/ls"}},
		} {
			log := filepath.Join(dir, "log")
			argv := append([]string{memjailPath(t), "run", "-q", "--log", log, "--log-format", "json"}, test.run...)
			o := job{as: as, dir: dir, argv: append(append(argv, "--"), test.argv...)}.run(t)
			lines := logLines(t, log)
			if len(lines) == 0 {
				t.Errorf("%v: nothing was logged: %v", test.argv, o)
			}
			for _, line := range lines {
				for _, complaint := range schema.Complaints(line) {
					t.Errorf("%v: %s", line, complaint)
				}
				for key := range line {
					kinds[key] = true
				}
			}
			if err := os.Remove(log); err != nil {
				t.Fatal(err)
			}
		}
		for key := range schema.Definitions["refusal"].Properties {
			if !kinds[key] && key != "harmless" {
				t.Errorf("no line has %q", key)
			}
		}
	})
	// The control: what the schema does not allow is found.
	for name, line := range map[string]map[string]any{
		"a forged key": {"time": "2026-01-01T00:00:00Z", "warning": "w", "more": "m"},
		"neither":      {"time": "2026-01-01T00:00:00Z"},
		"a text as remedy": {"time": "2026-01-01T00:00:00Z", "policy": "p", "pid": 1.0, "tid": 1.0, "comm": "c",
			"call": "c", "layer": "landlock", "errno": "EACCES", "remedy": "--ro /"},
	} {
		if len(schema.Complaints(line)) == 0 {
			t.Errorf("%s: not found", name)
		}
	}
}
