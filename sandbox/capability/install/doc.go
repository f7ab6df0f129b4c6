// Package install installs the memory capability in the kernel and removes it: it loads
// BPF LSM programs (bpf/capability.bpf.c) and pins them, so that they outlive the process
// that installed them. Another process holds them, too, so that an unmount of the pins
// does not remove them.
//
// clang compiles the programs when the package is generated; the loader adapts them to the
// structures of the running kernel (CO-RE). Programs that only drop the capability need
// package capability, which imports nothing of this package.
package install
