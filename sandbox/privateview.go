package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/abspath"
	"github.com/memjail/memjail/sandbox/landlock"
	"github.com/memjail/memjail/sandbox/program"
	"github.com/memjail/memjail/sandbox/view"
	"golang.org/x/sys/unix"
)

// privateView moves this process into a view of its own (package view), if the policy has one.
// It never is without the Landlock domain: a process outside shows its own root directory.
func (o *Options) privateView(v *fileSystem, c *command, s system, e *effort) error {
	needed, must := o.Policy.OwnMounts()
	if p := &o.Policy.Paths; p.View == policy.ViewPrivate && !p.Rules.Restricted() && len(p.Deny) == 0 {
		e.Warn(`paths.view = "private" hides nothing, because there are no path rules (--ro, --rw, ...)`)
	}
	if !needed {
		return view.DropGained() // somebody executed memjail by the name that asks for namespaces
	}
	what := o.viewKey()
	switch {
	case s.abi == 0:
		return o.withoutView(e, true, errors.New("it is no boundary without the landlock domain"))
	case !v.mounts.HasRoot():
		return o.withoutView(e, must,
			fmt.Errorf("the root directory is not a mount (a chroot into a plain directory): %w",
				unix.EINVAL))
	case !view.Able() && !view.Tried():
		return o.withoutView(e, must, errors.New("it needs CAP_SYS_ADMIN and CAP_SYS_CHROOT here"))
	}
	whole, err := view.Unshare()
	if err != nil {
		return o.withoutView(e, must, err)
	}
	o.dropDenied(e)
	plan, err := o.planView(c, e)
	if err == nil {
		v.covered, err = o.coverDenied(plan, v.mounts, e)
	}
	if err == nil && o.Policy.Network.OwnUnix() && s.abi < landlock.UnixABI {
		v.covered = append(v.covered, o.coverSockets(plan, v.mounts)...)
	}
	var denied *landlock.DenyError
	if errors.As(err, &denied) {
		return o.placeRule(err)
	}
	if err == nil {
		err = plan.Build()
	}
	if err == nil {
		err = view.DropGained()
	}
	if err != nil {
		return &UnenforceableError{What: what, Err: err}
	}
	if err := o.inView(c); err != nil && !o.Unstarted {
		return err
	}
	v.private = plan
	if !whole {
		if err := v.holdMountNamespace(); err != nil {
			return err
		}
	}
	v.mounts, err = landlock.ReadMountTable()
	return err
}

// viewKey is the key of the policy that needs a view, for messages.
func (o *Options) viewKey() string {
	p := &o.Policy
	switch {
	case p.Home.Private:
		return "a private home directory (home.private)"
	case p.Paths.Tmp == policy.TmpPrivate:
		return "a private /tmp (paths.tmp)"
	}
	return "a private view of the file system (paths.view)"
}

// withoutView does what the policy says where no view can be made. Nothing of it has been made
// yet.
func (o *Options) withoutView(e *effort, must bool, err error) error {
	if err := view.DropGained(); err != nil {
		return err
	}
	if must {
		return e.DropOrFail(o.viewKey(), err)
	}
	e.Warn(fmt.Sprintf(`no private view (paths.view = "auto"): %v; what is not granted can be seen, but not opened`, err))
	return nil
}

// planView turns the policy into the plan of the view, and adds the rules for the directories
// of its own.
func (o *Options) planView(c *command, e *effort) (*view.Plan, error) {
	p := &o.Policy
	r := view.Request{Rules: p.Paths.Rules.List(), Tmp: o.ownTmp(),
		Whole: !p.Paths.Rules.Restricted() || p.Paths.View == policy.ViewShared, Also: p.Network.UnixPaths()}
	for _, d := range p.Devices {
		r.Also = append(r.Also, d.Path)
	}
	if socket := program.Getenv(c.env, "NOTIFY_SOCKET"); filepath.IsAbs(socket) {
		r.Also = append(r.Also, socket) // where a service tells its manager that it is ready
	}
	own := slices.Clone(r.Tmp)
	if p.Home.Private {
		home, err := o.home(c.env)
		if err != nil {
			return nil, err
		}
		r.Home = home
		own = append(own, home.Places...)
	}
	if !p.Paths.Rules.Restricted() {
		if err := keepUsual(&r, own); err != nil {
			return nil, err
		}
	}
	plan, err := view.NewPlan(r)
	var failed *view.PathError
	if errors.As(err, &failed) {
		return nil, o.placeRule(&landlock.RuleError{Path: failed.Path, Reason: failed.Reason, Err: failed.Err})
	}
	if err != nil {
		return nil, err
	}
	if wd, err := unix.Getwd(); err == nil && plan.Ephemeral(wd) {
		e.Warn(fmt.Sprintf("the working directory, %s, is an empty directory of the sandbox's own: nothing of the "+
			"real one exists in it, and what is written there is gone at the end; start memjail in the project "+
			"directory", wd))
	}
	if p.Paths.Rules.Restricted() {
		o.grantOwn(own, !r.Whole)
	}
	return plan, nil
}

// ownTmp lists the private directories for temporary files, but for those that this system has not.
func (o *Options) ownTmp() []string {
	return slices.DeleteFunc(o.Policy.OwnTmp(), func(dir string) bool {
		st, err := os.Stat(dir)
		return dir != "/tmp" && (err != nil || !st.IsDir())
	})
}

// grantOwn lets directories of the view's own be written, unless rules say more. list: the
// directories that lead to what is granted have nothing else, so they may be listed.
func (o *Options) grantOwn(dirs []string, list bool) {
	rules := o.Policy.Paths.Rules.List()
	if list {
		rules = append(rules, policy.Grant(policy.MayList, "/")...)
	}
	for _, dir := range dirs {
		named := func(r policy.Rule) bool { return r.Path == dir && r.Rights&policy.MayWrite != 0 }
		if !slices.ContainsFunc(rules, named) {
			rules = append(rules, policy.Grant(policy.MayRead|policy.MayWrite, dir)...)
		}
	}
	o.Policy = o.Policy.Clone()
	o.Policy.Paths.Rules = policy.OnlyThese(rules...)
}

// home is the private home directory of the policy.
func (o *Options) home(env []string) (*view.Home, error) {
	h := &view.Home{Dir: o.Policy.Home.Dir}
	for _, dir := range []string{program.Getenv(env, "HOME"), homeOfUser(unix.Getuid())} {
		dir = filepath.Clean(dir)
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			continue // passwd names one that was never made for many a service's user
		}
		if filepath.IsAbs(dir) && !slices.Contains(h.Places, dir) {
			h.Places = append(h.Places, dir)
		}
	}
	if len(h.Places) == 0 {
		return nil, errors.New("HOME is not set, or names no directory: set it to one that exists")
	}
	return h, nil
}

// keepUsual has what is private show, where there are no path rules to say it, the project around
// the working directory, and in a home directory the tool chains.
func keepUsual(r *view.Request, own []string) error {
	wd, err := unix.Getwd()
	if err != nil {
		return fmt.Errorf("looking for the working directory: %w", err)
	}
	for _, dir := range own {
		if canonical, err := filepath.EvalSymlinks(dir); err == nil {
			dir = canonical
		}
		if abspath.Within(dir, wd) && wd != dir {
			r.Keep = append(r.Keep, project(dir, wd))
		}
	}
	if r.Home == nil {
		return nil
	}
	for _, home := range r.Home.Places {
		for _, dir := range toolChains {
			r.Home.Read = append(r.Home.Read, abspath.Join(home, dir))
		}
	}
	return nil
}

// toolChains are directories below a home directory that have programs and libraries and no
// keys. ~/.cargo, for one, also has the token for its registry, ~/.local/share/uv credentials.
var toolChains = []string{
	".local/bin", ".local/lib", ".local/share/uv/python", ".local/share/uv/tools", ".cargo/bin", ".rustup", ".nvm",
	".volta", ".fnm", ".bun/bin", ".deno/bin", ".pyenv", ".rbenv", ".rvm", ".sdkman/candidates", ".asdf", "go/bin",
	"sdk",
}

// project is the directory around dir, below home, that git takes for the project; dir itself
// if there is none. Tools that look for it upwards stop at the border of a mount.
func project(home, dir string) string {
	for up := dir; up != home && abspath.Within(home, up); up = abspath.Parent(up) {
		if _, err := os.Lstat(up + "/.git"); err == nil {
			return up
		}
	}
	return dir
}

// homeOfUser is the home directory that /etc/passwd has for a user; empty: it has none. Some
// programs (ssh, Java) ask for that instead of HOME.
func homeOfUser(uid int) string {
	text, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) >= 6 && fields[2] == strconv.Itoa(uid) {
			return fields[5]
		}
	}
	return ""
}

// inView checks that the program exists in the view. A name without a slash is looked for
// again in PATH: what it led to outside may not be granted, and a program further on may.
func (o *Options) inView(c *command) error {
	err := program.Executable(c.path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOENT) {
		if path, err := program.Find(o.Args[0], c.env); err == nil {
			c.path = path
			return nil
		}
		return &CommandError{Name: o.Args[0], Err: err, Hint: fmt.Sprintf(
			"it is not in the private view: add --add-exec, or --rox %s", policy.ShellWord(c.path))}
	}
	return nil
}
