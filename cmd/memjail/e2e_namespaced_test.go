package main_test

import (
	"os"
	"strings"
	"testing"
)

// TestNamespacedCapabilities: capabilities that a process has in a user namespace of its
// own only open no other process's files to it, where the policy grants these files.
func TestNamespacedCapabilities(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it takes root to become another user")
	}
	as := account{uid: -1}
	program := attackProgram(t, "c/namespaced.c")
	const open, closed = "environ: read\nmaps: read\nauxv: read\n", "environ: Permission denied\nmaps: " +
		"Permission denied\nauxv: Permission denied\n"
	granted := []string{memjailPath(t), "run", "-q", "--allow", "namespaces=user", "--allow", "processes=sandbox", "--"}
	for _, test := range []struct{ who, want string }{
		{"root", open}, // the control: the policy grants them, and the victim has them
		{"user", closed},
		{"namespace", closed},
	} {
		for _, launcher := range [][]string{nil, granted} {
			o := job{as: as, dir: as.workDir(t), argv: append(launcher, program, test.who)}.run(t)
			if o.code != 0 || o.stdout != test.want {
				t.Errorf("%s as %s: want %q: %v", strings.Join(launcher, " "), test.who, test.want, o)
			}
		}
	}
}
