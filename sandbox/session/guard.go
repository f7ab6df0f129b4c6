package session

import "os"

// guardPipe is a detached supervisor's end of a guard's pipe; nil: there is no guard.
type guardPipe struct {
	file *os.File
	// onByte: a byte has the guard kill, and the end of the pipe lets it end; otherwise
	// the other way round.
	onByte bool
}

// kill has the guard kill all that it can.
func (g *guardPipe) kill() { g.end(true) }

// dismiss has it end.
func (g *guardPipe) dismiss() { g.end(false) }

func (g *guardPipe) end(kill bool) {
	if g == nil {
		return
	}
	if kill == g.onByte {
		g.file.Write([]byte{1})
	} else {
		g.file.Close()
	}
}
