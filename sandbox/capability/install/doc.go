// Package install puts the memory capability into the kernel and takes it out again:
// it loads BPF LSM programs (bpf/capability.bpf.c), pins them, so that they outlive
// whoever installed them, and has a process hold them besides, which no unmount
// reaches.
//
// The programs are compiled by clang when the package is generated, and are found
// their way to the structures of the kernel that runs (CO-RE). Programs that only drop
// the capability need package capability alone, which imports nothing of this.
package install
