package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// initScript is process 1 of the guest. The first serial line is the console, the second
// belongs to the command, and the third carries its status.
const initScript = `#!/bin/sh
export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t securityfs security /sys/kernel/security
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t tmpfs tmp /tmp
chmod 1777 /tmp /dev/shm
ln -s /proc/self/fd /dev/fd
for n in 0 1 2; do ln -s /proc/self/fd/$n "/dev/$(echo stdin stdout stderr | cut -d ' ' -f $((n + 1)))"; done
ifconfig lo 127.0.0.1
stty -F /dev/ttyS1 raw -echo
stty -F /dev/ttyS2 raw -echo
setsid /bin/sh /command </dev/null >/dev/ttyS1 2>&1
echo "status $?" >/dev/ttyS2
stty -F /dev/ttyS1 raw -echo # waits until all is sent
poweroff -f
`

// boot runs the command in a guest.
func boot(o options, command []string) (int, error) {
	kernel, err := findKernel(o.cache, o.kernel)
	if err != nil {
		return 0, err
	}
	m := kernels[slices.Index(names(), o.kernel)].machine()
	if _, err := exec.LookPath(m.emulator); err != nil {
		return 0, unavailableError{"there is no " + m.emulator + " (Debian: " + m.pkg + ")"}
	}
	dir, err := os.MkdirTemp("", "kernels-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	o.files["/bin/busybox"] = kernel.busybox
	initrd := filepath.Join(dir, "initrd.gz")
	if err := writeInitramfs(initrd, o.files, command); err != nil {
		return 0, fmt.Errorf("making the initramfs: %w", err)
	}
	return runGuest(o, m, kernel, dir, initrd)
}

// machine is an architecture and how qemu emulates one of its computers. The console is a
// serial line of the computer, the others are ttyS1 and ttyS2.
type machine struct {
	name          string // as in GOARCH
	emulator, pkg string // the program, and Debian's package
	console       string
	args          []string // for the emulator, with the places of the three lines
}

var (
	amd64 = machine{"amd64", "qemu-system-x86_64", "qemu-system-x86", "ttyS0", []string{
		"-serial", "chardev:console", "-serial", "chardev:output", "-serial", "chardev:status"}}
	// The computer "virt" has one line only, of another kind; a card has four.
	arm64 = machine{"arm64", "qemu-system-aarch64", "qemu-system-arm", "ttyAMA0", []string{
		"-machine", "virt", "-serial", "chardev:console",
		"-device", "pci-serial-4x,chardev2=output,chardev3=status"}}
)

func runGuest(o options, m machine, kernel image, dir, initrd string) (int, error) {
	console, status := filepath.Join(dir, "console"), filepath.Join(dir, "status")
	if o.verbose {
		console = "/dev/stderr"
	}
	qemu := exec.Command(m.emulator, "-accel", "tcg", "-cpu", "max", "-smp", strconv.Itoa(o.cpus),
		"-m", strconv.Itoa(o.memory), "-display", "none", "-no-reboot", "-nodefaults", "-monitor", "none",
		"-nic", "none",
		"-chardev", "file,id=console,path="+console, "-chardev", "stdio,id=output", "-chardev", "file,id=status,path="+status,
		"-kernel", kernel.path, "-initrd", initrd,
		"-append", strings.TrimSpace("console="+m.console+" panic=-1 quiet "+o.append))
	qemu.Args = append(qemu.Args, m.args...)
	if o.instructions {
		qemu.Args = append(qemu.Args, "-icount", "shift=0,sleep=off")
	}
	var complaint bytes.Buffer
	qemu.Stdout, qemu.Stderr = os.Stdout, &complaint
	if o.verbose {
		qemu.Stderr = os.Stderr
	}
	qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := qemu.Start(); err != nil {
		return 0, fmt.Errorf("starting qemu: %w", err)
	}
	late := time.AfterFunc(o.timeout, func() { qemu.Process.Kill() })
	err := qemu.Wait()
	if !late.Stop() {
		fmt.Fprintf(os.Stderr, "kernels: the guest did not end within %v\n", o.timeout)
		return timedOut, nil
	}
	text, _ := os.ReadFile(status)
	var n int
	if _, scan := fmt.Sscanf(string(text), "status %d", &n); scan == nil {
		return n, nil
	}
	messages, _ := os.ReadFile(console)
	return 0, errors.Join(fmt.Errorf("kernel %s ended without running the command: %s\n%s", kernel.release,
		complaint.Bytes(), messages), err)
}

// writeInitramfs packs the guest's root directory.
func writeInitramfs(name string, files map[string]string, command []string) error {
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	defer out.Close()
	zip, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err != nil {
		return err
	}
	c := cpio{w: zip, made: map[string]bool{"/": true}}
	for _, dir := range []string{"/bin", "/dev", "/etc", "/home", "/proc", "/root", "/sbin", "/sys", "/tmp",
		"/run", "/usr/bin", "/var/tmp"} {
		c.directory(dir)
	}
	c.add("/dev/console", 0o020600, nil)
	c.add("/init", 0o100755, []byte(initScript))
	c.add("/command", 0o100644, []byte("exec "+shellQuote(command)+"\n"))
	c.add("/etc/passwd", 0o100644, []byte("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n"))
	c.add("/etc/group", 0o100644, []byte("root:x:0:\nuser:x:1000:\n"))
	for _, guest := range sortedKeys(files) {
		text, err := os.ReadFile(files[guest])
		if err != nil {
			return err
		}
		c.directory(path.Dir(guest))
		c.add(guest, 0o100755, text)
	}
	applets, err := exec.Command("busybox", "--list").Output() // that of files may be for another machine
	if err != nil {
		return fmt.Errorf("listing what busybox can do: %w", err)
	}
	for applet := range strings.FieldsSeq(string(applets)) {
		if guest := "/bin/" + applet; files[guest] == "" {
			c.add(guest, 0o120777, []byte("busybox"))
		}
	}
	return errors.Join(c.end(), zip.Close(), out.Close())
}

func sortedKeys(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func shellQuote(words []string) string {
	var quoted []string
	for _, w := range words {
		quoted = append(quoted, "'"+strings.ReplaceAll(w, "'", `'\''`)+"'")
	}
	return strings.Join(quoted, " ")
}

// cpio writes the archive that the kernel unpacks at boot (format "newc", see
// Documentation/driver-api/early-userspace/buffer-format.rst of Linux).
type cpio struct {
	w     io.Writer
	inode int
	made  map[string]bool
	err   error
}

func (c *cpio) directory(name string) {
	if c.made[name] {
		return
	}
	c.made[name] = true
	c.directory(path.Dir(name))
	c.add(name, 0o040755, nil)
}

// add writes one entry. A node of a device is made for /dev/console only.
func (c *cpio) add(name string, mode int, content []byte) {
	c.inode++
	major, minor := 0, 0
	if mode&0o170000 == 0o020000 {
		major, minor = 5, 1
	}
	name = strings.TrimPrefix(name, "/")
	c.write(fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00", c.inode, mode, 0, 0, 1, 0,
		len(content), 0, 0, major, minor, len(name)+1, 0, name), 110+len(name)+1)
	c.write(string(content), len(content))
}

// write writes text and fills up to a multiple of four bytes.
func (c *cpio) write(text string, length int) {
	if c.err == nil {
		_, c.err = io.WriteString(c.w, text+strings.Repeat("\x00", -length&3))
	}
}

func (c *cpio) end() error {
	c.add("TRAILER!!!", 0, nil)
	return c.err
}
