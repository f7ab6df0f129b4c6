package file

import (
	"reflect"
	"testing"

	"github.com/memjail/memjail/profiles"
)

// FuzzParse checks that a policy file results in either errors or a policy, never both, and
// that a policy is the same after it has been written and read again.
func FuzzParse(f *testing.F) {
	for _, name := range profiles.Names() {
		text, err := profiles.Read(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for seed := range uint64(20) {
		f.Add([]byte(newRandom(seed).policyText(false)))
	}
	loader := Loader{Env: []string{"HOME=/home/user"}, Dir: "/srv", ReadFile: func(string) ([]byte, error) {
		return []byte("version = 1\n"), nil // what "extends" names
	}}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := loader.Parse("./fuzzed.toml", text, Default())
		if err != nil {
			if list, ok := err.(Errors); !ok || len(list) == 0 || list.Error() == "" {
				t.Fatalf("%T without content: %v", err, err)
			}
			return
		}
		written := Render(p)
		again, err := loader.Parse("./fuzzed.toml", written, Default())
		if err != nil {
			t.Fatalf("written out, it cannot be read: %v\n%s", err, written)
		}
		want, got := Settings(p), Settings(again)
		for i := range want {
			if i >= len(got) || want[i].Key != got[i].Key || !reflect.DeepEqual(want[i].Value, got[i].Value) {
				t.Fatalf("written out and read again, %s differs: %v\n%s", want[i].Key, want[i].Value, written)
			}
		}
	})
}
