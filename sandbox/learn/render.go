package learn

import (
	"fmt"
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
	rest := func(variable, dir string) string {
		return variable + strings.ReplaceAll(name[len(dir):], "${", "$${")
	}
	switch {
	case p.Dir != "" && p.Dir != "/" && abspath.Within(p.Dir, name) && !abspath.Within(p.Dir, p.Home):
		text = rest("${PWD}", p.Dir)
	case p.Home != "" && p.Home != "/" && abspath.Within(p.Home, name):
		text = rest("${HOME}", p.Home)
	case p.Runtime != "" && p.Runtime != "/" && abspath.Within(p.Runtime, name):
		text = rest("${XDG_RUNTIME_DIR}", p.Runtime)
	default:
		text = strings.ReplaceAll(name, "${", "$${")
	}
	return policy.TOMLString(mark + text)
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
	b.WriteString("\nversion = 1\n")
	if p.ports {
		fmt.Fprintf(&b, "min-abi = %d # for the TCP ports below\n", portsABI)
	}
	b.WriteString("\n[paths]\n")
	for _, rights := range pathLists {
		p.list(&b, rights)
	}
	if len(p.Grants) == 0 {
		b.WriteString("ro = []\n")
	}
	b.WriteString("\n# Owner, mode and times of files are changed only where files can be " +
		"written.\nmetadata = \"granted\"\n")
	b.WriteString("\n[ipc]\nabstract-sockets = \"sandbox\"\n")
	p.network(&b)
	p.tests(&b)
	p.withheld(&b)
	return []byte(b.String())
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

// network writes [network].
func (p *Proposal) network(b *strings.Builder) {
	b.WriteString("\n[network]\n")
	quoted := make([]string, len(p.Families))
	for i, f := range p.Families {
		quoted[i] = strconv.Quote(f)
	}
	fmt.Fprintf(b, "families    = [%s]\n", strings.Join(quoted, ", "))
	switch {
	case p.ports:
		fmt.Fprintf(b, "connect-tcp = [%s]\nbind-tcp    = [%s]\n", ports(p.ConnectTCP), ports(p.BindTCP))
	case len(p.ConnectTCP)+len(p.BindTCP) > 0:
		fmt.Fprintf(b, "# TCP is as usual, since this kernel cannot restrict its ports (Landlock ABI %d).\n", portsABI)
	}
	switch {
	case !p.OwnSockets:
		b.WriteString("unix        = []\n")
	default:
		b.WriteString("# UNIX sockets stay as usual, since the program has some of its own: those of daemons\n" +
			"# outside can be connected to as well. On kernels with Landlock ABI 9 name the\n" +
			"# directories here instead: unix = [\"/tmp\"].\n")
	}
	if p.UDP {
		b.WriteString("# UDP is as usual. On kernels with Landlock ABI 10 its ports can be named: connect-udp.\n")
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
			test(name, access, `"${PWD}"`, "allow")
		}
	}
	if home := p.places.Home; home != "" && home != "/" && !p.grants(home) {
		test("the home directory cannot be written", "write", `"${HOME}"`, "deny")
	}
}

// grants reports whether a path lies in what is granted.
func (p *Proposal) grants(name string) bool {
	return slices.ContainsFunc(p.Grants, func(g Grant) bool {
		return g.Rights != policy.MayList &&
			abspath.Within(g.Path, name)
	})
}

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
