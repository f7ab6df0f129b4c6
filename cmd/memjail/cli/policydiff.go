package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/file"
	"github.com/memjail/memjail/sandbox/report"
	"github.com/spf13/cobra"
)

// diffOptions are the flags of "policy diff".
type diffOptions struct {
	base   string
	format string
	failOn string
	asJSON bool

	top string // of the git repository
}

// The formats of "policy diff".
var diffFormats = []string{"text", "json", "github", "markdown"}

// widened is the value of --fail-on by which a policy that allows more fails.
const widened = "widened"

func newPolicyDiff(io streams) *cobra.Command {
	o := &diffOptions{}
	cmd := &cobra.Command{
		Use:   "diff A B | diff --base REF [FILE...]",
		Short: "Show what policy B allows and A does not, and the other way round",
		Long: `diff compares two policies by what they allow. With --base it compares policy
files of a git repository with what they were at REF, a commit, branch or tag: the
FILEs, or all that have changed since. What they extend is taken from REF, too.

Exit status: 0, or 1 with --fail-on widened if a policy allows more than before, or 2
for wrong usage and wrong policies.`,
		Example: "  memjail policy diff memory ./my.toml\n" +
			"  memjail policy diff --base origin/main --format markdown --fail-on widened",
		RunE: func(_ *cobra.Command, args []string) error { return o.run(io, args) },
	}
	f := cmd.Flags()
	f.StringVar(&o.base, "base", "", "compare policy files with what they are at the git revision `REF`")
	f.StringVar(&o.format, "format", "text", "write the differences as `FORMAT`: "+strings.Join(diffFormats, ", "))
	f.StringVar(&o.failOn, "fail-on", "", "exit with status 1 `IF`: "+widened)
	f.BoolVar(&o.asJSON, "json", false, "the same as --format json")
	return cmd
}

// compared are the changes of one policy.
type compared struct {
	File    string          `json:"file"`
	State   string          `json:"state"` // changed, new, deleted, same
	Changes []policy.Change `json:"changes"`
	// now is the policy as it is; its origins give lines.
	now policy.Policy
}

func (o *diffOptions) run(io streams, args []string) error {
	if o.asJSON {
		o.format = "json"
	}
	switch {
	case !slices.Contains(diffFormats, o.format):
		return misusedf("--format %s: must be one of %s", o.format, strings.Join(diffFormats, ", "))
	case o.failOn != "" && o.failOn != widened:
		return misusedf("--fail-on %s: must be %s", o.failOn, widened)
	case o.base == "" && len(args) != 2:
		return misusedf("policy diff needs two policies, or --base REF: memjail policy diff A B")
	}
	var all []compared
	var err error
	if o.base == "" {
		all, err = diffTwo(args[0], args[1])
	} else {
		all, err = o.sinceBase(args)
	}
	if err != nil {
		return misused(err)
	}
	if err := o.write(io.out, all); err != nil {
		return err
	}
	if o.failOn == widened && slices.ContainsFunc(all, compared.widened) {
		return statusError(exitFinding)
	}
	return nil
}

// widened reports whether a policy allows something that it did not. A change of which neither
// can be said counts as well.
func (c compared) widened() bool {
	return slices.ContainsFunc(c.Changes, func(c policy.Change) bool { return c.Effect != policy.EffectRefuses })
}

func diffTwo(a, b string) ([]compared, error) {
	before, err := file.Load(a)
	if err != nil {
		return nil, err
	}
	now, err := file.Load(b)
	if err != nil {
		return nil, err
	}
	return []compared{{File: b, State: "changed", Changes: policy.Diff(before, now), now: now}}, nil
}

// git runs git and returns what it prints.
func git(args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		line, _, _ := strings.Cut(strings.TrimSpace(complaint.String()), "\n")
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, line)
	}
	return string(out), nil
}

// sinceBase compares files with what they are at a revision. The policies of the revision are
// unpacked, so that what they extend by relative paths is found.
func (o *diffOptions) sinceBase(files []string) ([]compared, error) {
	commit, err := git("rev-parse", "--verify", "--quiet", "--end-of-options", o.base+"^{commit}")
	if err != nil {
		return nil, fmt.Errorf("--base %s: no commit of a git repository here", o.base)
	}
	commit = strings.TrimSpace(commit)
	top, err := git("rev-parse", "--show-toplevel")
	if err != nil {
		return nil, err
	}
	top = strings.TrimSuffix(top, "\n")
	o.top = top
	if len(files) == 0 {
		if files, err = changedPolicies(top, commit); err != nil {
			return nil, err
		}
	}
	old, err := os.MkdirTemp("", "memjail-base-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(old)
	if err := unpackPolicies(top, commit, old); err != nil {
		return nil, err
	}
	var all []compared
	for _, name := range files {
		c, err := compareWith(top, old, name)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// changedPolicies are the TOML files that differ from a commit, and are policies now or were
// ones then, as far as their first key says: others of a repository are none of memjail's.
func changedPolicies(top, commit string) ([]string, error) {
	out, err := git("-C", top, "diff", "-z", "--name-only", "--no-renames", commit, "--", "*.toml")
	if err != nil {
		return nil, err
	}
	others, err := git("-C", top, "ls-files", "-z", "--others", "--exclude-standard", "--", "*.toml")
	if err != nil {
		return nil, err
	}
	var list []string
	for name := range strings.SplitSeq(out+others, "\x00") {
		if name == "" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(top, name))
		if err != nil {
			then, err := git("-C", top, "show", commit+":"+name)
			if err != nil {
				continue
			}
			text = []byte(then)
		}
		if looksLikePolicy(text) {
			list = append(list, filepath.Join(top, name))
		}
	}
	slices.Sort(list)
	return list, nil
}

// looksLikePolicy reports whether a file's first key is "version", a number: that is so in
// every policy, and in few other files.
func looksLikePolicy(text []byte) bool {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		key, value, ok := bytes.Cut(line, []byte("="))
		value = bytes.TrimSpace(value)
		return ok && string(bytes.TrimSpace(key)) == "version" && len(value) > 0 && value[0] >= '0' && value[0] <= '9'
	}
	return false
}

// unpackPolicies writes the TOML files of a commit below a directory.
func unpackPolicies(top, commit, dir string) error {
	archive := exec.Command("git", "-C", top, "archive", "--format=tar", commit, "--", ":(glob)**/*.toml")
	unpack := exec.Command("tar", "-x", "-C", dir)
	var err error
	if unpack.Stdin, err = archive.StdoutPipe(); err != nil {
		return err
	}
	if err := archive.Start(); err != nil {
		return fmt.Errorf("git archive: %w", err)
	}
	unpacked := unpack.Run()
	if archive.Wait() != nil { // no file of that name at all
		return nil
	}
	if unpacked != nil {
		return fmt.Errorf("unpacking the policies of %s: %w", commit, unpacked)
	}
	return nil
}

// compareWith compares a file with the one of the same name in the unpacked revision.
func compareWith(top, old, name string) (compared, error) {
	absolute, err := filepath.Abs(name)
	if err == nil {
		absolute, err = resolveDir(absolute)
	}
	if err != nil {
		return compared{}, err
	}
	below, err := filepath.Rel(top, absolute)
	if err != nil || !filepath.IsLocal(below) {
		return compared{}, fmt.Errorf("%s is not in the repository %s", name, top)
	}
	c := compared{File: below, State: "changed", Changes: []policy.Change{}}
	before, now := policy.Policy{}, policy.Policy{}
	_, was := os.Stat(filepath.Join(old, below))
	_, is := os.Stat(absolute)
	switch {
	case was != nil && is != nil:
		return c, fmt.Errorf("%s: no such file, and there was none", name)
	case was != nil: // what a new policy allows is compared with the default
		c.State, before = "new", file.Default()
	}
	if was == nil {
		if before, err = file.Load(filepath.Join(old, below)); err != nil {
			return c, fmt.Errorf("the earlier %s: %w", below, err)
		}
	}
	if is != nil {
		c.State, now = "deleted", file.Default()
	} else if now, err = file.Load(absolute); err != nil {
		return c, err
	}
	if c.State != "deleted" {
		c.Changes, c.now = append(c.Changes, policy.Diff(before, now)...), now
	}
	if c.State == "changed" && len(c.Changes) == 0 {
		c.State = "same"
	}
	return c, nil
}

// resolveDir follows the symbolic links of a file's directory, as git does for the top.
func resolveDir(name string) (string, error) {
	dir, err := filepath.EvalSymlinks(filepath.Dir(name))
	if err != nil {
		return "", errors.New(name + ": no such directory")
	}
	return filepath.Join(dir, filepath.Base(name)), nil
}

// write writes the differences in the format that was asked for.
func (o *diffOptions) write(w io.Writer, all []compared) error {
	var b strings.Builder
	switch {
	case o.format == "json" && o.base == "":
		return report.EncodeJSON(w, slices.Concat([]policy.Change{}, all[0].Changes))
	case o.format == "json":
		return report.EncodeJSON(w, slices.Concat([]compared{}, all))
	case o.format == "github":
		return o.annotate(w, all)
	case o.format == "markdown":
		writeDiffMarkdown(&b, all)
	default:
		o.writeText(&b, all)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// sentence says what a change does.
func sentence(c policy.Change) string {
	what := c.Key
	if c.Value != "" {
		what += " " + c.Value
	}
	return fmt.Sprintf("%s: %s: %s → %s", c.Effect, report.Printable(what), report.Printable(c.A),
		report.Printable(c.B))
}

func (o *diffOptions) writeText(b *strings.Builder, all []compared) {
	for _, c := range all {
		indent := ""
		if o.base != "" {
			note := c.State
			if c.State == "new" {
				note = `new, compared with "` + file.DefaultName + `"`
			}
			fmt.Fprintf(b, "%s: %s\n", report.Printable(c.File), note)
			indent = "  "
		}
		for _, change := range c.Changes {
			fmt.Fprintf(b, "%s%s\n", indent, sentence(change))
		}
		if o.base == "" && len(c.Changes) == 0 {
			b.WriteString("both allow the same\n")
		}
	}
	if o.base != "" && len(all) == 0 {
		b.WriteString("no policy has changed\n")
	}
}

// annotate writes an annotation for each change, at its line. What --fail-on is about is an
// error, everything else a notice.
func (o *diffOptions) annotate(w io.Writer, all []compared) error {
	s := report.Suite{Tool: "memjail policy diff"}
	for _, c := range all {
		for _, change := range c.Changes {
			entry := report.Case{Group: c.File, Name: strings.TrimSpace(change.Key + " " + change.Value),
				Outcome: report.Noted, Message: sentence(change), Detail: c.File + ": " + sentence(change),
				File: c.File}
			if o.failOn == widened && change.Effect != policy.EffectRefuses {
				entry.Outcome = report.Failed
			}
			if at := c.origin(change); at.Kind == policy.OriginFile && at.Line > 0 {
				entry.File, entry.Line, entry.Column = at.Source, at.Line, at.Column
				if below, err := filepath.Rel(o.top, at.Source); err == nil && filepath.IsAbs(at.Source) {
					entry.File = below
				}
			}
			s.Cases = append(s.Cases, entry)
		}
	}
	return s.Write(w, report.GitHub)
}

// origin is where a policy says what has changed.
func (c compared) origin(change policy.Change) policy.Origin {
	rules := c.now.Paths.Rules.List()
	i := slices.IndexFunc(rules, func(r policy.Rule) bool { return r.Path == change.Value })
	if change.Key == "paths" && i >= 0 {
		return rules[i].Origin
	}
	return c.now.Origin(change.Key, change.Value)
}

// writeDiffMarkdown writes a table for each policy that has changed.
func writeDiffMarkdown(b *strings.Builder, all []compared) {
	for _, c := range all {
		fmt.Fprintf(b, "### %s (%s)\n\n", report.Markdown(c.File), c.State)
		if len(c.Changes) == 0 {
			continue
		}
		b.WriteString("| now | what | before | after |\n|---|---|---|---|\n")
		for _, change := range c.Changes {
			fmt.Fprintf(b, "| %s | %s | %s | %s |\n", change.Effect,
				report.Markdown(strings.TrimSpace(change.Key+" "+change.Value)), report.Markdown(change.A),
				report.Markdown(change.B))
		}
		b.WriteString("\n")
	}
	if len(all) == 0 {
		b.WriteString("No policy has changed.\n")
	}
}
