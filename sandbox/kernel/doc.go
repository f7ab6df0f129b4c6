// Package kernel issues raw system calls and imports unsafe; no other package of memjail
// does, except those below this one. The others use its Go types.
//
// Each wrapper has the same contract: descriptors are created with
// close-on-exec; EINTR is retried unless the comment says why not; buffers that
// the kernel wants zeroed are zeroed; the error names the operation and wraps
// the errno. A wrapper logs nothing and decides nothing.
//
// The tests of this package compare sizes, offsets and constants that are copied from the
// kernel's headers with the running kernel, x/sys/unix and, where there is a C compiler,
// the machine's headers.
package kernel
