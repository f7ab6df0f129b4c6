package kernel

import "golang.org/x/sys/unix"

// atBase is AT_BASE of getauxval(3): where the program's interpreter, the dynamic
// loader, was mapped; 0 if it has none.
const atBase = 7

// DynamicallyLinked reports whether this program was started by a dynamic loader, because it
// is linked with the C library or is a position-independent Go program. Then it maps other
// files besides its own, and whoever may write one of them changes the program.
func DynamicallyLinked() bool {
	vector, err := unix.Auxv()
	if err != nil {
		return true // not known, so the worse
	}
	for _, entry := range vector {
		if entry[0] == atBase {
			return entry[1] != 0
		}
	}
	return false
}
