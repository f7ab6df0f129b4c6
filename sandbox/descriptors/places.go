package descriptors

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/memjail/memjail/sandbox/facts"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/landlock"
	"golang.org/x/sys/unix"
)

// What is opened from a directory, and how a file may be opened again through
// /proc/self/fd, the kernel judges by the rules on what lies above it. Those were
// made for the mounts that the sandbox sees. From a directory of another mount
// namespace, where nothing was carved out, procfs may lie below, and above what the
// rules give more rights than here. So whatever CMD starts with has to lie where the
// mount table has it.

// WorkingDirectoryError reports that the working directory was entered in another
// mount namespace. To start elsewhere instead would have the program's relative paths name
// other files than its caller meant.
type WorkingDirectoryError struct {
	Path string // as the kernel gives it, which is not where the path leads here
	// Hint is why the mounts differ, or empty.
	Hint string
}

func (e *WorkingDirectoryError) Error() string {
	return fmt.Sprintf("the working directory (%s) is on a mount that the sandbox does not see, "+
		"through which closed files can be reached%s: change to another directory first (cd /)", e.Path, e.Hint)
}

// Sandbox is what a program will see and may open.
type Sandbox struct {
	Mounts *landlock.MountTable
	Rules  *landlock.Plan
	// Why explains that the mounts are not those of [View], for messages; empty: they are.
	Why string
}

// CheckPlaces examines the directories that a program starts with (the working directory
// and each descriptor of one, or that only names something, O_PATH), and decides
// about the files that were opened elsewhere. Errors: [*WorkingDirectoryError], [*Error],
// and those of looking.
func (in *Inherited) CheckPlaces(s Sandbox) error {
	place, name, err := s.Mounts.Place(landlock.WorkingDirectory)
	if err != nil {
		return fmt.Errorf("looking at the working directory: %w", err)
	}
	if place == landlock.Foreign {
		return &WorkingDirectoryError{Path: name, Hint: s.Why}
	}
	for _, fd := range in.directories {
		if err := s.checkDirectoryFD(fd); err != nil {
			return err
		}
	}
	if s.Rules != nil && len(s.Rules.Closed) > 0 {
		return closedFile(s.Rules.Closed[0])
	}
	return in.foreignFiles(s)
}

// closedFile is the error about a file that is open for writing where the sandbox can open
// none so.
func closedFile(f landlock.ClosedFile) *Error {
	e := &Error{FD: f.FD, What: "a file of a program directory (" + f.Path + "), open for writing",
		Key:  "memory.code-files",
		Hint: "put a pipe in between (memjail ... | cat >>FILE)"}
	if f.System {
		e.What, e.Key = "a file of /sys or of a cgroup ("+f.Path+"), open for writing", "paths.rw"
	}
	return e
}

func (s *Sandbox) checkDirectoryFD(fd int) error {
	place, name, err := s.Mounts.Place(fd)
	if err != nil {
		return fmt.Errorf("looking at descriptor %d: %w", fd, err)
	}
	if place == landlock.Foreign {
		hint := "open it in memjail's mount namespace"
		if s.Why != "" { // no other process can be in that of the sandbox
			hint = "let the program open it by its path"
		}
		return &Error{FD: fd, What: "a directory (" + name + ") of a mount that the sandbox does not see, " +
			"through which closed files can be reached" + s.Why, Hint: hint}
	}
	return nil
}

// foreignFile is a regular file that CMD is to hold and that was opened elsewhere.
type foreignFile struct {
	fd    int
	name  string // as the kernel gives it, which need not lead there from here
	st    unix.Stat_t
	flags int
	// witness is a process that has the file's mount where its name says; 0: none
	// was found.
	witness int
}

// noteForeign remembers a regular file that lies on no mount of the table and could
// be opened again with more rights than the descriptor has: that depends on what is
// above it, there.
func (in *Inherited) noteForeign(fd int, st *unix.Stat_t, flags int) error {
	if in.view.Mounts == nil {
		return nil
	}
	place, name, err := in.view.Mounts.Place(fd)
	if err != nil {
		return fmt.Errorf("looking at descriptor %d: %w", fd, err)
	}
	f := foreignFile{fd: fd, name: name, st: *st, flags: flags}
	if place == landlock.Foreign && f.reopensWithMore() && !in.sameAbove(&f) {
		in.foreign = append(in.foreign, f)
	}
	return nil
}

// sameAbove reports whether the directories above the file are the same ones there
// as here, so that the rules on them are those for its path. A process further up
// may still be in the other mount namespace, as the shell is that opened the file
// for unshare(1). (Which process shows the table does not matter: it has the mount.)
func (in *Inherited) sameAbove(f *foreignFile) bool {
	const most = 32
	for pid, n := unix.Getppid(), 0; pid > 0 && n < most; _, pid = kernel.ProcessState(pid) {
		n++
		mountinfo, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
		if err != nil {
			continue
		}
		there, err := landlock.ParseMountTable(mountinfo)
		mountinfo.Close()
		if err != nil {
			continue
		}
		if place, _, err := there.Place(f.fd); err == nil && place == landlock.Listed {
			f.witness = pid
			return in.view.Mounts.SameAbove(there, f.name)
		}
	}
	return false
}

// foreignFiles decides about the files that were noted. One stays if no rule is on
// what lies above it there, or if its path leads to it here, too, and the rules give as
// much on that path; or that path is opened in its place, where nobody can tell the
// difference: what is written is appended, or it is only read. Any other is refused.
func (in *Inherited) foreignFiles(s Sandbox) error {
	if len(in.foreign) == 0 {
		return nil
	}
	rules := facts.ByObject(facts.RulesOf(s.Rules))
	for i := range in.foreign {
		f := &in.foreign[i]
		if !f.ruledAbove(rules) {
			continue
		}
		if f.replace(s.Mounts, rules) != nil {
			return &Error{FD: f.fd,
				What: "a file (" + f.name +
					") of another mount namespace, through which it could be opened again with more rights",
				Hint: "open it in this one, or put a pipe in between (cat FILE | memjail ..., memjail " +
					"... | cat >>FILE)"}
		}
	}
	return nil
}

// ruledAbove reports whether, or that it is not known whether, a rule is on one of
// the directories above the file that gives more than the descriptor does. It looks
// at them through a process that sees them, such as the shell that opened the file
// for chroot(8).
func (f *foreignFile) ruledAbove(rules facts.Objects) bool {
	if f.witness == 0 {
		return true
	}
	const onFiles = landlock.ReadFile | landlock.WriteFile | landlock.Truncate | landlock.Execute
	root := fmt.Sprintf("/proc/%d/root", f.witness)
	for up := filepath.Dir(f.name); ; up = filepath.Dir(up) {
		rights, ok := rules.On(root + up)
		if !ok || rights&onFiles&^rightsOf(f.flags) != 0 {
			return true
		}
		if up == "/" || up == "." {
			return false
		}
	}
}

// reopensWithMore reports whether this process could open a file again in a way that
// the descriptor is not open. An owner can change the mode first, and who is
// privileged passes it by.
func (f *foreignFile) reopensWithMore() bool {
	privileged, err := kernel.Privileged()
	owner := int(f.st.Uid)
	if err != nil || privileged || owner == unix.Getuid() || owner == unix.Geteuid() {
		return true
	}
	mode := f.flags & unix.O_ACCMODE
	path := "/proc/self/fd/" + strconv.Itoa(f.fd)
	may := func(access uint32) bool { return unix.Faccessat(unix.AT_FDCWD, path, access, unix.AT_EACCESS) == nil }
	return mode == unix.O_WRONLY && may(unix.R_OK) || mode == unix.O_RDONLY && may(unix.W_OK) || may(unix.X_OK)
}

// replace sees to it that opening the file again gives no more than its path
// does here: it leaves the descriptor as it is, or puts another in its place.
func (f *foreignFile) replace(mounts *landlock.MountTable, rules facts.Objects) error {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS}
	named, err := unix.Openat2(unix.AT_FDCWD, f.name, &how)
	if err != nil {
		return err
	}
	defer unix.Close(named)
	var st unix.Stat_t
	if err := unix.Fstat(named, &st); err != nil {
		return err
	}
	place, _, err := mounts.Place(named)
	if err != nil || place != landlock.Listed || st.Dev != f.st.Dev || st.Ino != f.st.Ino {
		return unix.EXDEV
	}
	if rules.Granting(f.name, landlock.ReadFile) != "" && rules.Granting(f.name, landlock.WriteFile) != "" {
		return nil
	}
	appends := f.flags&unix.O_APPEND != 0 && f.flags&unix.O_ACCMODE == unix.O_WRONLY
	reads := f.flags&unix.O_ACCMODE == unix.O_RDONLY
	if !appends && !reads {
		return unix.EXDEV
	}
	own, err := unix.Open("/proc/self/fd/"+strconv.Itoa(named), f.flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(own)
	if reads {
		offset, err := unix.Seek(f.fd, 0, unix.SEEK_CUR)
		if err == nil {
			_, err = unix.Seek(own, offset, unix.SEEK_SET)
		}
		if err != nil {
			return err
		}
	}
	return replaceDescriptor(own, f.fd)
}
