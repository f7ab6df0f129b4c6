package kernel

import "golang.org/x/sys/unix"

// atBase is AT_BASE of getauxval(3): where the program's interpreter, the dynamic
// loader, was mapped; 0 if it has none.
const atBase = 7

// DynamicallyLinked reports whether this program was started by a dynamic loader, as one
// that was linked with the C library is, or a position-independent one of Go's. Then it
// maps files beside its own, and whoever may write one of them changes the program.
func DynamicallyLinked() bool {
	vector, err := unix.Auxv()
	if err != nil {
		return true // it is not known that it was not
	}
	for _, entry := range vector {
		if entry[0] == atBase {
			return entry[1] != 0
		}
	}
	return false
}
