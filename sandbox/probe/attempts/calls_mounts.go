package attempts

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

var (
	mountCall        = number{unix.SYS_MOUNT, 21}
	umountCall       = number{unix.SYS_UMOUNT2, 52}
	openTreeCall     = number{unix.SYS_OPEN_TREE, 428}
	moveMountCall    = number{unix.SYS_MOVE_MOUNT, 429}
	fsopenCall       = number{unix.SYS_FSOPEN, 430}
	fsconfigCall     = number{unix.SYS_FSCONFIG, 431}
	fsmountCall      = number{unix.SYS_FSMOUNT, 432}
	fspickCall       = number{unix.SYS_FSPICK, 433}
	mountSetattrCall = number{unix.SYS_MOUNT_SETATTR, 442}
	openTreeAttrCall = number{467, 467}
)

const mountRoute = "mount-call"

// A procShower makes procfs appear where it was not, and opens the caller's own mem
// there. undo takes a mount back.
type procShower struct {
	spelling, explain, reference string
	abis                         []probe.ABI
	show                         func(abi probe.ABI, s *probe.Env, flags int) (fd int, step string, undo func(),
		err error)
}

// mountAttempts show procfs, or other things, where no rule of a sandbox expects
// them.
func mountAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, p := range procShowers() {
		for _, abi := range p.abis {
			for _, effect := range []probe.Effect{probe.Read, probe.Write, probe.WriteRO} {
				if abi == probe.I386 && effect != probe.Write {
					continue
				}
				all = append(all, probe.Attempt{Route: mountRoute, Spelling: p.spelling, Target: probe.Self,
					Effect: effect, ABI: abi,
					Explain: p.explain, Reference: p.reference,
					Attack: func(s *probe.Env, v probe.Victim) probe.Outcome {
						flags := unix.O_RDWR | unix.O_CLOEXEC
						if effect == probe.Read {
							flags = unix.O_RDONLY | unix.O_CLOEXEC
						}
						fd, step, undo, err := p.show(abi, s, flags)
						if undo != nil {
							defer undo()
						}
						if err != nil {
							return probe.Refused(step, err)
						}
						defer unix.Close(fd)
						return useMem(fd, v, effect)
					}})
			}
		}
	}
	return append(append(all, userMountAttempts()...), bareMountAttempts()...)
}

// detach takes a mount back.
func detach(path string) func() { return func() { unix.Unmount(path, unix.MNT_DETACH) } }

// mountPoint makes an empty directory, or file, in the attempt's own directory.
func mountPoint(s *probe.Env, file bool) (string, error) {
	path := filepath.Join(s.Dir, "mount")
	if file {
		return fileWith(s, "mount", nil, 0o600)
	}
	return path, os.Mkdir(path, 0o755)
}

// openAt opens a path below a descriptor.
func openAt(dir uintptr, path string, flags int) (int, string, error) {
	fd, err := unix.Openat(int(dir), path, flags, 0)
	return fd, "open " + path, err
}

func procShowers() []procShower {
	// mounted makes one mount(2) and opens what it shows.
	mounted := func(source, kind string, flags uintptr, file bool, mem string) func(probe.ABI, *probe.Env,
		int) (int, string, func(), error) {
		return func(abi probe.ABI, s *probe.Env, open int) (int, string, func(), error) {
			path, err := mountPoint(s, file)
			if err != nil {
				return -1, "mkdir", nil, err
			}
			if _, err := call(abi, mountCall, lowString(source), lowString(path), lowString(kind), flags,
				0); err != nil {
				return -1, "mount", nil, err
			}
			fd, err := unix.Open(path+mem, open, 0)
			return fd, "open", detach(path), err
		}
	}
	treeOf := func(n number, path string, flags uintptr, mem string) func(probe.ABI, *probe.Env, int) (int,
		string, func(), error) {
		return func(abi probe.ABI, _ *probe.Env, open int) (int, string, func(), error) {
			attr := low(make([]byte, 32)) // struct mount_attr that changes nothing
			tree, err := call(abi, n, atFDCWD, lowString(path), flags, attack.Address(attr), uintptr(len(attr)))
			if err != nil {
				return -1, "open_tree", nil, err
			}
			defer unix.Close(int(tree))
			if mem == "" {
				fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", tree), open, 0)
				return fd, "open", nil, err
			}
			fd, step, err := openAt(tree, mem, open)
			return fd, step, nil, err
		}
	}
	const clone = 1 | unix.O_CLOEXEC // OPEN_TREE_CLONE
	return []procShower{
		{"proc", "mount(2) of another procfs", "mount(2)", both, mounted("proc", "proc", 0, false, "/self/mem")},
		{"bind", "mount(2) binds /proc elsewhere", "mount(2)", both, mounted("/proc", "", unix.MS_BIND, false,
			"/self/mem")},
		{"bind-file", "mount(2) binds /proc/self/mem over a file", "mount(2)", []probe.ABI{probe.Native},
			mounted("/proc/self/mem", "", unix.MS_BIND, true, "")},
		{"fsopen", "fsopen(2) and fsmount(2) make a procfs that is mounted nowhere", "fsopen(2)", both, detachedProc},
		{"open-tree", "open_tree(2) with OPEN_TREE_CLONE copies /proc to a mount that is nowhere",
			"open_tree(2)", both, treeOf(openTreeCall, "/proc", clone, "self/mem")},
		{"open-tree-attr", "the same by open_tree_attr(2)", "open_tree_attr(2)", both,
			treeOf(openTreeAttrCall, "/proc", clone, "self/mem")},
		{"open-tree-path", "open_tree(2) without a copy, which needs no privilege, opened again",
			"open_tree(2)", both, treeOf(openTreeCall, "/proc/self/mem", unix.O_CLOEXEC, "")},
		{"move-mount", "move_mount(2) attaches a copy of /proc elsewhere", "move_mount(2)", both,
			func(abi probe.ABI, s *probe.Env, open int) (int, string, func(), error) {
				path, err := mountPoint(s, false)
				if err != nil {
					return -1, "mkdir", nil, err
				}
				tree, err := call(abi, openTreeCall, atFDCWD, lowString("/proc"), clone)
				if err != nil {
					return -1, "open_tree", nil, err
				}
				defer unix.Close(int(tree))
				const fromEmptyPath = 4 // MOVE_MOUNT_F_EMPTY_PATH
				if _, err := call(abi, moveMountCall, tree, lowString(""), atFDCWD, lowString(path),
					fromEmptyPath); err != nil {
					return -1, "move_mount", nil, err
				}
				fd, err := unix.Open(path+"/self/mem", open, 0)
				return fd, "open", detach(path), err
			}},
	}
}

// detachedProc makes a procfs that is mounted nowhere.
func detachedProc(abi probe.ABI, _ *probe.Env, open int) (int, string, func(), error) {
	context, err := call(abi, fsopenCall, lowString("proc"), 1) // FSOPEN_CLOEXEC
	if err != nil {
		return -1, "fsopen", nil, err
	}
	defer unix.Close(int(context))
	if _, err := call(abi, fsconfigCall, context, unix.FSCONFIG_CMD_CREATE, 0, 0, 0); err != nil {
		return -1, "fsconfig", nil, err
	}
	mount, err := call(abi, fsmountCall, context, 1, 0) // FSMOUNT_CLOEXEC
	if err != nil {
		return -1, "fsmount", nil, err
	}
	defer unix.Close(int(mount))
	fd, step, err := openAt(mount, "self/mem", open)
	return fd, step, nil, err
}

// userMountAttempts do it in a user namespace, where no privilege is needed. The
// child in it reads or writes the copy that it has of this process's canary.
func userMountAttempts() []probe.Attempt {
	open := func(dir string) attack.Step {
		return orEnd(attack.Step{Number: unix.SYS_OPENAT,
			Args: [6]uintptr{atFDCWD, lowString(dir + "/self/mem"), unix.O_RDWR}})
	}
	// Each returns its steps; the last one's result is the open mem file.
	kinds := []struct {
		spelling, explain string
		steps             func(dir string) []attack.Step
	}{
		{"userns-proc", "mount(2) of procfs in a user namespace", func(dir string) []attack.Step {
			return []attack.Step{orEnd(mountCall.step(probe.Native, lowString("proc"), lowString(dir),
				lowString("proc"), 0, 0)), open(dir)}
		}},
		{"userns-bind", "mount(2) binds /proc elsewhere in a user namespace", func(dir string) []attack.Step {
			return []attack.Step{orEnd(mountCall.step(probe.Native, lowString("/proc"), lowString(dir), 0,
				unix.MS_BIND|unix.MS_REC, 0)), open(dir)}
		}},
		{"userns-open-tree", "open_tree(2) copies /proc in a user namespace", func(string) []attack.Step {
			const clone = 1 | unix.AT_RECURSIVE
			return []attack.Step{orEnd(openTreeCall.step(probe.Native, atFDCWD, lowString("/proc"), clone)),
				orEnd(after(2, attack.Step{Number: unix.SYS_OPENAT, Args: [6]uintptr{0, lowString("self/mem"),
					unix.O_RDWR}}))}
		}},
		{"userns-fsopen", "fsopen(2) makes a procfs in a user namespace", func(string) []attack.Step {
			return []attack.Step{orEnd(fsopenCall.step(probe.Native, lowString("proc"), 0)),
				orEnd(after(2, fsconfigCall.step(probe.Native, 0, unix.FSCONFIG_CMD_CREATE, 0, 0, 0))),
				orEnd(after(2, fsmountCall.step(probe.Native, 0, 0, 0))),
				orEnd(after(4, attack.Step{Number: unix.SYS_OPENAT, Args: [6]uintptr{0, lowString("self/mem"),
					unix.O_RDWR}}))}
		}},
	}
	var all []probe.Attempt
	for _, k := range kinds {
		all = append(all, probe.Attempt{Route: mountRoute, Spelling: k.spelling, Target: probe.Self,
			Effect: probe.Write, Check: forged, Layer: "seccomp",
			Explain: k.explain, Reference: "user_namespaces(7), mount_namespaces(7)",
			Attack: func(s *probe.Env, v probe.Victim) probe.Outcome {
				dir, err := mountPoint(s, false)
				if err != nil {
					return probe.Refused("mkdir", err)
				}
				return inUserNamespace(k.steps(dir), v)
			}})
	}
	return all
}

func inUserNamespace(steps []attack.Step, v probe.Victim) probe.Outcome {
	word, err := newPipe()
	if err != nil {
		return probe.Refused("pipe2", err)
	}
	defer word.close()
	all := append([]attack.Step{newUser(probe.Native, false, unix.CLONE_NEWNS, unix.CLONE_NEWPID)}, steps...)
	mem := uintptr(len(all))
	all = append(all, orEnd(after(mem,
		attack.Step{Number: unix.SYS_PWRITE64, Args: [6]uintptr{0, attack.Address(low(probe.Marker)),
			probe.CanarySize, uintptr(v.RW)}})), word.tell(v.RW))
	child, err := attack.Spawn(0, 0, all...)
	if err != nil {
		return probe.Refused("fork", err)
	}
	if _, err := child.Wait(); err != nil {
		return probe.Refused("wait4", err)
	}
	for i := range all {
		if err := child.Err(i); err != nil {
			return probe.Refused(stepName(i), err)
		}
	}
	told, err := word.take()
	if err != nil {
		return probe.Refused("read", err)
	}
	return probe.Outcome{Data: told, Done: true, Detail: "written in a user namespace"}
}

func stepName(i int) string {
	if i == 0 {
		return "clone CLONE_NEWUSER"
	}
	return fmt.Sprintf("step %d in the user namespace", i)
}

// bareMountAttempts are calls that change mounts, or prepare it, without showing
// procfs.
func bareMountAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, abi := range both {
		bare := func(spelling, explain, reference string, attempt func(s *probe.Env) probe.Outcome) {
			all = append(all, probe.Attempt{Route: mountRoute, Spelling: spelling, Target: probe.System,
				Effect: probe.Obtain, ABI: abi, Explain: explain, Reference: reference,
				Attack: func(s *probe.Env, _ probe.Victim) probe.Outcome { return attempt(s) }})
		}
		bare("tmpfs", "mount(2) of a tmpfs", "mount(2)", func(s *probe.Env) probe.Outcome {
			path, err := mountPoint(s, false)
			if err != nil {
				return probe.Refused("mkdir", err)
			}
			_, err = call(abi, mountCall, lowString("none"), lowString(path), lowString("tmpfs"), 0, 0)
			if err == nil {
				detach(path)()
			}
			return obtained("mount", err)
		})
		bare("fspick", "fspick(2) of a mounted file system, to change its options", "fspick(2)",
			func(*probe.Env) probe.Outcome {
				fd, err := call(abi, fspickCall, atFDCWD, lowString("/"), 1) // FSPICK_CLOEXEC
				if err == nil {
					unix.Close(int(fd))
				}
				return obtained("fspick", err)
			})
		bare("mount-setattr", "mount_setattr(2), here without changing anything", "mount_setattr(2)",
			func(*probe.Env) probe.Outcome {
				attr := low(make([]byte, 32))
				// An empty attribute would be taken as a question about nothing.
				copy(attr, pack(uint64(0), uint64(unix.MOUNT_ATTR_NOSYMFOLLOW)))
				return setattrOfCopy(abi, attr)
			})
		cover := probe.Attempt{Route: mountRoute, Spelling: "umount", Target: probe.System,
			Effect: probe.Obtain, ABI: abi,
			Explain: "umount2(2) takes a cover away that was mounted over something to hide it", Reference: "umount(2)",
			Setup:  prepareCover(abi),
			Attack: func(s *probe.Env, _ probe.Victim) probe.Outcome { return uncover(abi, s) }}
		all = append(all, cover)
	}
	return all
}

// setattrOfCopy changes a mount that only this process can see; where it cannot have
// one, the root directory's mount is asked to change in nothing.
func setattrOfCopy(abi probe.ABI, attr []byte) probe.Outcome {
	const clone = 1 | unix.O_CLOEXEC
	tree, err := call(abi, openTreeCall, atFDCWD, lowString("/"), clone)
	if err != nil {
		_, err := call(abi, mountSetattrCall, atFDCWD, lowString("/"), 0, attack.Address(low(make([]byte, 32))), 32)
		return obtained("mount_setattr", err)
	}
	defer unix.Close(int(tree))
	_, err = call(abi, mountSetattrCall, tree, lowString(""), unix.AT_EMPTY_PATH, attack.Address(attr),
		uintptr(len(attr)))
	return obtained("mount_setattr", err)
}

// coverName is a directory with a file in it, over which an empty file system is
// mounted.
func coverName(dir string, abi probe.ABI, control bool) string {
	if control {
		return filepath.Join(dir, "cover-control-"+string(abi))
	}
	return filepath.Join(dir, "cover-"+string(abi))
}

const hiddenName = "hidden"

func prepareCover(abi probe.ABI) func(*probe.Setup) (func(), error) {
	return func(s *probe.Setup) (func(), error) {
		var undo []func()
		all := func() {
			for _, u := range undo {
				u()
			}
		}
		if err := s.NeedMounts(); err != nil {
			return nil, err
		}
		for _, control := range []bool{false, true} {
			path := coverName(s.Mounts, abi, control)
			if err := os.Mkdir(path, 0o755); err != nil {
				return all, err
			}
			undo = append(undo, func() { os.Remove(path) })
			if err := os.WriteFile(filepath.Join(path, hiddenName), nil, 0o644); err != nil {
				return all, err
			}
			undo = append([]func(){func() { os.Remove(filepath.Join(path, hiddenName)) }}, undo...)
			if err := unix.Mount("none", path, "tmpfs", 0, "size=4k"); err != nil {
				return all, fmt.Errorf("mounting a cover: %w", err)
			}
			undo = append([]func(){func() { unix.Unmount(path, unix.MNT_DETACH) }}, undo...)
		}
		return all, nil
	}
}

func uncover(abi probe.ABI, s *probe.Env) probe.Outcome {
	path := coverName(s.Mounts, abi, s.Control)
	if _, err := os.Stat(filepath.Join(path, hiddenName)); err == nil {
		return probe.Outcome{Unready: true, Detail: "there is no cover here"}
	}
	if _, err := call(abi, umountCall, lowString(path), unix.MNT_DETACH); err != nil {
		return probe.Refused("umount2", err)
	}
	_, err := os.Stat(filepath.Join(path, hiddenName))
	return obtained("stat of what was hidden", err)
}
