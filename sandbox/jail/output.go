package jail

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
)

// Output runs the command and returns what it wrote to its standard output. Stdout
// must be nil. As with package os/exec, the [*exec.ExitError] of a command that ended
// otherwise than with status 0 holds the beginning and the end of what it wrote to its
// standard error, unless Stderr is set.
func (c *Cmd) Output() ([]byte, error) {
	if c.Stdout != nil {
		return nil, errors.New("jail: Stdout already set")
	}
	var out bytes.Buffer
	c.Stdout = &out
	var stderr excerpt
	capture := c.Stderr == nil
	if capture {
		c.Stderr = &stderr
	}
	err := c.Run()
	if exit := (*exec.ExitError)(nil); capture && errors.As(err, &exit) {
		exit.Stderr = stderr.bytes()
	}
	return out.Bytes(), err
}

// CombinedOutput runs the command and returns what it wrote to its standard output and
// standard error. Both Stdout and Stderr must be nil.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	if c.Stdout != nil || c.Stderr != nil {
		return nil, errors.New("jail: Stdout or Stderr already set")
	}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}

// excerptEnd is how many bytes an excerpt keeps of each end.
const excerptEnd = 32 << 10

// excerpt is a writer that keeps the beginning and the end of what is written.
type excerpt struct {
	head, tail []byte
	left       int // bytes left out between them
}

func (e *excerpt) Write(p []byte) (int, error) {
	fits := min(len(p), excerptEnd-len(e.head))
	e.head = append(e.head, p[:fits]...)
	e.tail = append(e.tail, p[fits:]...)
	if over := len(e.tail) - excerptEnd; over > 0 {
		e.left += over
		e.tail = append(e.tail[:0], e.tail[over:]...)
	}
	return len(p), nil
}

func (e *excerpt) bytes() []byte {
	if e.left > 0 {
		e.head = fmt.Appendf(e.head, "\n... %d bytes left out ...\n", e.left)
	}
	return append(e.head, e.tail...)
}
