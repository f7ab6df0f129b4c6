package main_test

import (
	"fmt"
	"testing"
)

// perlOpens opens files while children end, whose signal perl handles without SA_RESTART.
const perlOpens = `$SIG{CHLD} = sub { 1 while waitpid(-1, 1) > 0 };
my ($interrupted, $failed) = (0, 0);
for (1..300) {
	my $p = fork; exit 0 unless $p;
	for (1..5) { if (open my $f, "<", "/etc/passwd") { close $f } elsif ($!{EINTR}) { $interrupted++ } else { $failed++ } }
}
print "$interrupted $failed\n";`

// TestInterrupted counts the opens that fail with EINTR where a handler without
// SA_RESTART runs. Outside there are none. Inside a signal can end a call until the
// supervisor has received it; it must stay a matter of a few in a hundred, and be the
// only difference. Where nothing is asked there is none.
func TestInterrupted(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		as.needs(t, "perl")
		dir := as.workDir(t)
		for _, program := range []struct {
			name  string
			opens int
			argv  []string
		}{
			{"C", 20000, []string{attackProgram(t, "c/interrupted.c"), "20000"}},
			{"perl", 1500, []string{"perl", "-MErrno", "-e", perlOpens}},
		} {
			count := func(first ...string) (interrupted int) {
				var failed int
				o := job{as: as, dir: dir, argv: append(first, program.argv...)}.run(t)
				if _, err := fmt.Sscan(o.stdout, &interrupted, &failed); err != nil || failed != 0 {
					t.Fatalf("%s: %v: %v", program.name, err, o)
				}
				return interrupted
			}
			if n := count(); n != 0 {
				t.Fatalf("control: %s: %d opens were interrupted", program.name, n)
			}
			inside := count(memjailPath(t), "run", "-q", "--")
			t.Logf("%s: %d of %d", program.name, inside, program.opens)
			if inside > program.opens/10 {
				t.Errorf("%s: %d of %d opens were interrupted", program.name, inside, program.opens)
			}
			if n := count(memjailPath(t), "run", "-q", "--memory", "no-write", "--"); n != 0 {
				t.Errorf("%s: %d opens were interrupted although nobody is asked", program.name, n)
			}
		}
	})
}
