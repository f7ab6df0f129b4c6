package main_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// criu returns a criu(8) that works on this kernel, which no user but root can use.
func criu(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("criu needs root")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir()
	}
	out, err := exec.Command(attackSource("criu"), filepath.Join(cache, "memjail-criu")).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 77 {
		t.Skip(strings.TrimSpace(string(out)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// Steps of a process that is saved to files, which are edited, and brought back; $1 is criu
// and $2 the program. What the process says of its memory is in the file says.
const (
	startSaved = `setsid "$2" says </dev/null >/dev/null 2>&1 &
until [ -s says ]; do sleep 0.02; done
`
	saveEdited = `mkdir images
"$1" dump -t "$(cut -d ' ' -f 1 says)" -D images -o log || tail -n 2 images/log
LC_ALL=C sed -i 's/Canary-old-value/Canary-new-value/g' images/pages-*.img &&
	while [ -d "/proc/$(cut -d ' ' -f 1 says)" ]; do sleep 0.02; done # until its number is free
`
	bringBack = `"$1" restore -d -D images -o log || tail -n 2 images/log
sleep 0.5
`
)

// TestCheckpointRestore saves a process, edits its memory and brings it back with criu.
// Inside none of the two steps is possible, with a process inside or outside, and with the
// capabilities that criu asks for.
func TestCheckpointRestore(t *testing.T) {
	tool, program, as := criu(t), attackProgram(t, "c/saved.c"), accounts()[0]
	for _, test := range []struct {
		name, before, inside string
	}{
		{"everything", "", startSaved + saveEdited + bringBack},
		{"save", startSaved, saveEdited + bringBack},
		{"restore", startSaved + saveEdited, bringBack},
	} {
		t.Run(test.name, func(t *testing.T) {
			said := func(dir string) string {
				var text []byte
				for range 50 { // the program is writing it
					var err error
					if text, err = os.ReadFile(filepath.Join(dir, "says")); err != nil {
						t.Fatal(err)
					}
					if len(text) > 0 {
						break
					}
					time.Sleep(20 * time.Millisecond)
				}
				return strings.TrimSpace(string(text))
			}
			step := func(dir, script string, prefix ...string) outcome {
				t.Helper()
				return job{as: as, dir: dir, timeout: 20 * time.Second,
					argv: append(prefix, "sh", "-c", script, "sh", tool, program)}.run(t)
			}
			const end = `read -r pid value <says; kill "$pid" 2>/dev/null || true`
			dir := as.workDir(t)
			step(dir, test.before)
			control := step(dir, test.inside)
			if !strings.HasSuffix(said(dir), "Canary-new-value") {
				t.Errorf("control: %q: %v", said(dir), control)
			}
			step(dir, end)
			for _, flags := range [][]string{nil,
				{"--allow", "capabilities.keep=CAP_SYS_ADMIN,CAP_SYS_PTRACE,CAP_CHECKPOINT_RESTORE"}} {
				dir = as.workDir(t)
				step(dir, test.before)
				memjail := append([]string{memjailPath(t), "run", "-q", "--kill-rest"}, flags...)
				result := step(dir, test.inside, append(memjail, "--")...)
				if text := said(dir); !strings.HasSuffix(text, "Canary-old-value") {
					t.Errorf("%v: %q: %v", flags, text, result)
				}
				if !strings.Contains(result.stdout, "Error") && !strings.Contains(result.stdout, "CRIU needs") {
					t.Errorf("%v: criu reports no error: %v", flags, result)
				}
				if ended := step(dir, `read -r pid value <says; kill -0 "$pid"`).code != 0; test.name == "save" &&
					ended {
					t.Errorf("%v: the process outside has ended: %v", flags, result)
				}
				step(dir, end)
			}
		})
	}
}
