package policy

import "testing"

func TestQuoting(t *testing.T) {
	for _, c := range []struct{ text, shell, toml string }{
		{"/plain/file_1", "/plain/file_1", `"/plain/file_1"`},
		{"/a b", "'/a b'", `"/a b"`},
		{"/it's", `'/it'\''s'`, `"/it's"`},
		{"/$(x);`y`", "'/$(x);`y`'", "\"/$(x);`y`\""},
		{"/\x1b[1m'\\", `$'/\033[1m\'\\'`, `"/\U0000001B[1m'\\"`},
		{"/\xff", `$'/\377'`, ""},
		{"", "''", `""`},
	} {
		if got := ShellWord(c.text); got != c.shell {
			t.Errorf("%q for a shell: %s, should be %s", c.text, got, c.shell)
		}
		if got, ok := TOMLString(c.text); got != c.toml || ok != (c.toml != "") {
			t.Errorf("%q for TOML: %s %v, should be %s", c.text, got, ok, c.toml)
		}
	}
}
