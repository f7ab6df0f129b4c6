// Package landlock turns a policy, the mount table and the file system into a
// Landlock ruleset.
//
// Landlock rules only grant: a rule names a file or a directory, and what it allows holds
// for everything below. No rule takes anything back. So what must stay closed (procfs above
// all, through which every process's memory can be opened) is left out by *carving*:
// wherever a granted tree contains such an object, the rules are on the object's siblings
// instead, and on those of each of its ancestors. On a carved ancestor itself no right to
// create anything is granted.
//
// The work has two halves. Which trees are closed, read-only or walked device by device
// follows from the mount table alone ([MountTable], carve.go, programdirs.go). The walk
// (walk.go) then applies this to the file system, on descriptors that are held from the
// examination to the rule, and checks the outcome by inode, because the kernel ties rules
// to inodes: a directory that is visible at a second place is the same directory there.
//
// Limits that follow from Landlock:
//
//   - what appears later at a carved level (a new name in /, a new device node, a
//     file system mounted over a name there) is not granted;
//   - a file of a protected program directory that already has a hard link elsewhere can be
//     written through that;
//   - what somebody outside mounts into a granted tree later is granted: [Watch]
//     reports it.
//
// In the kernel: Documentation/userspace-api/landlock.rst, landlock(7).
package landlock
