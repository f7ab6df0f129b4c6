package attempts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

const deviceReference = "mem(4), mknod(2), Documentation/admin-guide/devices.txt"

// A deviceNode is a device through which memory, or what stands for it, can be
// reached.
type deviceNode struct {
	path, explain string
	flags         int
}

// deviceAttempts open device nodes that exist, without using them, and make some.
func deviceAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, d := range deviceNodes() {
		name := strings.ReplaceAll(strings.TrimPrefix(d.path, "/dev/"), "/", ".")
		all = append(all, probe.Attempt{Route: "device", Spelling: name, Target: probe.System, Effect: probe.Obtain,
			Explain: "opening " + d.path + ": " + d.explain, Reference: deviceReference, Needs: exists(d.path),
			Permits: func(p policy.Policy) string {
				if slices.ContainsFunc(p.Devices, func(o policy.Device) bool { return o.Path == d.path }) {
					return "devices names it"
				}
				return ""
			},
			Attack: func(*probe.Env, probe.Victim) probe.Outcome { return openOnly(d.path, d.flags) }})
	}
	return append(append(all, rootDiskAttempt(), ptsAttempt()), nodeAttempts()...)
}

func deviceNodes() []deviceNode {
	const rw, ro = unix.O_RDWR, unix.O_RDONLY
	return []deviceNode{
		{"/dev/mem", "physical memory", ro},
		{"/dev/kmem", "the kernel's memory", ro},
		{"/dev/port", "input and output ports", ro},
		{"/dev/kmsg", "the kernel's log", ro},
		{"/dev/nvram", "the firmware's memory", ro},
		{"/dev/cpu/0/msr", "the processor's registers", ro},
		{"/dev/kvm", "virtual machines", rw},
		{"/dev/vhost-net", "a kernel thread works on memory", rw},
		{"/dev/vhost-vsock", "a kernel thread works on memory", rw},
		{"/dev/vfio/vfio", "devices work on memory", rw},
		{"/dev/iommu", "devices work on memory", rw},
		{"/dev/uio0", "the memory of a device, and devices that work on memory", rw},
		{"/dev/fw0", "a FireWire bus, over which devices read and write memory", rw},
		{"/dev/snapshot", "the image of all memory that the next start reads back", rw},
		{"/dev/udmabuf", "memory as a buffer of devices", rw},
		{"/dev/userfaultfd", "page faults handled by a program", rw},
		{"/dev/fuse", "file systems by a program, which hold whom they like", rw},
		{"/dev/cuse", "devices by a program", rw},
		{"/dev/net/tun", "network interfaces by a program", rw},
		{"/dev/vsock", "sockets between virtual machines", ro},
		{"/dev/uinput", "typing for others", rw},
		{"/dev/uhid", "typing for others", rw},
		{"/dev/input/event0", "typing for others: what is written comes as keys", rw},
		{"/dev/input/mice", "what others do with their mice", ro},
		{"/dev/ttyS0", "a serial line of somebody else, which can be made to take its output for input", rw},
		{"/dev/console", "the console, which is somebody's terminal", rw},
		{"/dev/hidraw0", "what others type", ro},
		{"/dev/vcs", "what is on the console", ro},
		{"/dev/vcsa1", "what is on a console", ro},
		{"/dev/tty1", "a console of somebody else", rw},
		{"/dev/fb0", "the screen's memory", ro},
		{"/dev/loop-control", "block devices from files", rw},
		{"/dev/loop0", "a block device", ro},
		{"/dev/btrfs-control", "the devices of a file system", rw},
		{"/dev/mapper/control", "block devices from others", rw},
		{"/dev/zram0", "a block device in memory: swap may lie there", ro},
		{"/dev/dm-0", "a block device", ro},
		{"/dev/sda", "a disk with all its files", ro},
		{"/dev/nvme0n1", "a disk with all its files", ro},
		{"/dev/sg0", "commands to a disk", ro},
		{"/dev/nvidia-uvm", "memory of a graphics processor", rw},
		{"/dev/kfd", "memory of a graphics processor", rw},
	}
}

// rootDevice returns the node of the device that / is on, and its file system.
func rootDevice() (path, fstype string, err error) {
	var st unix.Stat_t
	if err := unix.Stat("/", &st); err != nil {
		return "", "", err
	}
	name, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil {
		return "", "", fmt.Errorf("/ is on no block device: %w", err)
	}
	mounts, err := mountinfo.ReadThread()
	if err != nil {
		return "", "", err
	}
	for _, m := range mounts {
		if m.Dev() == st.Dev && m.Point == "/" {
			return "/dev/" + filepath.Base(name), m.FSType, nil
		}
	}
	return "", "", errors.New("the mount table has no line for /")
}

func rootDiskAttempt() probe.Attempt {
	return probe.Attempt{Route: "device", Spelling: "root-disk", Target: probe.System, Effect: probe.Obtain,
		Explain: "opening the block device that the root file system lies on", Reference: deviceReference,
		Attack: func(*probe.Env, probe.Victim) probe.Outcome {
			path, _, err := rootDevice()
			if err != nil {
				return probe.Refused("finding the device", err)
			}
			return openOnly(path, unix.O_RDONLY)
		}}
}

// ptsAttempt opens the terminal of somebody outside, of the same user.
func ptsAttempt() probe.Attempt {
	const key = "pts"
	return probe.Attempt{Route: "device", Spelling: "foreign-pts", Target: probe.System, Effect: probe.Obtain,
		Explain: "opening a pseudo-terminal that a process of the same user outside works on", Reference: "pts(4)",
		Promise: probe.PromiseOpen,
		Why:     "terminals are granted, since a program needs its own; which ones is for the file permissions to say",
		Setup: func(s *probe.Setup) (func(), error) {
			master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
			if err != nil {
				return nil, err
			}
			number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
			if err == nil {
				err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
			}
			s.Values[key] = "/dev/pts/" + strconv.Itoa(number)
			return func() { master.Close() }, err
		},
		Attack: func(s *probe.Env, _ probe.Victim) probe.Outcome { return openOnly(s.Values[key], unix.O_RDWR) }}
}

const mknod32 = 14 // arch/x86/entry/syscalls/syscall_32.tbl

// nodeAttempts make device nodes under names of their own, where a list of names
// would not look, and open them.
func nodeAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, n := range []struct {
		spelling, explain string
		number            func() (mode uint32, dev uint64, err error)
		flags             int
		abi               probe.ABI
	}{
		{"mknod-mem", "making a node of /dev/mem and opening it", node(unix.S_IFCHR, 1, 1), unix.O_RDONLY,
			probe.Native},
		{"mknod-kmsg", "making a node of /dev/kmsg and opening it", node(unix.S_IFCHR, 1, 11), unix.O_RDONLY,
			probe.Native},
		{"mknod-kvm", "making a node of /dev/kvm and opening it", node(unix.S_IFCHR, 10, 232), unix.O_RDWR,
			probe.Native},
		{"mknod-kvm", "making a node of /dev/kvm by the 32-bit interface and opening it",
			node(unix.S_IFCHR, 10, 232), unix.O_RDWR, probe.I386},
		{"mknod-fuse", "making a node of /dev/fuse and opening it", node(unix.S_IFCHR, 10, 229), unix.O_RDWR,
			probe.Native},
		{"mknod-userfaultfd", "making a node of /dev/userfaultfd and opening it", userfaultNode, unix.O_RDWR,
			probe.Native},
		{"mknod-loop", "making a node of a loop device and opening it", node(unix.S_IFBLK, 7, 0), unix.O_RDONLY,
			probe.Native},
		{"mknod-root-disk", "making a node of the root file system's disk and opening it", rootNode,
			unix.O_RDONLY, probe.Native},
		{"mknod-console", "making a node of a console and opening it", node(unix.S_IFCHR, 4, 1), unix.O_RDWR,
			probe.Native},
	} {
		all = append(all, probe.Attempt{Route: "device", Spelling: n.spelling, Target: probe.System,
			Effect: probe.Obtain, ABI: n.abi,
			Explain: n.explain, Reference: deviceReference,
			Attack: func(s *probe.Env, _ probe.Victim) probe.Outcome {
				mode, dev, err := n.number()
				if err != nil {
					return probe.Refused("finding the number", err)
				}
				path := filepath.Join(s.Dir, "node")
				if err := makeNode(path, mode|0o600, dev, n.abi); err != nil {
					return probe.Refused("mknod", err)
				}
				return openOnly(path, n.flags)
			}})
	}
	return all
}

func makeNode(path string, mode uint32, dev uint64, abi probe.ABI) error {
	if abi == probe.Native {
		return unix.Mknod(path, mode, int(dev))
	}
	low, err := attack.Low(attack.String(path))
	if err != nil {
		return err
	}
	if _, errno := attack.Call32(mknod32, attack.Address(low), uintptr(mode), uintptr(dev)); errno != 0 {
		return errno
	}
	return nil
}

func node(mode uint32, major, minor uint32) func() (uint32, uint64, error) {
	return func() (uint32, uint64, error) { return mode, unix.Mkdev(major, minor), nil }
}

func userfaultNode() (uint32, uint64, error) {
	text, err := os.ReadFile("/sys/class/misc/userfaultfd/dev")
	if err != nil {
		return 0, 0, err
	}
	major, minor, _ := strings.Cut(strings.TrimSpace(string(text)), ":")
	a, err1 := strconv.ParseUint(major, 10, 32)
	b, err2 := strconv.ParseUint(minor, 10, 32)
	return unix.S_IFCHR, unix.Mkdev(uint32(a), uint32(b)), errors.Join(err1, err2)
}

func rootNode() (uint32, uint64, error) {
	var st unix.Stat_t
	err := unix.Stat("/", &st)
	return unix.S_IFBLK, st.Dev, err
}
