package file

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
)

// files is a file system of policies.
func files(texts map[string]string) func(string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		text, ok := texts[name]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		return []byte("version = 1\n" + text), nil
	}
}

func TestExtends(t *testing.T) {
	deep := map[string]string{}
	for i := range 12 {
		deep[fmt.Sprintf("/d/%d.toml", i)] = fmt.Sprintf("extends = [\"%d.toml\"]\n", i+1)
	}
	deep["/d/12.toml"] = ""
	for _, c := range []struct {
		name  string
		texts map[string]string
		start string
		want  string // the error, or "ro: ..." and ptrace
	}{
		{"relative to the file that says it", map[string]string{
			"/p/a.toml": "extends = [\"sub/b.toml\"]\n", "/p/sub/b.toml": "extends = [\"../c.toml\"]\n",
			"/p/sub/../c.toml": "paths.ro = [\"/c\"]\n",
		}, "/p/a.toml", "/c deny"},
		{"absolute", map[string]string{"/p/a.toml": "extends = [\"/q/b.toml\"]\n",
			"/q/b.toml": "paths.ro = [\"/b\"]\n"}, "/p/a.toml", "/b deny"},
		{"the last of two decides", map[string]string{
			"/p/a.toml": "extends = [\"b.toml\", \"c.toml\"]\n",
			"/p/b.toml": "memory.ptrace = \"allow\"\npaths.ro = [\"/b\"]\n",
			"/p/c.toml": "memory.ptrace = \"children\"\npaths.ro = [\"/c\"]\n",
		}, "/p/a.toml", "/b /c children"},
		{"the file decides over all", map[string]string{
			"/p/a.toml": "extends = [\"b.toml\"]\nmemory.ptrace = \"deny\"\npaths.ro = []\n",
			"/p/b.toml": "memory.ptrace = \"allow\"\npaths.ro = [\"/b\"]\n",
		}, "/p/a.toml", " deny"},
		{"a file that is extended twice keeps its first place", map[string]string{
			"/p/a.toml": "extends = [\"b.toml\", \"c.toml\", \"d.toml\"]\n",
			"/p/b.toml": "extends = [\"d.toml\"]\nmemory.ptrace = \"allow\"\n",
			"/p/c.toml": "extends = [\"d.toml\"]\n", "/p/d.toml": "memory.ptrace = \"children\"\npaths.ro = [\"/d\"]\n",
		}, "/p/a.toml", "/d allow"},
		{"itself", map[string]string{"/p/a.toml": "extends = [\"./a.toml\"]\n"}, "/p/a.toml",
			`/p/a.toml:2:12: extends: "./a.toml": the files extend each other in a circle: /p/a.toml → /p/a.toml`},
		{"too deep", deep, "/d/0.toml",
			`/d/8.toml:2:12: extends: "9.toml": more than 8 files extend each other: /d/0.toml → /d/1.toml → /d/2.toml → /d/3.toml → /d/4.toml → /d/5.toml → /d/6.toml → /d/7.toml → /d/8.toml → /d/9.toml`},
		{"a built-in policy needs its variables", map[string]string{"/p/a.toml": "extends = [\"workspace\"]\n"},
			"/p/a.toml",
			`built-in workspace:`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Loader{ReadFile: files(c.texts)}.Load(c.start)
			if err != nil {
				if !strings.HasPrefix(err.Error(), c.want) {
					t.Errorf("got  %v\nwant %s", err, c.want)
				}
				return
			}
			if got := pathsWith(p, ro) + " " + p.Memory.Ptrace.String(); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// If layers contradict each other, the upper one is wrong.
func TestLayersContradict(t *testing.T) {
	texts := map[string]string{
		"/a.toml": "extends = [\"/b.toml\"]\nmemory.access = \"allow\"\n",
		"/b.toml": "procfs.system = \"none\"\nprocfs.write = []\n",
	}
	_, err := Loader{ReadFile: files(texts)}.Load("/a.toml")
	if err == nil || err.Error() != `/a.toml:3:17: memory.access: "allow": contradicts procfs.system = "none", which cannot be enforced then` {
		t.Errorf("got %v", err)
	}
}

func TestExpand(t *testing.T) {
	s := scope{env: []string{"A=1", "HOME=/h", "NESTED=${A}", "EMPTY="}, dir: "/d"}
	for _, c := range []struct{ text, want string }{
		{"", ""}, {"plain $HOME $", "plain $HOME $"}, {"${HOME}${PWD}", "/h/d"}, {"$${HOME}", "${HOME}"},
		{"$$${A}", "$${A}"},
		{"x$${a}${env:A}y", "x${a}1y"}, {"${env:NESTED}", "${A}"}, {"${env:EMPTY}", ""},
	} {
		if got, err := s.expand(c.text, false); err != nil || got != c.want {
			t.Errorf("%q: got %q, %v", c.text, got, err)
		}
		if back, err := s.expand(unexpanded(c.want), true); err != nil || back != c.want {
			t.Errorf("%q does not come back: %q, %v", c.want, back, err)
		}
	}
	if got, err := s.expandPath("~"); err != nil || got != "/h" {
		t.Errorf("~: %q, %v", got, err)
	}
}

func TestSettings(t *testing.T) {
	p, err := here.Load("build")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, s := range Settings(p) {
		seen[s.Key] = true
		if n := len(elements(s.Value)); n != len(s.Elements) {
			t.Errorf("%s: %d elements, %d origins", s.Key, n, len(s.Elements))
		}
		if s.Key == "paths.rwx" {
			for i, path := range s.Value.([]string) {
				if path == "/home/user/project" &&
					(s.Elements[i].Written != "${PWD}" || s.Elements[i].Kind != policy.OriginBuiltin) {
					t.Errorf("%+v", s.Elements[i])
				}
			}
		}
	}
	if !seen["memory.access"] || !seen["network.unix"] || seen["network.bind-tcp"] || seen["limits.as"] {
		t.Errorf("%v", seen)
	}
}
