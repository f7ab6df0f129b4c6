// Package landlock turns a policy, the mount table and the file system into a
// Landlock ruleset.
//
// Landlock only grants: a rule names a file or a directory, and what it allows
// holds for everything below. There is no rule that takes something back. So
// what must stay closed (procfs above all, through which every process's memory
// can be opened) is left out by *carving*: wherever a granted tree contains such
// an object, the rules stand on the object's siblings instead, and on those of
// each of its ancestors. On a carved ancestor itself nothing is granted that
// would let something be created in it.
//
// The work has two halves. Which trees are closed, read-only or walked device
// by device follows from the mount table alone ([MountTable], carve.go, code.go;
// no system calls). The walk (walk.go) then applies it to the file system, on
// descriptors that are held from the look to the rule, and checks the outcome
// by inode, which is what the kernel's rules are tied to: a directory that is
// visible at a second place is the same directory there.
//
// Limits that follow from Landlock:
//
//   - what appears later at a carved level (a new name in /, a new device node, a
//     file system mounted over a name there) is not granted;
//   - a hard link, made before, to a file of a protected program directory can be
//     written through its other name;
//   - what somebody outside mounts into a granted tree later is granted: [Watch]
//     reports it.
//
// Kernel side: Documentation/userspace-api/landlock.rst, landlock(7).
package landlock
