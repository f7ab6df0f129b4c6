package doctor

// BuildCommand builds memjail as it is to be.
const BuildCommand = "CGO_ENABLED=0 go install -ldflags='-E memjail_entry' github.com/memjail/memjail/cmd/memjail@latest"

// WithoutEntry is what is lost in a program that was linked without -E memjail_entry.
const WithoutEntry = "signals other than SIGHUP and SIGINT that are ignored where it is started, and signals that are blocked there, " +
	"are not so for CMD, and a closed standard stream becomes /dev/null"

// Program is how the memjail that examines was built.
type Program struct {
	// Dynamic: it maps libraries.
	Dynamic bool
	// Entry: it begins at its own entry point, see package early.
	Entry bool
}

func (f *facts) program() Finding {
	g := Finding{ID: "program", Title: "this memjail", Value: "one static file"}
	switch {
	case f.Program.Dynamic:
		g.Value, g.Verdict, g.Fix = "dynamically linked", Bad, BuildCommand
		g.Why = "Whoever may write one of their files can change a running supervisor. It refuses to start anything."
	case !f.Program.Entry:
		g.Value, g.Verdict, g.Fix = "one static file, built without its entry point", Warn, BuildCommand
		g.Why = "What the Go runtime changes at the start is not known: " + WithoutEntry + "."
	}
	return g
}
