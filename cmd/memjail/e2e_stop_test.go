package main_test

import (
	"strings"
	"testing"
)

// TestStoppedCommand: memjail stops with its command, goes on with it, and ends with it,
// whoever continues or kills the command. Each script runs without memjail too.
func TestStoppedCommand(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, script string }{
		{"continued by itself", `% sh -c '(sleep 0.5; kill -CONT $$) & kill -STOP $$; echo went on; exit 6'; echo $?`},
		{"continued twice", `% sh -c 'for i in 1 2; do (sleep 0.3; kill -CONT $$) & kill -STOP $$; echo went on; done; exit 6'; echo $?`},
		{"killed", `% sh -c '(sleep 0.5; kill -KILL $$) & kill -STOP $$; echo went on' 2>/dev/null; echo $?`},
		{"with a name like a state",
			`cp "$(command -v sleep)" 'a) T 1'; % bash -c '(sleep 0.2; kill -STOP $$; sleep 0.3; kill -CONT $$) & exec "./a) T 1" 1'; echo $?`},
		{"stays stopped", `set -m; % sh -c 'kill -STOP $$; echo went on' & sleep 1.5; sed 's/.*) //; s/ .*//' /proc/$!/stat; kill -CONT -$!; wait $! 2>/dev/null; echo $?`},
	}
	for _, flags := range []string{"", "--memory no-write --allow procfs.write=", "--relay"} {
		forAccounts(t, func(t *testing.T, as account) {
			for _, test := range tests {
				t.Run(strings.TrimSpace(test.name+" "+flags), func(t *testing.T) {
					t.Parallel()
					want := job{as: as, dir: as.workDir(t), argv: relayScript(test.script, "")}.run(t)
					got := job{as: as, dir: as.workDir(t),
						argv: relayScript(test.script, memjailPath(t)+" run -q "+flags+" --")}.run(t)
					if got.stdout != want.stdout || want.stdout == "" || got.code != want.code {
						t.Errorf("native %q (%d), with memjail %q (%d) %q", want.stdout, want.code, got.stdout,
							got.code, got.stderr)
					}
				})
			}
		})
	}
}

// stopAndContinue runs a command many times at once, stops and continues each several times,
// and prints those that have not ended as they should.
const stopAndContinue = `
import os, signal, subprocess, sys, threading, time
command = sys.argv[1:] + ['sh', '-c', 'i=0; while [ $i -lt 20 ]; do sleep 0.05; i=$((i+1)); done; exit 6']
def play(sig, send, name, delay):
    p = subprocess.Popen(command, preexec_fn=lambda: os.setpgid(0, 0))
    time.sleep(.5)
    for i in range(8):
        send(p.pid, sig)
        time.sleep(delay)
        send(p.pid, signal.SIGCONT)
        time.sleep(.03)
    try:
        status = p.wait(15)
    except subprocess.TimeoutExpired:
        status = open(f'/proc/{p.pid}/stat').read().rsplit(')', 1)[1].split()[0]
        os.killpg(p.pid, signal.SIGKILL)
    if status != 6:
        print(sig.name, name, delay, status)
threads = [threading.Thread(target=play, args=(sig, send, name, delay)) for sig in (signal.SIGTSTP, signal.SIGSTOP)
    for send, name in ((os.kill, 'alone'), (os.killpg, 'group')) for delay in (0, .001, .005, .1)]
for t in threads: t.start()
for t in threads: t.join()
print('played')
`

// TestContinuedSoon: a command and memjail go on, however soon after a stop they are
// continued.
func TestContinuedSoon(t *testing.T) {
	t.Parallel()
	forAccounts(t, func(t *testing.T, as account) {
		for _, before := range []string{"", "run -q --", "run -q --relay --"} {
			argv := []string{as.find(t, "python3"), "-c", stopAndContinue}
			if before != "" {
				argv = append(append(argv, memjailPath(t)), strings.Fields(before)...)
			}
			if o := (job{as: as, dir: as.workDir(t), argv: argv}).run(t); o.stdout != "played\n" {
				t.Errorf("%q: %v", before, o)
			}
		}
	})
}
