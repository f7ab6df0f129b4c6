package file

import (
	"errors"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
)

func TestWiden(t *testing.T) {
	l := Loader{Env: []string{"HOME=/home/u"}, Dir: "/home/u/p"}
	rw := func(path string) Edit {
		return Edit{Key: "paths.rw", Value: `"` + path + `"`, Comment: "git: 3 uses"}
	}
	for _, test := range []struct {
		name, text, want string
		edits            []Edit
	}{
		{"a list on lines of its own", "[paths]\n# mine\nrw = [\n  \"/a\", # first\n]\n",
			"[paths]\n# mine\nrw = [\n  \"/a\", # first\n  \"/b\", # git: 3 uses\n]\n", []Edit{rw("/b")}},
		{"without a last comma", "[paths]\nrw = [\n  \"/a\" # ] first\n]",
			"[paths]\nrw = [\n  \"/a\", # ] first\n  \"/b\", # git: 3 uses\n]", []Edit{rw("/b")}},
		{"a list on one line", "[paths]\nrw = [\"/a\"] # mine\n",
			"[paths]\nrw = [\"/a\",\n    \"/b\", # git: 3 uses\n] # mine\n", []Edit{rw("/b")}},
		{"an empty list", "[paths]\nrw = []\n", "[paths]\nrw = [\n    \"/b\", # git: 3 uses\n]\n", []Edit{rw("/b")}},
		{"no list yet", "[paths]\n# mine\nro = [\"/a\"]\n\n[ipc]\nsignals = \"all\"\n",
			"[paths]\n# mine\nro = [\"/a\"]\nrw = [\n    \"/b\", # git: 3 uses\n]\n\n[ipc]\nsignals = \"all\"\n",
			[]Edit{rw("/b")}},
		{"an empty table", "[paths]\n", "[paths]\nrw = [\n    \"/b\", # git: 3 uses\n]\n", []Edit{rw("/b")}},
		{"dotted keys", "paths.ro = [\"/a\"]\nmin-abi = 1\n",
			"paths.ro = [\"/a\"]\npaths.rw = [\n    \"/b\", # git: 3 uses\n]\nmin-abi = 1\n", []Edit{rw("/b")}},
		{"an inline table that has the list", "paths = { rw = [\"/a\"], ro = [\"/c\"] }\n",
			"paths = { rw = [\"/a\",\n    \"/b\", # git: 3 uses\n], ro = [\"/c\"] }\n", []Edit{rw("/b")}},
		{"rules of a layer below", "extends = [\"strict\"]\n",
			"extends = [\"strict\"]\n\n[paths]\nrw = [\n    \"/b\", # git: 3 uses\n]\n", []Edit{rw("/b")}},
		{"a path with fewer rights", "[paths]\nro = [\n  \"~/b\", # mine\n  \"/c\",\n]\n",
			"[paths]\nro = [\n  \"/c\",\n]\nrw = [\n    \"~/b\", # mine; git: 3 uses\n]\n", []Edit{rw("${HOME}/b")}},
		{"a path among others", "[paths]\nro = ['/b', \"/c\"]\nrw = [\"/a\"]\n",
			"[paths]\nro = [\"/c\"]\nrw = [\"/a\",\n    '/b', # git: 3 uses\n]\n", []Edit{rw("/b")}},
		{"ports", "[network]\nconnect-tcp = [443]\nfamilies = [\"inet\"]\n",
			"[network]\nconnect-tcp = [443, 80, 81]\nfamilies = [\"inet\", \"inet6\"]\n",
			[]Edit{{Key: "network.connect-tcp", Value: "80"}, {Key: "network.connect-tcp", Value: "81"},
				{Key: "network.families", Value: `"inet6"`}}},
		{"a value", "[network]\nunix = [\n  # none\n] # x\n[paths]\nmetadata='deny'# y\n",
			"[network]\nunix = \"all\" # x\n[paths]\nmetadata=\"granted\"# y\n",
			[]Edit{{Key: "network.unix", Value: `"all"`, Whole: true},
				{Key: "paths.metadata", Value: `"granted"`, Whole: true}}},
		{"values that a layer below has", "extends = [\"strict\"]",
			"extends = [\"strict\"]\n\n[network]\nunix = \"all\"\n\n[paths]\nmetadata = \"granted\"\n",
			[]Edit{{Key: "network.unix", Value: `"all"`, Whole: true},
				{Key: "paths.metadata", Value: `"granted"`, Whole: true}}},
	} {
		const version = "version = 1\n"
		text, err := l.Widen("p.toml", []byte(version+test.text), test.edits)
		if err != nil || string(text) != version+test.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", test.name, err, text, test.want)
		}
	}
}

// TestWidenRefuses: what cannot be edited is an error with the line and what is missing.
func TestWidenRefuses(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"an inline table", "version = 1\npaths = { ro = [\"/a\"] }\n", "p.toml:2: a key cannot be added safely"},
		{"a list that empties the one below", "version = 1\nextends = [\"workspace\"]\n[paths]\nrw = []\n",
			"p.toml:4: the file cannot be edited safely"},
	} {
		_, err := Loader{Env: []string{"HOME=/home/u"}, Dir: "/p"}.Widen("p.toml", []byte(test.text),
			[]Edit{{Key: "paths.rw", Value: `"/b"`}, {Key: "paths.rw", Value: `"/c"`}})
		var refused *EditError
		if !errors.As(err, &refused) || !strings.HasPrefix(err.Error(), test.want) ||
			!strings.HasSuffix(err.Error(), "add by hand:\npaths.rw = [\"/b\", \"/c\"]") {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// FuzzWiden: whatever a valid file looks like, the result is the same policy and the
// additions, or an error.
func FuzzWiden(f *testing.F) {
	f.Add("version = 1\n[paths]\nro = [\"/a\", # x ]\n'/b']\n", "/b")
	f.Add("version = 1\npaths.ro=['''/a''',\"\"\"/b\"\"\"]", "/c")
	f.Add("version = 1\nextends = [\"workspace\"]\n[ paths ]\n\"rw\" = [ ]", "/tmp")
	f.Fuzz(func(t *testing.T, text, path string) {
		element, ok := policy.TOMLString(path)
		l := Loader{Env: []string{"HOME=/home/u"}, Dir: "/p"}
		before, err := l.Parse("p.toml", []byte(text), Default())
		if err != nil || !ok {
			return
		}
		widened, err := l.Widen("p.toml", []byte(text), []Edit{{Key: "paths.rw", Value: element, Comment: "x"}})
		if err != nil {
			return
		}
		after, err := l.Parse("p.toml", widened, Default())
		if err != nil {
			t.Fatalf("%v\n%s", err, widened)
		}
		for _, c := range policy.Diff(before, after) {
			if c.Key != "paths" || c.Effect == policy.EffectRefuses {
				t.Errorf("%+v\n%s", c, widened)
			}
		}
	})
}
