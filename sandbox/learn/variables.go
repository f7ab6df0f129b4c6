package learn

import (
	"bytes"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

const (
	// maxScanned bounds how much of a file is searched for the names of variables, and
	// maxScannedAll how much of all files together, in bytes.
	maxScanned    = 64 << 20
	maxScannedAll = 512 << 20
)

// Variables says which of the variables that are set the program may use. Reading one is
// no system call, so the names are looked for in what the program executed and read.
type Variables struct {
	Named   []string // set, and some file has the name
	Unnamed []string // set, and no file has it
	// Secret are those of Named that look like secrets. They are withheld.
	Secret []string
	// Drop becomes environment.drop.
	Drop []string
}

// Variables looks for the variables of env in the files that have been read and in words,
// the command. secrets are patterns of names, as in environment.drop.
func (r *Recorder) Variables(env, words, secrets []string) Variables {
	r.mu.Lock()
	files := slices.Sorted(maps.Keys(r.reads))
	r.mu.Unlock()
	v := Variables{Drop: secrets}
	missing := map[string]bool{}
	for _, entry := range env {
		if name, _, ok := strings.Cut(entry, "="); ok && name != "" {
			missing[name] = true
		}
	}
	names := slices.Sorted(maps.Keys(missing))
	find := func(text []byte) {
		for name := range missing {
			if holdsName(text, name) {
				delete(missing, name)
			}
		}
	}
	find([]byte(strings.Join(words, "\n")))
	for total := int64(0); len(files) > 0 && len(missing) > 0 && total < maxScannedAll; files = files[1:] {
		text := beginning(files[0])
		total += int64(len(text))
		find(text)
	}
	for _, name := range names {
		switch {
		case missing[name]:
			v.Unnamed = append(v.Unnamed, name)
		case (policy.Environment{Drop: secrets}).DroppedBy(name) != "":
			v.Secret = append(v.Secret, name)
			fallthrough
		default:
			v.Named = append(v.Named, name)
		}
	}
	return v
}

// beginning returns the beginning of a regular file; nil: it cannot be read.
func beginning(name string) []byte {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(f, maxScanned))
	return text
}

// holdsName reports whether a text has the name as a whole word.
func holdsName(text []byte, name string) bool {
	for at := 0; ; {
		i := bytes.Index(text[at:], []byte(name))
		if i < 0 {
			return false
		}
		begin, end := at+i, at+i+len(name)
		if (begin == 0 || !inName(text[begin-1])) && (end == len(text) || !inName(text[end])) {
			return true
		}
		at = begin + 1
	}
}

func inName(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}
