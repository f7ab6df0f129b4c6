package main_test

import (
	"strings"
	"testing"
)

// TestDockerDefault runs memjail under what Docker 20.10 puts on a container by default:
// process_vm_readv is refused, and root has no CAP_SYS_PTRACE. What is granted of /proc
// is granted all the same. The control is the same without memjail.
func TestDockerDefault(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		read := []string{"/bin/sh", "-c", `read -r name < /proc/self/comm && echo "comm $name"
test -n "$(cat /proc/self/maps)" && echo maps; test -n "$(cat /proc/version)" && echo version
echo x > /proc/self/comm && echo renamed; (exec 3< /proc/self/mem) && echo memory; exit 0`}
		under := func(argv ...string) outcome {
			return job{as: as, dir: as.workDir(t), argv: append([]string{attackProgram(t, "c/dockerdefault.c")},
				argv...)}.run(t)
		}
		const granted = "comm sh\nmaps\nversion\nrenamed\n"
		if o := under(read...); o.code != 0 || o.stdout != granted+"memory\n" {
			t.Fatalf("control: %v", o)
		}
		for _, command := range []string{"run", "exec"} {
			o := under(append([]string{memjailPath(t), command, "--"}, read...)...)
			if o.code != 0 || o.stdout != granted || strings.Contains(o.stderr, "memjail:") {
				t.Errorf("%s: %v", command, o)
			}
		}
	})
}
