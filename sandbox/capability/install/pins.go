package install

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/memjail/memjail/sandbox/capability"
	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// Places of the pins. The names of the shared maps contain the version of their values;
// the programs of each generation have a directory.
const (
	bpffs     = "/sys/fs/bpf"
	directory = bpffs + "/memjail"
	// holders contains a FIFO for each process that holds a generation.
	holders = "/run/memjail"
)

// shared are the maps that a new generation takes over: without the marks of the one
// before, processes would have the capability again.
var shared = []string{"marks", "supervisors", "state"}

func sharedPin(name string) string { return filepath.Join(directory, name+"-v1") }

func generationDir(name string) string { return filepath.Join(directory, "programs-"+name) }

func holderFIFO(name string) string { return filepath.Join(holders, "capability-"+name) }

// makeDirectory makes the directory of the pins, and mounts a bpffs if none is mounted.
func makeDirectory() error {
	var fs unix.Statfs_t
	if err := unix.Statfs(bpffs, &fs); err != nil {
		return fmt.Errorf("looking at %s: %w", bpffs, err)
	}
	if fs.Type != unix.BPF_FS_MAGIC {
		if err := unix.Mount("bpf", bpffs, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=700"); err != nil {
			return fmt.Errorf("mounting a bpffs at %s: %w", bpffs, err)
		}
	}
	if err := os.Mkdir(directory, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("making the pins' directory: %w", err)
	}
	return ownDirectory(directory)
}

// ownDirectory makes sure that a directory of pins is root's own: on a bpffs that everybody
// may write, somebody else could have made it before, and would replace the pins later.
func ownDirectory(name string) error {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening the pins' directory %s: %w", name, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("looking at the pins' directory %s: %w", name, err)
	}
	if st.Uid != 0 {
		return fmt.Errorf("%s belongs to uid %d and not to root: remove it, and install again", name, st.Uid)
	}
	return unix.Fchmod(fd, 0o700)
}

// lockPins keeps two installations from each other's pins.
func lockPins() (unlock func(), err error) {
	dir, err := os.Open(directory)
	if err != nil {
		return nil, fmt.Errorf("opening the pins' directory: %w", err)
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		dir.Close()
		return nil, fmt.Errorf("locking %s: %w", directory, err)
	}
	return func() { dir.Close() }, nil
}

// generations lists the generations that are pinned.
func generations() ([]string, error) {
	entries, err := os.ReadDir(directory)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for pins: %w", err)
	}
	var found []string
	for _, e := range entries {
		if name, ok := strings.CutPrefix(e.Name(), "programs-"); ok {
			found = append(found, name)
		}
	}
	return found, nil
}

// programsOf are the kernel's numbers for the programs of a generation.
func programsOf(name string) (ids []ebpf.ProgramID, err error) {
	dir := generationDir(name)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for pins: %w", err)
	}
	for _, e := range entries {
		link, err := kernel.OpenPinnedBPF(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		id, err := kernel.LinkedProgram(link)
		link.Close()
		if err != nil {
			return nil, err
		}
		ids = append(ids, ebpf.ProgramID(id))
	}
	return ids, nil
}

// detachingTime is how long the kernel may take to detach programs whose pins are gone.
const detachingTime = 30 * time.Second

// detach removes a generation and waits until the kernel has detached its programs, which it does
// by and by and in no order: as long as the one that drops the capability is attached and others
// are not, processes would drop it in vain.
func detach(name string) error {
	ids, err := programsOf(name)
	if err == nil {
		err = removeGeneration(name)
	}
	if err != nil {
		return err
	}
	for end := time.Now().Add(detachingTime); len(ids) > 0; {
		program, err := ebpf.NewProgramFromID(ids[0])
		switch {
		case errors.Is(err, os.ErrNotExist):
			ids = ids[1:]
			continue
		case err == nil:
			program.Close()
		}
		if time.Now().After(end) {
			return fmt.Errorf("the programs of generation %s stay attached: another process holds them", name)
		}
		time.Sleep(detachingTime / 3000)
	}
	return nil
}

// removeGeneration removes the pins of a generation and ends its holder. The programs are
// detached soon after that, unless another process holds them.
func removeGeneration(name string) error {
	dir := generationDir(name)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return endHolder(name)
	}
	if err != nil {
		return fmt.Errorf("looking for pins: %w", err)
	}
	// control first, so that no process drops the capability any more. A failed
	// installation may not have it.
	order := []string{"control"}
	for _, e := range entries {
		if e.Name() != "control" {
			order = append(order, e.Name())
		}
	}
	errs := []error{endHolder(name)}
	for _, program := range order {
		if err := os.Remove(filepath.Join(dir, program)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, os.Remove(dir))...)
}

// Hold holds the programs of a generation until another process asks it to end, even if
// the pins are removed. It calls ready as soon as it holds them.
func Hold(generation string, ready func() error) error {
	dir := generationDir(generation)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("looking for pins: %w", err)
	}
	var paths []string
	for _, name := range shared {
		paths = append(paths, sharedPin(name))
	}
	for _, e := range entries {
		paths = append(paths, filepath.Join(dir, e.Name()))
	}
	for _, path := range paths {
		object, err := kernel.OpenPinnedBPF(path)
		if err != nil {
			return err
		}
		defer object.Close()
	}
	if err := os.MkdirAll(holders, 0o700); err != nil {
		return err
	}
	fifo := holderFIFO(generation)
	if err := unix.Mkfifo(fifo, 0o600); err != nil && err != unix.EEXIST {
		return fmt.Errorf("making %s: %w", fifo, err)
	}
	f, err := os.OpenFile(fifo, os.O_RDWR, 0) // a writer, too: reading does not end with the last other one
	if err != nil {
		return err
	}
	defer os.Remove(fifo)
	defer f.Close()
	if err := ready(); err != nil {
		return err
	}
	_, err = bufio.NewReader(f).ReadString('\n')
	return err
}

// endHolder ends the process that holds a generation, if there is one, and waits until it
// has ended.
func endHolder(generation string) error {
	fifo := holderFIFO(generation)
	f, err := os.OpenFile(fifo, os.O_WRONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if errors.Is(err, unix.ENXIO) { // it was killed
		return os.Remove(fifo)
	}
	if err != nil {
		return fmt.Errorf("ending the process that holds generation %s: %w", generation, err)
	}
	defer f.Close()
	if _, err := f.WriteString("end\n"); err != nil {
		return fmt.Errorf("ending the process that holds generation %s: %w", generation, err)
	}
	for range 500 {
		if _, err := os.Lstat(fifo); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("the process that holds generation %s does not end", generation)
}

func held(generation string) bool {
	f, err := os.OpenFile(holderFIFO(generation), os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// ErrMarked reports that processes live that have dropped the capability, and would get it
// back by its removal.
var ErrMarked = errors.New(
	"processes that have dropped it are running, and would get it back; --force uninstalls it nevertheless")

// ErrUnpinned reports that a process holds programs whose pins are gone, so that nobody can
// count who would get the capability back.
var ErrUnpinned = errors.New(
	"the pins are gone, for instance unmounted, so nobody can count the processes that would get it " +
		"back; --force uninstalls it nevertheless")

// Uninstall removes the capability from the kernel. It returns false if it was not
// installed, and [ErrMarked] or [ErrUnpinned] while processes live, or may live, that have
// dropped it; with force it removes it nevertheless, and they have it again.
func Uninstall(force bool) (bool, error) {
	unlock, err := lockPins()
	switch {
	case err == nil:
		defer unlock()
	case !errors.Is(err, os.ErrNotExist):
		return false, err
	}
	all, err := generations()
	if err != nil {
		return false, err
	}
	unpinned, err := unpinnedHolders(all)
	if err != nil {
		return false, err
	}
	if !force {
		if err := unused(len(unpinned) > 0); err != nil {
			return false, err
		}
	}
	all = append(all, unpinned...)
	for _, name := range all {
		if err := detach(name); err != nil {
			return false, err
		}
	}
	for _, name := range shared {
		if err := os.Remove(sharedPin(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, err
		}
	}
	if err := os.Remove(directory); err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	return len(all) > 0, nil
}

// removalTime is how long no process can drop the capability while it is being uninstalled: more than
// freeingTime and detachingTime, and the most that [capability.Pause] takes.
const removalTime = time.Minute

// unused makes sure that no process has dropped the capability, and that none does until the
// programs are removed. It returns [ErrMarked] or [ErrUnpinned] otherwise, and processes can drop
// it again.
func unused(unpinned bool) error {
	if err := capability.Pause(removalTime); err != nil && !errors.Is(err, capability.ErrNotInstalled) {
		return err
	}
	count, err := settledMarks()
	switch {
	case err != nil && !errors.Is(err, os.ErrNotExist):
	case count > 0:
		err = fmt.Errorf("%w (%d threads)", ErrMarked, count)
	case unpinned:
		err = ErrUnpinned
	default:
		return nil
	}
	capability.Pause(0)
	return err
}

// freeingTime is how long the kernel may take to free a thread that has ended, which has its mark
// until then: a real-time kernel frees it after the next grace period of RCU.
const freeingTime = time.Second

// settledMarks returns the number of marks when all drops that began before it have ended, and the
// threads that had ended, too, are freed. No process can drop the capability meanwhile.
func settledMarks() (count int, err error) {
	if err := kernel.WaitForBPF(); err != nil {
		time.Sleep(time.Second) // the kernel cannot tell: no program runs that long
	}
	for end := time.Now().Add(freeingTime); ; time.Sleep(freeingTime / 50) {
		if count, err = MarkedTasks(); err != nil || count == 0 || time.Now().After(end) {
			return count, err
		}
	}
}

// unpinnedHolders lists the generations that a process holds and that are not among the
// pinned ones.
func unpinnedHolders(pinned []string) ([]string, error) {
	fifos, err := filepath.Glob(holderFIFO("*"))
	if err != nil {
		return nil, err
	}
	var found []string
	for _, fifo := range fifos {
		name := strings.TrimPrefix(filepath.Base(fifo), filepath.Base(holderFIFO("")))
		if !slices.Contains(pinned, name) && held(name) {
			found = append(found, name)
		}
	}
	return found, nil
}

// MarkedTasks returns the number of threads that have dropped the capability. The error
// is [os.ErrNotExist] if it is not installed.
func MarkedTasks() (int, error) {
	state, err := ebpf.LoadPinnedMap(sharedPin("state"), &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return 0, fmt.Errorf("opening the number of marks: %w", err)
	}
	defer state.Close()
	var value struct{ Marks, PausedUntil, Fence uint64 } // struct state
	err = state.Lookup(uint32(0), &value)
	return int(value.Marks), err
}

// State describes an installation as root sees it.
type State struct {
	Generations []string
	Held        bool // a process holds the programs in addition to the pins
	Programs    []string
	Marked      int // threads
}

// Look returns the state of the installation, or nil if there is none.
func Look() (*State, error) {
	all, err := generations()
	if err != nil || len(all) == 0 {
		return nil, err
	}
	s := &State{Generations: all, Held: held(all[0])}
	entries, err := os.ReadDir(generationDir(all[0]))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		s.Programs = append(s.Programs, e.Name())
	}
	s.Marked, err = MarkedTasks()
	return s, err
}

// Missing lists the optional programs that are not in force, with what is open without
// each of them.
func (s *State) Missing() []string {
	var missing []string
	for name, open := range optional {
		if !slices.Contains(s.Programs, name) {
			missing = append(missing, name+": "+open)
		}
	}
	return missing
}
