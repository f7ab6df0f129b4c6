package filter

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// verdict evaluates a profile as libseccomp does: a rule applies if all of its conditions
// hold.
func (p *Profile) verdict(name string, args [6]uint64) Verdict {
	for _, r := range p.Syscalls {
		if slices.Contains(r.Names, name) && !slices.ContainsFunc(r.Args, func(a ProfileArg) bool {
			switch a.Op {
			case compareNot:
				return args[a.Index] == a.Value
			case compareEqual:
				return args[a.Index] != a.Value
			}
			return args[a.Index]&a.Value != a.ValueTwo
		}) {
			return ErrnoVerdict(unix.Errno(r.ErrnoRet))
		}
	}
	return Allow
}

// TestProfile compares profiles with the programs of the same options, in which calls that
// memjail does not know are refused as well.
func TestProfile(t *testing.T) {
	asked := questions()
	compared, refused := 0, 0
	for _, o := range variants(t, "amd64") {
		if o.Listener || o.RefuseCoreSignals || o.RefuseTruncate {
			continue
		}
		p, err := MakeProfile(o, nil)
		if err != nil {
			t.Fatal(err)
		}
		program := build(t, o)
		for _, d := range asked {
			name := CallName(d.Arch, d.NR)
			if d.Arch != unix.AUDIT_ARCH_X86_64 || !known(name) {
				continue
			}
			compared++
			have, want := p.verdict(name, d.Args), run(t, program, d)
			if want != Allow {
				refused++
			}
			if have != want {
				t.Fatalf("%s %#x: the profile says %v, the program %v\n%+v", name, d.Args, have, want, o)
			}
		}
	}
	if compared < 10000 || refused < 1000 {
		t.Errorf("compared %d calls, of which %d are refused", compared, refused)
	}
}

// TestProfileArguments: libseccomp takes one condition on each argument; of several, runc
// makes rules of which any is enough.
func TestProfileArguments(t *testing.T) {
	for _, o := range variants(t, "amd64") {
		p, err := MakeProfile(o, []string{"keyctl"})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range p.Syscalls {
			seen := map[uint]bool{}
			for _, a := range r.Args {
				if seen[a.Index] {
					t.Fatalf("%+v compares argument %d twice", r, a.Index)
				}
				seen[a.Index] = true
			}
		}
		if len(p.Syscalls) > 600 {
			t.Errorf("%d rules", len(p.Syscalls))
		}
	}
	if _, err := MakeProfile(Options{}, []string{"prlimit64:set"}); err == nil {
		t.Error("a use of a call is accepted")
	}
}
