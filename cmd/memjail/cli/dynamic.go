//go:build cgo

package cli

// linkedStatically: with cgo the program maps the C library, and whoever can write
// that library's file can change a running supervisor.
const linkedStatically = false
