package doctor

// BuildCommand is the command that builds memjail correctly.
const BuildCommand = "CGO_ENABLED=0 go install -ldflags='-E memjail_entry' " +
	"github.com/memjail/memjail/cmd/memjail@latest"

// WithoutEntry describes what does not work in a program linked without -E memjail_entry.
const WithoutEntry = "CMD does not inherit blocked signals, nor ignored ones other than SIGHUP and SIGINT, " +
	"a closed standard stream becomes /dev/null, and only root can have a private view"

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
		g.Why = "Whoever may write one of these files can change a running supervisor. This memjail " +
			"refuses to start anything."
	case !f.Program.Entry:
		g.Value, g.Verdict, g.Fix = "one static file, built without its entry point", Warn, BuildCommand
		g.Why = "It cannot undo what the Go runtime changes at the start: " + WithoutEntry + "."
	}
	return g
}
