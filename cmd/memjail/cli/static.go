//go:build !cgo

package cli

// linkedStatically: the program maps no file but itself.
const linkedStatically = true
