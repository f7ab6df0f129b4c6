// Package kernel is the floor: the one place of memjail (with the packages
// below it) that issues raw system calls and imports unsafe. Everything above
// speaks Go types.
//
// Each wrapper has the same contract: descriptors are created with
// close-on-exec; EINTR is retried unless the comment says why not; buffers that
// the kernel wants zeroed are zeroed; the error names the operation and wraps
// the errno. A wrapper logs nothing and decides nothing.
//
// Sizes, offsets and constants that are copied from the kernel's headers are
// proven by the tests of this package against the running kernel, x/sys/unix
// and, where there is a C compiler, the machine's own headers.
package kernel
