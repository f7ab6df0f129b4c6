package kernel

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestProcessState(t *testing.T) {
	if state, parent := ProcessState(os.Getpid()); parent != os.Getppid() || state == 0 {
		t.Errorf("%c, %d", state, parent)
	}
	if state, parent := ProcessState(1 << 30); state != 0 || parent != 0 {
		t.Errorf("nobody: %c, %d", state, parent)
	}
	if uid, err := StatusNumber(os.Getpid(), "Uid"); err != nil || uid != os.Getuid() {
		t.Errorf("%d, %v", uid, err)
	}
	if n, err := StatusNumber(os.Getpid(), "Nothing"); err == nil {
		t.Errorf("%d", n)
	}
}

// FuzzParseStat holds that a name of any content changes neither state nor parent, and that
// a file of any content gives both or none.
func FuzzParseStat(f *testing.F) {
	f.Fuzz(func(t *testing.T, name, all string, parent uint16) {
		stat := "7 (" + name + ") T " + strconv.Itoa(int(parent)) + " 7 7 0 -1"
		if state, got := parseStat([]byte(stat)); state != 'T' || got != int(parent) {
			t.Errorf("%q: %c, %d", stat, state, got)
		}
		if state, got := parseStat([]byte(all)); (state == 0) && got != 0 || got < 0 {
			t.Errorf("%q: %c, %d", all, state, got)
		}
	})
}

// FuzzParseStatus holds that a number comes from the line with its name, whatever is around
// it: a thread may be called "TracerPid:\t0".
func FuzzParseStatus(f *testing.F) {
	f.Fuzz(func(t *testing.T, before, after string, n uint32) {
		const key = "TracerPid"
		text := "Name:\t" + before + "\n" + key + ":\t" + strconv.FormatUint(uint64(n), 10) + "\t8\n" + after
		if !strings.Contains(before, "\n"+key+":") {
			if got, err := parseStatus([]byte(text), key); err != nil || got != int(n) {
				t.Errorf("%q: %d, %v", text, got, err)
			}
		}
		if got, err := parseStatus([]byte(after), key); err == nil && (got < 0 || !strings.Contains(after, key)) {
			t.Errorf("%q: %d", after, got)
		}
	})
}
