//go:build cgo && !netgo

package main

// memjail is one static file: a C library that it mapped would be a file through which
// whoever may write it can change a running supervisor. One of its libraries imports
// package net, which the go command links with the C library where it finds a C
// compiler, so that has to be said to it. Better here than when the first service is
// restarted.
const _ int = "build memjail without cgo: CGO_ENABLED=0 go install -ldflags='-E memjail_entry' github.com/memjail/memjail/cmd/memjail@latest"
