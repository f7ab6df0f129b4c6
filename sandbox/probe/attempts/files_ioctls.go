package attempts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

// ioctlAttempts change files and directories past every rule about paths, each on a file
// system that has the ioctl: that of the suite's directory, or one that is made in a file.
func ioctlAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, abi := range both {
		for _, fs := range []struct {
			name, explain string
			request       uintptr
		}{
			{"btrfs", "BTRFS_IOC_SUBVOL_CREATE makes a directory where no rule about paths looks", 0x5000940e},
			{"bcachefs", "BCH_IOCTL_SUBVOLUME_CREATE makes a directory where no rule about paths looks", 0x4020bc10},
		} {
			all = append(all, probe.Attempt{Route: "subvolume", Spelling: fs.name, Target: probe.System,
				Effect: probe.Obtain, ABI: abi,
				Explain: fs.explain, Reference: fs.name + "-subvolume(8)", Setup: prepareFileSystem(fs.name),
				Attack: func(s *probe.Env, _ probe.Victim) probe.Outcome {
					return makeSubvolume(s, abi, fs.name, fs.request)
				}})
		}
		for _, c := range fileChanges() {
			all = append(all, probe.Attempt{Route: "file-ioctl", Spelling: c.spelling, Target: probe.System,
				Effect: probe.Disturb, ABI: abi,
				Explain: c.explain + ", through a descriptor for reading", Reference: c.reference,
				Setup:   prepareFileSystem("ext4"),
				Promise: probe.PromiseOpen,
				Why:     `files are as outside under "memory"; paths.metadata = "granted" and "deny" close it`,
				Attack:  func(s *probe.Env, _ probe.Victim) probe.Outcome { return c.make(s, abi) }})
		}
	}
	return all
}

// magics are the types by which statfs(2) knows file systems.
var magics = map[string]uint32{"ext4": unix.EXT4_SUPER_MAGIC, "btrfs": unix.BTRFS_SUPER_MAGIC, "bcachefs": 0xca451a4e}

// features are options of mkfs with which a file system has what is attacked: versions of
// files are fixed where checksums are made of them.
var features = map[string][]string{"ext4": {"-q", "-O", "verity,encrypt,^metadata_csum"}, "btrfs": {"-q"}}

func fileSystemKey(name string) string { return "file-system-" + name }

// prepareFileSystem notes a directory on a file system: the suite's own, or one that is
// made in a file and mounted in the run's private mount namespace.
func prepareFileSystem(name string) func(*probe.Setup) (func(), error) {
	key := fileSystemKey(name)
	return func(s *probe.Setup) (func(), error) {
		return s.Once("have "+key, func() (func(), error) {
			var st unix.Statfs_t
			known := unix.Statfs(s.Scratch(), &st) == nil
			if known && uint32(st.Type) == magics[name] && name != "ext4" { // which has features to be chosen
				s.Values[key] = s.Scratch()
				return nil, nil
			}
			if err := s.NeedMounts(); err != nil {
				return nil, fmt.Errorf("the suite's directory is on no %s: %w", name, err)
			}
			return s.Mount(key, func(point string) error {
				if err := mountImage(filepath.Join(s.Dir, key), name, point); err != nil {
					return err
				}
				return os.Chmod(point, 0o777)
			})
		})
	}
}

// mountImage makes a file system in a file and mounts it.
func mountImage(image, name, point string) error {
	const size = 256 << 20 // the file has holes
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(image, size); err != nil {
		return err
	}
	if err := exec.Command("mkfs."+name, append(slices.Clone(features[name]), image)...).Run(); err != nil {
		return fmt.Errorf("making it: %w", err)
	}
	device, err := loopDevice(image)
	if err != nil {
		return err
	}
	defer device.Close() // the mount holds it, and the kernel lets it go after that
	return unix.Mount(device.Name(), point, name, unix.MS_NOSUID|unix.MS_NODEV, "")
}

// loopDevice is a block device made of a file, until nobody has it open, loop(4).
func loopDevice(image string) (*os.File, error) {
	file, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	const tries = 8 // others may take the same one
	for range tries {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("looking for a loop device: %w", err)
		}
		device, err := os.OpenFile("/dev/loop"+strconv.Itoa(number), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(file.Fd())}
		config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
		err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
		if err == nil {
			return device, nil
		}
		device.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("configuring a loop device: %w", err)
		}
	}
	return nil, fmt.Errorf("configuring a loop device: %w", unix.EBUSY)
}

// makeSubvolume makes one on the file system.
func makeSubvolume(s *probe.Env, abi probe.ABI, fs string, request uintptr) probe.Outcome {
	top := s.Values[fileSystemKey(fs)]
	fd, err := unix.Open(top, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return probe.Refused("open", err)
	}
	defer unix.Close(fd)
	const size = 4096 // struct btrfs_ioctl_vol_args; the name begins at 8
	name := fmt.Sprintf("%s-%s-%d", filepath.Base(s.Dir), abi, s.Side())
	argument := make([]byte, size)
	copy(argument[8:], name)
	_, err = call(abi, ioctlCall, uintptr(fd), request, attack.Address(low(argument)))
	var st unix.Stat_t
	made := filepath.Join(top, name)
	there := unix.Lstat(made, &st) == nil
	unix.Rmdir(made)
	switch {
	case there:
		return probe.Did("a directory was made")
	case err != nil:
		return probe.Refused("ioctl", err)
	}
	return probe.Outcome{Step: "ioctl", Detail: "there is no directory"}
}

// A fileChange is an ioctl that changes a file for good.
type fileChange struct {
	spelling, explain, reference string
	directory                    bool // on a directory
	request, request32           uintptr
	argument                     func() []byte
	// changed reports whether the file has become another one, by its path and by a
	// descriptor of it.
	changed func(path string, fd int) bool
}

// Numbers of linux/fs.h, linux/fscrypt.h and linux/fsverity.h.
const (
	setVersion, getVersion = 0x40087602, 0x80087601
	setVersion32           = 0x40047602
	enableVerity           = 0x40806685
	setEncryption          = 0x800c6613
	getEncryption          = 0x400c6615
)

func fileChanges() []fileChange {
	const version = 4711
	return []fileChange{
		{spelling: "version", explain: "FS_IOC_SETVERSION gives a file another version",
			reference: "ioctl_iflags(2), linux/fs.h",
			request:   setVersion, request32: setVersion32, argument: func() []byte { return pack(uint64(version)) },
			changed: func(_ string, fd int) bool {
				got := make([]byte, 8)
				_, err := call(probe.Native, ioctlCall, uintptr(fd), getVersion, attack.Address(got))
				return err == nil && word32(got, 0) == version
			}},
		{spelling: "verity", explain: "FS_IOC_ENABLE_VERITY makes a file unwritable for everybody",
			reference: "Documentation/filesystems/fsverity.rst",
			request:   enableVerity, request32: enableVerity,
			// struct fsverity_enable_arg: version 1, SHA-256, blocks of 4096 bytes.
			argument: func() []byte { return append(pack(uint32(1), uint32(1), uint32(4096)), make([]byte, 116)...) },
			changed: func(path string, _ int) bool {
				f, err := os.OpenFile(path, os.O_WRONLY, 0)
				if err == nil {
					f.Close()
				}
				return errors.Is(err, unix.EPERM)
			}},
		{spelling: "encryption", explain: "FS_IOC_SET_ENCRYPTION_POLICY encrypts an empty directory",
			reference: "Documentation/filesystems/fscrypt.rst",
			directory: true, request: setEncryption, request32: setEncryption,
			// struct fscrypt_policy_v1: version 0, AES-256-XTS, AES-256-CTS, padding of 16.
			argument: func() []byte { return append(pack(uint8(0), uint8(1), uint8(4), uint8(2)), "8 bytes!"...) },
			changed: func(_ string, fd int) bool {
				_, err := call(probe.Native, ioctlCall, uintptr(fd), getEncryption, attack.Address(make([]byte, 12)))
				return err == nil
			}},
	}
}

// make makes the change to a new file, which is removed.
func (c fileChange) make(s *probe.Env, abi probe.ABI) probe.Outcome {
	path := filepath.Join(s.Values[fileSystemKey("ext4")], filepath.Base(s.Dir))
	defer os.RemoveAll(path)
	flags := unix.O_RDONLY | unix.O_CLOEXEC
	err := os.WriteFile(path, []byte("content"), 0o666)
	if c.directory {
		os.Remove(path)
		err, flags = os.Mkdir(path, 0o777), flags|unix.O_DIRECTORY
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrNotExist) {
		return probe.Refused("making a file", err) // path rules do not grant the place
	}
	if err != nil {
		return probe.Outcome{Unready: true, Detail: fmt.Sprintf("making a file: %v", err)}
	}
	fd, err := unix.Open(path, flags, 0)
	if err != nil {
		return probe.Refused("open", err)
	}
	defer unix.Close(fd)
	request := c.request
	if abi == probe.I386 {
		request = c.request32
	}
	_, err = call(abi, ioctlCall, uintptr(fd), request, attack.Address(low(c.argument())))
	switch {
	case c.changed(path, fd):
		return probe.Did("the file was changed")
	case err != nil:
		return probe.Refused("ioctl", err)
	}
	return probe.Outcome{Step: "ioctl", Detail: "the file is as it was"}
}
