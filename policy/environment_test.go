package policy

import "testing"

func TestFitsName(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"A", "A", true}, {"A", "AB", false}, {"A", "a", true}, {"*", "", true}, {"*", "X", true},
		{"AWS_*", "AWS_PROFILE", true}, {"AWS_*", "aws_profile", true}, {"AWS_*", "XAWS_A", false},
		{"*_TOKEN", "GITHUB_TOKEN", true}, {"*_TOKEN", "TOKEN", false}, {"*_TOKEN", "_TOKEN", true},
		{"*_TOKEN", "A_TOKENS", false}, {"*SECRET*", "MY_SECRET_1", true}, {"*SECRET*", "SECRE", false},
		{"A*A", "A", false}, {"A*A", "AA", true}, {"A*B*C", "AxByC", true}, {"A*B*C", "AxC", false},
		{"A**C", "AC", true}, {"A*BC*C", "ABC", false}, {"", "", true}, {"", "A", false},
	} {
		if got := FitsName(c.pattern, c.name); got != c.want {
			t.Errorf("%q, %q: got %t", c.pattern, c.name, got)
		}
	}
}

func TestEnvironmentPasses(t *testing.T) {
	e := Environment{Drop: []string{"*_TOKEN", "!GITHUB_TOKEN", "AWS_*", "!AWS_REGION"}}
	kept := e
	kept.Keep = OnlyThese("A_TOKEN", "PATH")
	for _, c := range []struct {
		e    Environment
		name string
		want bool
		by   string
	}{
		{e, "PATH", true, ""}, {e, "A_TOKEN", false, "*_TOKEN"}, {e, "GITHUB_TOKEN", true, ""},
		{e, "AWS_KEY", false, "AWS_*"}, {e, "AWS_REGION", true, ""},
		{kept, "PATH", true, ""}, {kept, "HOME", false, ""}, {kept, "A_TOKEN", false, "*_TOKEN"},
		{kept, "GITHUB_TOKEN", false, ""},
		// What comes later decides.
		{Environment{Drop: []string{"!A_TOKEN", "*_TOKEN"}}, "A_TOKEN", false, "*_TOKEN"},
		{kept.Passing("A_TOKEN", "NOTIFY_SOCKET"), "A_TOKEN", true, ""},
		{kept.Passing("A_TOKEN", "NOTIFY_SOCKET"), "NOTIFY_SOCKET", true, ""},
		{Environment{Drop: []string{"A"}}.Passing("A"), "A", false, "A"},
	} {
		if got, by := c.e.Passes(c.name), c.e.DroppedBy(c.name); got != c.want || by != c.by {
			t.Errorf("%+v, %q: got %t, %q", c.e, c.name, got, by)
		}
	}
	if len(e.Drop) != 4 {
		t.Errorf("changed: %q", e.Drop)
	}
}
