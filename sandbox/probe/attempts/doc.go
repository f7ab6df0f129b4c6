// Package attempts is the catalogue of the probe suite: every route to memory that is
// known, as data for the engine in sandbox/probe, which makes and judges them.
//
// procmem.go opens /proc/PID/mem, the calls_*.go files make other system calls, in the
// native interface and in the 32-bit one, and the files_*.go files go through the file
// system, mounts, devices and descriptors. An attempt is added by adding it to a family
// ([Catalogue]); how one is written is described in the engine's package documentation.
// Then docs/probes.md is made again:
//
//	go test ./sandbox/probe/attempts -run TestDocsProbes -update
package attempts
