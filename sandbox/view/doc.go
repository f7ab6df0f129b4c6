// Package view gives a sandbox files and directories of its own: a mount namespace in which
// only what is granted exists, an own /tmp, an own home directory.
//
// It has three parts. [NewPlan] looks at the file system as it is outside and decides what is
// mounted where. [Plan.Build] carries that out in a mount namespace of its own. The functions
// of namespace.go make that namespace: on one thread, where the caller has CAP_SYS_ADMIN, and
// otherwise in a user namespace that the program is executed in again ([Arg0], [Accept]), since
// the kernel gives none to a process with several threads. The rights that a user namespace
// gives end with [DropGained].
//
// A view does not replace the Landlock domain, without which a process of the same user
// outside shows its own root directory (/proc/PID/root). The domain is made inside the view.
//
// A plan is a list of [Mount]s, each on a place of the view. Directories on the way to a place,
// and links on the way to a path as somebody wrote it, are made in a file system of the view's
// own, which cannot be changed. The mounts are made in the order of their places, so one within
// another comes after it. The order of Build:
//
//  1. all clones are made, from the paths outside, detached: open_tree(2). A clone is made
//     read-only before anybody can reach it, and its device and inode number are compared with
//     what the plan has looked at: a path that was replaced in between is an error.
//  2. Mounts are attached: move_mount(2).
//  3. Covers are attached, [Plan.Covers].
//  4. The view's own file system becomes read-only and the root directory, pivot_root(2).
//
// What is to be missing inside something that is granted gets a cover: a [Mount] that is
// appended to [Plan.Covers]. Covers are made in their order, after everything else, so nothing
// hides them. A cover of the kind [NoFile] refuses to be opened, by root too; [NoDirectory] is
// an empty directory that nobody enters but root; [Same] mounts what the view shows at a place
// on that place itself, so that the directory cannot be renamed. [Plan.Shown] lists all places of
// the view where an object outside is shown.
package view
