package pin

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Sums are the SHA-256 sums of files, by their canonical paths.
type Sums struct {
	// Source names where they come from, for messages.
	Source string
	byPath map[string]string
}

// Sum returns the sums of the files that would be pinned for a program, at an
// absolute path, with an environment. Errors as of [Find], and of reading.
func Sum(program string, env []string) (*Sums, error) {
	pinned, err := Find(program, env)
	if err != nil {
		return nil, err
	}
	byPath, err := sumAll(pinned.Files, os.Open)
	return &Sums{Source: program, byPath: byPath}, err
}

func sumAll(files []string, open func(string) (*os.File, error)) (map[string]string, error) {
	sums := make(map[string]string, len(files))
	for _, path := range files {
		file, err := open(path)
		if err != nil {
			return nil, fmt.Errorf("summing %q: %w", path, err)
		}
		h := sha256.New()
		_, err = io.Copy(h, file)
		file.Close()
		if err != nil {
			return nil, fmt.Errorf("summing %q: %w", path, err)
		}
		sums[path] = hex.EncodeToString(h.Sum(nil))
	}
	return sums, nil
}

// escapes are what sha256sum(1) does to a name in a line that it begins with a
// backslash.
var escapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`)

// Write writes the sums as sha256sum(1) does, sorted by path.
func (s *Sums) Write(w io.Writer) error {
	for _, path := range slices.Sorted(maps.Keys(s.byPath)) {
		mark, name := "", escapes.Replace(path)
		if name != path {
			mark = `\`
		}
		if _, err := fmt.Fprintf(w, "%s%s  %s\n", mark, s.byPath[path], name); err != nil {
			return err
		}
	}
	return nil
}

// ReadSums reads what [Sums.Write] or sha256sum(1) wrote, from a file. An error
// names the file and, where there is one, the line.
func ReadSums(name string) (*Sums, error) {
	file, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO without a writer is empty
	if err != nil {
		return nil, err
	}
	defer file.Close()
	s := &Sums{Source: name, byPath: map[string]string{}}
	lines := bufio.NewScanner(file)
	for number := 1; lines.Scan(); number++ {
		if lines.Text() == "" {
			continue
		}
		path, sum, ok := parseSum(lines.Text())
		if !ok {
			return nil, fmt.Errorf("%s:%d: want a SHA-256 sum, two spaces and an absolute path, as "+
				"\"memjail pin\" writes", name, number)
		}
		if other, twice := s.byPath[path]; twice && other != sum {
			return nil, fmt.Errorf("%s:%d: %q is listed twice, with different sums", name, number, path)
		}
		s.byPath[path] = sum
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading %q: %w", name, err)
	}
	if len(s.byPath) == 0 {
		return nil, fmt.Errorf("%s: it has no sums; \"memjail pin CMD\" writes them", name)
	}
	return s, nil
}

func parseSum(line string) (path, sum string, ok bool) {
	line, escaped := strings.CutPrefix(line, `\`)
	const digits = 2 * sha256.Size
	if len(line) < digits+len("  /") {
		return "", "", false
	}
	sum, path = strings.ToLower(line[:digits]), line[digits+2:]
	if separator := line[digits : digits+2]; separator != "  " && separator != " *" {
		return "", "", false
	}
	if _, err := hex.DecodeString(sum); err != nil {
		return "", "", false
	}
	if escaped {
		path = unescape(path)
	}
	return path, sum, filepath.IsAbs(path)
}

func unescape(s string) string {
	return strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\r`, "\r").Replace(s)
}

// MismatchError says how what a program needs differs from what was recorded.
type MismatchError struct {
	Source  string
	Changed []string // have another content
	Missing []string // are needed, and were not recorded
	Extra   []string // were recorded, and are not needed
}

func (e *MismatchError) Error() string {
	var parts []string
	for _, list := range []struct {
		what  string
		paths []string
	}{
		{"not as recorded", e.Changed}, {"needed and not recorded", e.Missing}, {"recorded and not needed", e.Extra},
	} {
		for i, path := range list.paths {
			if i == 0 {
				parts = append(parts, fmt.Sprintf("%s: %q", list.what, path))
			} else {
				parts[len(parts)-1] += fmt.Sprintf(", %q", path)
			}
		}
	}
	return fmt.Sprintf("the program is not the one that %s records: %s", e.Source, strings.Join(parts, "; "))
}

// compare holds sums against the recorded ones.
func (s *Sums) compare(got map[string]string) error {
	e := &MismatchError{Source: s.Source}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		switch recorded, ok := s.byPath[path]; {
		case !ok:
			e.Missing = append(e.Missing, path)
		case recorded != got[path]:
			e.Changed = append(e.Changed, path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(s.byPath)) {
		if _, ok := got[path]; !ok {
			e.Extra = append(e.Extra, path)
		}
	}
	if len(e.Changed)+len(e.Missing)+len(e.Extra) > 0 {
		return e
	}
	return nil
}
