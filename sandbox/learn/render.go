package learn

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/abspath"
	"github.com/memjail/memjail/policy/file"
	"github.com/memjail/memjail/sandbox/report"
)

// spelled writes a path as a policy does, behind a mark: with a variable for the
// directories that differ from one user or machine to the other. ok is false for a path
// that no policy can hold.
func (p *Places) spelled(mark, name string) (text string, ok bool) {
	for _, v := range p.variables() {
		if v.dir != "" && v.dir != "/" && abspath.Within(v.dir, name) {
			return policy.TOMLString(mark + v.variable + strings.ReplaceAll(name[len(v.dir):], "${", "$${"))
		}
	}
	return policy.TOMLString(mark + strings.ReplaceAll(name, "${", "$${"))
}

// placeVariable is a directory that a policy names by a variable.
type placeVariable struct{ variable, dir string }

// variables are those of the places, the first that holds a path counts.
func (p *Places) variables() []placeVariable {
	var all []placeVariable
	if p.Absolute {
		return nil
	}
	if !abspath.Within(p.Dir, p.Home) {
		all = append(all, placeVariable{"${PWD}", p.Dir})
	}
	for _, name := range slices.Sorted(maps.Keys(p.XDG)) {
		all = append(all, placeVariable{"${env:" + name + "}", p.XDG[name]})
	}
	return append(all, placeVariable{"${HOME}", p.Home}, placeVariable{"${XDG_RUNTIME_DIR}", p.Runtime})
}

// pathLists are the lists of [paths] by the rights that they give, in the order of a file.
var pathLists = []policy.Rights{
	policy.MayList,
	policy.MayRead | policy.MayExecute, policy.MayRead, policy.MayRead | policy.MayWrite,
	policy.MayRead | policy.MayWrite | policy.MayExecute,
}

// TOML writes the proposal as a policy file. command is what was run, for the comment at
// its head.
func (p *Proposal) TOML(command []string) []byte {
	var b strings.Builder
	words := make([]string, len(command))
	for i, w := range command {
		words[i] = policy.ShellWord(w)
	}
	fmt.Fprintf(&b, "# Made by \"memjail learn\" from a run of\n#\n#     %s\n#\n", strings.Join(words, " "))
	b.WriteString("# It allows what that run used, and memory stays closed; another run may need more.\n" +
		"# Each line names the programs that needed it; \"?\" marks what may be missing elsewhere.\n")
	if p.Truncated {
		b.WriteString("#\n# The run used more files than can be remembered: this policy is not complete.\n")
	}
	if len(p.Hidden) > 0 {
		b.WriteString("#\n# Not complete: these programs let nobody read what their calls name (they " +
			"are not dumpable).\n" +
			"# What they use is not known, but to \"memjail learn\" as root.\n")
		comment(&b, "", p.Hidden)
	}
	b.WriteString("\nversion = 1\n")
	if p.base != nil {
		fmt.Fprintf(&b, "extends = [%s] # what these give is not listed below\n", quotedList(p.base.extends))
	}
	if p.ports && (p.base == nil || p.base.policy.MinABI < portsABI) {
		fmt.Fprintf(&b, "min-abi = %d # for the TCP ports below\n", portsABI)
	}
	b.WriteString("\n[paths]\n")
	if p.view != "" {
		fmt.Fprintf(&b, "view = %q\n", p.view)
	}
	if p.privateTmp && (p.base == nil || p.base.policy.Paths.Tmp != policy.TmpPrivate) {
		fmt.Fprintf(&b, "tmp = %q # empty at the start: the home directory lies in that of the system\n",
			policy.TmpPrivate)
	}
	for _, rights := range pathLists {
		p.list(&b, rights)
	}
	if len(p.Grants) == 0 && (p.base == nil || !p.base.given.Rules.Restricted()) {
		b.WriteString("ro = []\n")
	}
	p.restrictions(&b)
	p.network(&b)
	p.variables(&b)
	p.limits(&b)
	p.tests(&b)
	p.withheld(&b)
	return []byte(b.String())
}

// restrictions writes the keys with one value that the base does not have like that.
func (p *Proposal) restrictions(b *strings.Builder) {
	var below policy.Policy
	if p.base != nil {
		below = p.base.policy
	}
	if p.base == nil || below.Paths.Metadata == policy.MetadataAllow ||
		below.Paths.Metadata == policy.MetadataDeny && p.changed {
		b.WriteString("\n# Owner, mode and times of files are changed only where files can be " +
			"written.\nmetadata = \"granted\"\n")
	}
	if p.base == nil || below.IPC.AbstractSockets != policy.ScopeSandbox {
		b.WriteString("\n[ipc]\nabstract-sockets = \"sandbox\"\n")
	}
}

// quotedList writes the elements of a list of strings.
func quotedList(elements []string) string {
	quoted := make([]string, len(elements))
	for i, text := range elements {
		quoted[i], _ = policy.TOMLString(text)
	}
	return strings.Join(quoted, ", ")
}

// list writes one of the lists of paths.
func (p *Proposal) list(b *strings.Builder, rights policy.Rights) {
	open, last := false, groups
	for _, g := range p.Grants {
		if g.Rights != rights {
			continue
		}
		text, ok := p.places.spelled(g.mark(), g.Path)
		if !ok {
			continue
		}
		if !open {
			fmt.Fprintf(b, "%s = [\n", rights)
			open = true
		}
		if g.group != last {
			fmt.Fprintf(b, "    # %s\n", groupNames[g.group])
			last = g.group
		}
		fmt.Fprintf(b, "    %s, # %s\n", text, usedBy(g.Programs, g.Count))
	}
	if open {
		b.WriteString("]\n")
	}
}

// mark is "?" for paths that another machine or user may do without.
func (g *Grant) mark() string {
	if g.group == groupProject || g.Path == "/usr" {
		return ""
	}
	return file.OptionalMark
}

func usedBy(programs []string, count int) string {
	if count == 0 {
		return "where the program starts"
	}
	names := make([]string, len(programs))
	for i, name := range programs {
		names[i] = report.Printable(name)
	}
	uses := "uses"
	if count == 1 {
		uses = "use"
	}
	return fmt.Sprintf("%s: %d %s", strings.Join(names, ", "), count, uses)
}

// network writes [network], which must not be empty.
func (p *Proposal) network(b *strings.Builder) {
	var keys strings.Builder
	p.networkKeys(&keys)
	for line := range strings.Lines(keys.String()) {
		if !strings.HasPrefix(line, "#") {
			b.WriteString("\n[network]\n" + keys.String())
			return
		}
	}
	if keys.Len() > 0 {
		b.WriteString("\n" + keys.String())
	}
}

func (p *Proposal) networkKeys(b *strings.Builder) {
	var below policy.Network // what the base restricts already
	if p.base != nil {
		below = p.base.policy.Network
	}
	if !below.Families.Restricted() || len(p.Families) > 0 {
		fmt.Fprintf(b, "families    = [%s]\n", quotedList(p.Families))
	}
	for _, list := range []struct {
		name  string
		below policy.Only[uint16]
		ports []uint16
	}{{"connect-tcp", below.ConnectTCP, p.ConnectTCP}, {"bind-tcp   ", below.BindTCP, p.BindTCP}} {
		switch {
		case p.ports && (!list.below.Restricted() || len(list.ports) > 0):
			fmt.Fprintf(b, "%s = [%s]%s\n", list.name, ports(list.ports), p.portsBy(list.ports))
		case !p.ports && len(list.ports) > 0:
			fmt.Fprintf(b, "# %s: %s, as usual, since this kernel cannot restrict TCP ports (Landlock ABI %d).\n",
				strings.TrimSpace(list.name), ports(list.ports), portsABI)
		}
	}
	switch {
	case !p.OwnSockets && !below.Unix.Restricted():
		b.WriteString("unix        = []\n")
	case p.OwnSockets:
		b.WriteString("# UNIX sockets stay as usual, since the program needs some: those of other daemons\n" +
			"# outside can be connected to as well. On kernels with Landlock ABI 9 name the\n" +
			"# directories here instead: unix = [\"/tmp\"].\n")
		if below.Unix.Restricted() {
			b.WriteString("unix        = \"all\"\n")
		}
	}
	if p.UDP {
		b.WriteString("# UDP is as usual. On kernels with Landlock ABI 10 its ports can be named: connect-udp.\n")
	}
}

// portsBy is a comment that says which program needed which port.
func (p *Proposal) portsBy(numbers []uint16) string {
	var parts []string
	for _, n := range numbers {
		if u := p.portUses[n]; u != nil {
			parts = append(parts, fmt.Sprintf("%d: %s", n, usedBy(u.by, u.count)))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " # " + strings.Join(parts, "; ")
}

// variables writes [environment].
func (p *Proposal) variables(b *strings.Builder) {
	v := &p.Variables
	if len(v.Drop) == 0 && len(v.Named)+len(v.Unnamed) == 0 {
		return
	}
	drops := len(v.Drop) > 0 && (p.base == nil || len(p.base.policy.Environment.Drop) == 0)
	b.WriteString("\n")
	if drops {
		b.WriteString("[environment]\n")
	}
	comment(b, "Variables that were set and that the program may use, since its files have their names: ", v.Named)
	comment(b, "Variables that were set and that none of its files names: ", v.Unnamed)
	if !drops {
		return
	}
	b.WriteString("# Variables that look like secrets are dropped; \"!NAME\" lets one through.\ndrop = [\n")
	for line := range slices.Chunk(v.Drop, 6) {
		fmt.Fprintf(b, "    %s,\n", quotedList(line))
	}
	b.WriteString("]\n")
}

// comment writes a sentence and names as comment lines; nothing without names.
func comment(b *strings.Builder, sentence string, names []string) {
	if len(names) == 0 {
		return
	}
	const width = 100
	line := "# " + sentence
	for i, name := range names {
		word := report.Printable(name)
		if i < len(names)-1 {
			word += ", "
		}
		if len(line)+len(word) > width {
			fmt.Fprintln(b, strings.TrimRight(line, " "))
			line = "# "
		}
		line += word
	}
	fmt.Fprintln(b, line)
}

// limits says as a comment what the run took.
func (p *Proposal) limits(b *strings.Builder) {
	if m := p.Measured; m.Resident > 0 {
		fmt.Fprintf(b, "\n# The run took %.1f s of processor time, and its largest process %d MiB of "+
			"memory. To bound\n"+
			"# these with room to spare: [limits] cpu and data.\n", m.Processor.Seconds(), (m.Resident+1<<20-1)>>20)
	}
}

func ports(numbers []uint16) string {
	texts := make([]string, len(numbers))
	for i, n := range numbers {
		texts[i] = strconv.Itoa(int(n))
	}
	return strings.Join(texts, ", ")
}

// tests writes what the policy claims about itself.
func (p *Proposal) tests(b *strings.Builder) {
	test := func(name, access, path, expect string) {
		fmt.Fprintf(b, "\n[[test]]\nname   = %q\naccess = %q\npath   = %s\nexpect = %q\n", name, access, path, expect)
	}
	test("memory stays closed", "read", `"/proc/self/mem"`, "deny")
	for _, g := range p.Grants {
		if g.group == groupProject {
			access, name := "read", "the working directory can be read"
			if g.Rights&policy.MayWrite != 0 {
				access, name = "write", "the working directory can be written"
			}
			text, _ := p.places.spelled("", g.Path)
			test(name, access, text, "allow")
		}
	}
	if home := p.places.Home; home != "" && home != "/" && !p.grants(home) &&
		p.base.rights(home)&policy.MayWrite == 0 {
		text, _ := p.places.spelled("", home)
		test("the home directory cannot be written", "write", text, "deny")
	}
}

// grants reports whether a path lies in what is granted.
func (p *Proposal) grants(name string) bool {
	return slices.ContainsFunc(p.Grants, func(g Grant) bool {
		return g.Rights != policy.MayList &&
			abspath.Within(g.Path, name)
	})
}

// maxMissed is how many of the paths that do not exist are listed.
const maxMissed = 30

// withheld writes as comments what was not granted.
func (p *Proposal) withheld(b *strings.Builder) {
	line := func(w Withheld, why string) {
		text, ok := p.places.spelled("", w.Path)
		if !ok {
			text = strconv.Quote(w.Path)
		}
		fmt.Fprintf(b, "#   %s (%s; %s)%s\n", report.Printable(text), w.Need, usedBy(w.Programs, w.Count), why)
	}
	if len(p.Withheld) > 0 {
		b.WriteString("\n# Not granted, on purpose. What is needed of it can be named above; \"memjail learn\n" +
			"# --secrets\" grants what is secret, too.\n")
		for _, w := range p.Withheld {
			line(w, ": "+w.Why)
		}
	}
	if len(p.Variables.Secret) > 0 {
		b.WriteString("\n# Dropped, on purpose, although the program may use them: these variables look " +
			"like secrets.\n")
		comment(b, "", p.Variables.Secret)
	}
	some := func(what string, paths []Withheld) {
		for i, w := range paths {
			if i == 0 {
				b.WriteString("\n# " + what + "\n")
			}
			if i == maxMissed {
				fmt.Fprintf(b, "#   and %d more\n", len(paths)-maxMissed)
				break
			}
			line(w, "")
		}
	}
	some("Looked for, and not there. If these come to be, the program is refused them.", p.Missed)
	some("Looked at, and not opened. In the private view these do not exist.", p.Unseen)
}

// String names a need.
func (n Need) String() string {
	var words []string
	for _, w := range []struct {
		need Need
		word string
	}{{NeedList, "list"}, {NeedRead, "read"}, {NeedExecute, "execute"}, {NeedWrite, "write"},
		{NeedMake, "make and remove names"}} {
		if n&w.need != 0 {
			words = append(words, w.word)
		}
	}
	return strings.Join(words, ", ")
}
