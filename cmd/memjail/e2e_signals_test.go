package main_test

import (
	"strings"
	"testing"
)

// sendAll sends a command each signal, alone and with its process group, and prints what its
// handlers saw and how it ended; then what becomes of one without handlers, and of an alarm
// that was set before it was executed.
const sendAll = `
import concurrent.futures, os, signal, subprocess, sys
handlers = '''
import signal, sys, time
count = {}
def handler(number, frame): count[number] = count.get(number, 0) + 1
for number in set(range(1, 65)) - {9, 19, 32, 33}: signal.signal(number, handler)
print("ready", flush=True)
end = time.time() + 0.7
while time.time() < end: time.sleep(.05)
print(sorted(count.items()), flush=True)
'''
def start(command):
    return subprocess.Popen(sys.argv[1:] + command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: os.setpgid(0, 0))
def ended(what, p):
    out, err = p.communicate()
    return f'{what}: {out.strip()} {p.returncode} {len(err.splitlines())}'
def handled(send, name, number):
    p = start([sys.executable, '-c', handlers])
    p.stdout.readline()
    send(p.pid, number)
    return ended(f'{name} {number}', p)
def died(number):
    p = start(['sh', '-c', 'echo ready; exec sleep 10'])
    p.stdout.readline()
    os.kill(p.pid, number)
    return ended(f'died {number}', p)
def alarmed(_):
    return ended('alarm', subprocess.Popen([sys.executable, '-c',
        'import os, signal, sys; signal.alarm(2); os.execvp(sys.argv[1], sys.argv[1:])'] + sys.argv[1:] + ['sleep', '10'],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
jobs = [(handled, send, name, number) for send, name in ((os.kill, 'alone'), (os.killpg, 'group'))
    for number in sorted(set(range(1, 36)) - {9, 19, 32, 33} | {40, 50, 64})]
jobs += [(died, number) for number in (4, 5, 6, 7, 8, 11, 13, 15, 24, 25, 31, 32, 34, 64)] + [(alarmed, 0)]
with concurrent.futures.ThreadPoolExecutor(6) as pool:
    for line in pool.map(lambda job: job[0](*job[1:]), jobs): print(line)
`

// TestSignalsForwarded: a command gets every signal that memjail is sent, once, and memjail
// ends as the command does.
func TestSignalsForwarded(t *testing.T) {
	t.Parallel()
	forAccounts(t, func(t *testing.T, as account) {
		argv := []string{as.find(t, "python3"), "-c", sendAll}
		native := job{as: as, dir: as.workDir(t), argv: argv}.run(t)
		inside := job{as: as, dir: as.workDir(t), argv: append(argv, memjailPath(t), "run", "-q", "--")}.run(t)
		if native.code != 0 || inside.code != 0 {
			t.Fatal(native, inside)
		}
		want, got := strings.Split(native.stdout, "\n"), strings.Split(inside.stdout, "\n")
		if len(want) != len(got) || len(want) < 80 {
			t.Fatalf("%d lines, and %d with memjail", len(want), len(got))
		}
		for i := range want {
			if want[i] != got[i] {
				t.Errorf("native %q, with memjail %q", want[i], got[i])
			}
		}
	})
}
