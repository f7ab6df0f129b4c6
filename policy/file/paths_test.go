package file

import (
	"fmt"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
)

// spelled lists the rules and devices of a policy as a file spells them.
func spelled(p policy.Policy) string {
	var parts []string
	for _, rights := range ruleRights {
		if list := pathsWith(p, rights); list != "" {
			parts = append(parts, rights.String()+" "+list)
		}
	}
	if list, _ := getDenied(&p).([]string); list != nil {
		parts = append(parts, "deny "+strings.Join(list, " "))
	}
	if list, _ := getDevices(&p).([]string); list != nil {
		parts = append(parts, "devices "+strings.Join(list, " "))
	}
	return strings.Join(parts, "; ")
}

// A path may be missing if the last layer that lists it marks it so, by "?" or by the older
// key optional.
func TestOptional(t *testing.T) {
	for _, c := range []struct {
		name         string
		lower, upper string // layers
		want         string
	}{
		{"marked", "", `ro = ["?/a", "/b"]`, "ro ?/a /b"},
		{"with variables", "", `ro = ["?~/a", "?${env:NONE}/x", "?${PWD}"]`, "ro ?/h/a ?/w"},
		{"the older key", "", "ro = [\"/a\", \"${env:NONE}\", \"/b\"]\noptional = [\"/a/\", \"${env:NONE}\"]",
			"ro ?/a /b"},
		{"both ways", "", "ro = [\"?/a\", \"/b\"]\noptional = [\"/a\", \"/b\"]", "ro ?/a ?/b"},
		{"the older key about a lower layer", `rw = ["/a"]`, `optional = ["/a"]`, "rw ?/a"},
		{"the older key about a device", `devices = ["/dev/a", "/dev/b"]`, `optional = ["/dev/b"]`,
			"devices /dev/a ?/dev/b"},
		{"the older key, emptied", "ro = [\"?/a\"]\ndevices = [\"?/dev/a\"]", "optional = []", "ro /a; devices /dev/a"},
		{"named again", `ro = ["?/a"]`, `ro = ["/a"]`, "ro /a"},
		{"named again, with other rights", `ro = ["?/a"]`, `rw = ["/a"]`, "rw /a"},
		{"marked in both", `ro = ["?/a"]`, `rw = ["?/a"]`, "rw ?/a"},
		{"marked above", `ro = ["/a"]`, `ro = ["?/a"]`, "ro ?/a"},
		{"a device named again", `devices = ["?/dev/a", "?/dev/b"]`, `devices = ["/dev/a"]`, "devices /dev/a ?/dev/b"},
		{"a denied path, marked in both", `deny = ["?/a"]`, `deny = ["?/a", "?~/b"]`, "deny ?/a ?/h/b"},
		{"a denied path, marked below", `deny = ["?/a"]`, `deny = ["/a"]`, "deny /a"},
		{"a denied path, marked above", `deny = ["/a"]`, `deny = ["?/a"]`, "deny /a"},
		{"denied paths add up", "deny = [\"/b\"]\nro = [\"/a\"]", `deny = ["/a"]`, "ro /a; deny /a /b"},
		{"denied paths, emptied", `deny = ["/b"]`, `deny = []`, ""},
		{"other lists stay", `ro = ["?/a"]`, `rw = ["/b"]`, "ro ?/a; rw /b"},
		{"an empty list empties its own", "ro = [\"?/a\"]\nrw = [\"/b\"]", "ro = []", "rw /b"},
		{"two variables lead to one path", "", "ro = [\"?${PWD}\"]\nrwx = [\"/w\"]", "rwx /w"},
		{"two variables lead to one path, marked", "", "rox = [\"?${PWD}\"]\nrw = [\"?${env:W}\"]", "rwx ?/w"},
	} {
		l := Loader{Env: []string{"HOME=/h", "W=/w"}, Dir: "/w", ReadFile: files(map[string]string{
			"/lower.toml": "[paths]\nmetadata = \"deny\"\n" + c.lower + "\n",
			"/upper.toml": "extends = [\"/lower.toml\"]\n[paths]\nmetadata = \"deny\"\n" + c.upper + "\n",
		})}
		p, err := l.Load("/upper.toml")
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := spelled(p); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		back, err := l.Parse(p.Name, Render(p), Default())
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		same(t, back, p)
		if strings.Contains(string(Render(p)), "optional") {
			t.Errorf("%s: the older key is written", c.name)
		}
	}
}

func TestOptionalFlags(t *testing.T) {
	base, err := Parse("x", []byte(
		"version = 1\npaths.rox = [\"?/opt\", \"?/srv\"]\npaths.devices = [\"?/dev/kvm\"]\n"), Default())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		flags Overrides
		want  string // or the error
	}{
		{Overrides{RO: []string{"?/a", "?b/../c"}}, "--ro ?b/../c: the path contains ..: write where it leads"},
		{Overrides{RO: []string{"?/a", "?b", "./?c"}}, "ro ?/a /w/?c ?/w/b; rox ?/opt ?/srv; devices ?/dev/kvm"},
		{Overrides{RO: []string{"/opt"}}, "ro /opt; rox ?/srv; devices ?/dev/kvm"},
		{Overrides{ROX: []string{"/opt", "?/srv"}}, "rox /opt ?/srv; devices ?/dev/kvm"},
		{Overrides{RW: []string{"?/x", "/x", "?/y", "?/y"}}, "rox ?/opt ?/srv; rw /x ?/y; devices ?/dev/kvm"},
		{Overrides{Devices: []string{"/dev/kvm", "?/dev/fuse"}}, "rox ?/opt ?/srv; devices ?/dev/fuse /dev/kvm"},
		{Overrides{RO: []string{"??x"}},
			`--ro ??x: want a path after "?"; a path that itself begins with "?" is written ./?NAME`},
		{Overrides{RO: []string{"?"}}, `--ro ?: the path is empty`},
		{Overrides{RO: []string{"?~/x"}}, `--ro ?~/x: ~ is not expanded in flags: write the whole path`},
		{Overrides{Unix: []string{"?/x"}},
			`--unix ?/x: "?" cannot be used here: only paths in ls, ro, rox, rw, rwx, deny and devices may be missing`},
	} {
		p, err := Loader{Dir: "/w"}.Apply(base, c.flags)
		got := fmt.Sprint(err)
		if err == nil {
			got = spelled(p)
		}
		if got != c.want {
			t.Errorf("%+v:\ngot  %s\nwant %s", c.flags, got, c.want)
		}
	}
}

// The flags mean the same in another working directory.
func TestAbsolute(t *testing.T) {
	t.Chdir(t.TempDir())
	o := Overrides{RO: []string{"a", "?b"}, RWX: []string{"?/c"}, Devices: []string{"?d"},
		Unix: []string{"s", "./?t"}, Allow: []string{"ptrace=allow"}}
	abs, err := o.Absolute()
	if err != nil {
		t.Fatal(err)
	}
	want, err := o.Apply(Default())
	if err != nil {
		t.Fatal(err)
	}
	if o.RO[0] != "a" {
		t.Error("the flags themselves were changed")
	}
	t.Chdir("/")
	got, err := abs.Apply(Default())
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, want)
	if _, err := (Overrides{RO: []string{"~/x"}}).Absolute(); err == nil {
		t.Error("a path that Apply refuses")
	}
}
