package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/memjail/memjail/policy/file"
	"github.com/memjail/memjail/sandbox/learn"
	"github.com/memjail/memjail/sandbox/session"
	"golang.org/x/sys/unix"
)

// policyOutput is where a policy is written once it is known. Before CMD runs it is only
// tried, so that a mistake shows: CMD may write wherever its user may, and a file that is
// there while it runs could get lines of its own.
type policyOutput struct {
	stdout *os.File // nil: a file
	name   string   // the file, as it was named

	merged  string // the policy to be merged with; "": none
	before  []byte // its text before CMD ran
	replace bool   // it is the output, too
}

// open tries the output. Without a name it takes standard output away from CMD, which
// gets standard error in its place.
func (o *learnOptions) open() (*policyOutput, error) {
	out := &policyOutput{name: o.output, merged: o.merge, replace: o.output == "" && o.merge != ""}
	var err error
	if o.merge != "" {
		if out.before, err = os.ReadFile(o.merge); err != nil {
			return nil, fmt.Errorf("--merge: %w", err)
		}
	}
	switch {
	case out.replace:
		var f *os.File
		if f, out.name, err = createNextTo(o.merge); err != nil {
			return nil, fmt.Errorf("--merge: %w", err)
		}
		discard(f)
		return out, nil
	case o.output != "":
		f, err := createPolicy(o.output)
		if errors.Is(err, os.ErrExist) {
			return nil, usagef("--output %s: it exists already", o.output)
		}
		if err != nil {
			return nil, fmt.Errorf("--output: %w", err)
		}
		discard(f)
		return out, nil
	}
	if out.stdout = session.DupFile(unix.Stdout); out.stdout == nil {
		return nil, errors.New("learn: standard output is closed; name a file with --output")
	}
	if err := unix.Dup3(unix.Stderr, unix.Stdout, 0); err != nil {
		out.stdout.Close()
		return nil, fmt.Errorf("learn: handing standard error to CMD as its standard output: %w", err)
	}
	return out, nil
}

func createPolicy(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
}

// createNextTo makes a new file next to a policy that is to be changed, with its mode and
// owner, so that the policy changes as a whole or not at all. It returns the name of the
// policy without symbolic links, too.
func createNextTo(policy string) (*os.File, string, error) {
	name, err := filepath.EvalSymlinks(policy)
	if err != nil {
		return nil, "", err
	}
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return nil, "", fmt.Errorf("%s: %w", name, err)
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".memjail-*.toml")
	if err != nil {
		return nil, "", err
	}
	if err := errors.Join(f.Chown(int(st.Uid), int(st.Gid)), f.Chmod(os.FileMode(st.Mode&0o777))); err != nil {
		discard(f)
		return nil, "", err
	}
	return f, name, nil
}

// discard removes a file that is not needed, or not whole.
func discard(f *os.File) {
	f.Close()
	os.Remove(f.Name())
}

// save writes the policy, or what the policy to be merged with lacks into that.
func (o *learnOptions) save(out *policyOutput, p *learn.Proposal, args []string) error {
	if out.merged == "" {
		return out.write(p.TOML(args))
	}
	text, err := os.ReadFile(out.merged)
	if err == nil && !bytes.Equal(text, out.before) {
		err = fmt.Errorf("%s was changed while CMD ran; look at it, and run this again", out.merged)
	}
	if err == nil {
		text, err = file.Current().Widen(out.merged, text, p.Edits())
	}
	if err != nil {
		return fmt.Errorf("--merge: %w", err)
	}
	return out.write(text)
}

func (p *policyOutput) write(text []byte) error {
	var f *os.File
	var err error
	switch {
	case p.stdout != nil:
		_, err := p.stdout.Write(text)
		if err = errors.Join(err, p.stdout.Close()); err != nil {
			return fmt.Errorf("writing the policy: %w", err)
		}
		return nil
	case p.replace:
		f, _, err = createNextTo(p.name)
	default:
		f, err = createPolicy(p.name)
	}
	if err == nil {
		if _, err = f.Write(text); err == nil && p.replace {
			err = os.Rename(f.Name(), p.name)
		}
		if err = errors.Join(err, f.Close()); err == nil {
			return nil
		}
		os.Remove(f.Name())
	}
	if errors.Is(err, os.ErrExist) {
		err = fmt.Errorf("%s: CMD, or somebody else, has made it meanwhile", p.name)
	}
	return fmt.Errorf("writing the policy: %w%s", err, keep(p.name, text))
}

// keep writes a policy that cannot be where it was to be to a new file, and says where.
func keep(name string, text []byte) string {
	pattern := strings.TrimSuffix(filepath.Base(name), ".toml") + "-*.toml"
	for _, dir := range []string{filepath.Dir(name), os.TempDir()} {
		f, err := os.CreateTemp(dir, pattern)
		if err != nil {
			continue
		}
		_, err = f.Write(text)
		if errors.Join(err, f.Close()) == nil {
			return "; the policy is in " + f.Name()
		}
		os.Remove(f.Name())
	}
	return ""
}
