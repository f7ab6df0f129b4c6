package supervisor

import (
	"os"
	"testing"
)

// FuzzParseIdentity holds that a status file of any content names no process, user
// or capability by mistake: what cannot be read is -1, or none.
func FuzzParseIdentity(f *testing.F) {
	own, err := os.ReadFile("/proc/self/status")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(own)
	f.Add([]byte("Name:\ta\\nUid:\t0\nTgid:\t\nUid:\t1\t2\t3\t4\nGroups:\tx 7 \nCapEff:\tzz\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		id := parseIdentity(text)
		for _, n := range []int{id.tgid, id.ownPID, id.uid, id.gid} {
			if n < -1 {
				t.Fatalf("%+v", id)
			}
		}
	})
}
