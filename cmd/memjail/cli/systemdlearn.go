package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/memjail/memjail/cmd/memjail/systemd"
	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/abspath"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/learn"
	"github.com/memjail/memjail/supervisor"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// unitLearner learns the policy of a service.
type unitLearner struct {
	unitOptions
	learnOptions
	time    time.Duration
	restart bool
	after   int // a process at whose end the drop-in is removed; 0: learn
	env     []string
	io      streams

	unit     *systemd.Unit
	place    systemd.Place // of the drop-in
	recorder *learn.Recorder

	mu     sync.Mutex
	start  *observedStart
	open   int       // connections
	closed time.Time // when the last one ended
}

func newSystemdLearn(env []string, io streams) *cobra.Command {
	l := &unitLearner{env: env, io: io}
	cmd := &cobra.Command{
		Use:   "learn UNIT [flags]",
		Short: "Observe a service for a while and write a policy for what it used",
		Long: `learn has UNIT, a service, started with memory closed and everything else as usual,
observes which files, directories, ports and sockets it uses, and writes a policy that
allows these and closes the rest, as "memjail learn" does for a program. A drop-in in
/run/systemd/system does that. It is removed at the end, also if memjail is killed; after
a reboot it is gone.

With --restart the service is restarted at the beginning and at the end. Without, learn
begins when somebody restarts it, and what started under observation goes on, with memory
closed, until the next restart. Use the service while it is observed: what it did not do,
its policy does not allow.`,
		Example: `  memjail systemd learn nginx --for 10m --restart -o nginx.toml`,
		Args:    wantArgs(1, 1),
		RunE:    func(_ *cobra.Command, args []string) error { return l.run(args[0]) },
	}
	f := cmd.Flags()
	l.unitOptions.declare(f, env)
	f.DurationVar(&l.time, "for", 10*time.Minute, "observe for `TIME`; Ctrl-C ends it earlier")
	f.BoolVar(&l.restart, "restart", false, "restart the service at the beginning and at the end")
	f.StringVarP(&l.output, "output", "o", "",
		"write the policy to `FILE`, which must not exist yet (default UNIT.toml)")
	f.StringVar(&l.merge, "merge", "", "add what the service used to the policy `FILE`, or with -o to a copy of it")
	f.StringArrayVar(&l.extends, "extends", nil,
		"write a policy that extends the policy `NAME` and lists only what that does not give")
	f.BoolVar(&l.secrets, "secrets", false, "also grant keys, tokens, start-up files and sockets of daemons that "+
		"the service used")
	f.StringVar(&l.memjail, "memjail", "", "`PATH` of memjail in the unit's view (default: this program)")
	f.IntVar(&l.after, "after", 0, "remove the drop-in when the process `PID` has ended")
	f.MarkHidden("after")
	return cmd
}

func (l *unitLearner) run(name string) error {
	if l.unitOptions.place.Root != "" || l.unitOptions.place.Runtime {
		return misusedf("learn observes a running service: --root and --runtime cannot be used")
	}
	var err error
	if l.unit, err = l.unitOptions.place.Load(name); err != nil {
		return misused(err)
	}
	l.place = l.unitOptions.place
	l.place.Learning = true
	if l.after != 0 {
		return l.removeAfter()
	}
	if !l.managerRuns() {
		return misusedf("there is no systemd here that could start %s%s", l.unit.Name, asRoot(l.place.User))
	}
	if l.merge != "" && len(l.extends) > 0 {
		return misusedf("--merge changes a policy and --extends begins one: use one of them")
	}
	if l.merge == "" && l.output == "" {
		l.output = strings.TrimSuffix(l.unit.Name, ".service") + ".toml"
	}
	base, err := l.base()
	if err != nil {
		return err
	}
	out, err := l.learnOptions.open()
	if err != nil {
		return err
	}
	if err := l.observe(); err != nil {
		return err
	}
	return l.write(out, base)
}

func asRoot(user bool) string {
	if user || os.Geteuid() == 0 {
		return ""
	}
	return " for you; services of the system need root"
}

// observe has the service observed until the time is over.
func (l *unitLearner) observe() (err error) {
	l.recorder = learn.NewRecorder()
	listener, err := l.listen()
	if err != nil {
		return misused(err)
	}
	defer listener.Close()
	defer os.Remove(l.socket()) // of a closed listener nobody can be at work
	go l.accept(listener)
	w := systemd.Wrapping{Ports: true}
	if w.Memjail, err = l.ownPath(); err != nil {
		return misused(err)
	}
	w.Groups, w.Made = l.callGroups(), "memjail systemd learn "+l.unit.Name
	if err := l.tryStart(l.unit, w, l.io); err != nil {
		return err
	}
	w.Flags = []string{"--observer", l.socket()}
	text, err := l.unit.DropIn(w)
	if err != nil {
		return misused(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	if err := l.watchSelf(w.Memjail); err != nil {
		fmt.Fprintf(l.io.err, "memjail: warning: if memjail is killed, the drop-in stays until the next boot or "+
			"\"memjail systemd remove %s\": %v\n", l.unit.Name, err)
	}
	if _, err := l.place.Write(l.unit.Name, text); err != nil {
		return misused(err)
	}
	defer func() { err = errors.Join(err, l.remove()) }()
	if err := l.apply(); err != nil {
		return err
	}
	l.wait(ctx)
	return nil
}

// apply has systemd read the drop-in, and the service start by it.
func (l *unitLearner) apply() error {
	if err := l.systemctl("daemon-reload"); err != nil {
		return err
	}
	if l.restart {
		return l.systemctl("restart", l.unit.Name)
	}
	fmt.Fprintf(l.io.err, "memjail: %s is observed from its next start on: %s\n", l.unit.Name,
		l.command("restart", l.unit.Name))
	return nil
}

// remove takes the drop-in back, and restarts the service if it was restarted before.
func (l *unitLearner) remove() error {
	if _, err := l.place.Remove(l.unit.Name); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return misused(err)
	}
	if err := l.systemctl("daemon-reload"); err != nil {
		return err
	}
	if l.restart {
		return l.systemctl("try-restart", l.unit.Name)
	}
	fmt.Fprintf(l.io.err, "memjail: the drop-in is removed; %s runs without memjail from its next start on\n",
		l.unit.Name)
	return nil
}

// watchSelf has systemd start a process that removes the drop-in if this one is killed.
func (l *unitLearner) watchSelf(memjail string) error {
	args := []string{"--quiet", "--collect", "--unit=memjail-learn-" + l.unit.Name, "--property=Type=exec"}
	if l.place.User {
		args = append(args, "--user")
	}
	args = append(args, "--", memjail, "systemd", "learn", l.unit.Name, "--after", strconv.Itoa(os.Getpid()))
	if l.restart {
		args = append(args, "--restart")
	}
	if l.place.User {
		args = append(args, "--user")
	}
	if output, err := systemdRun(args); err != nil {
		return errors.New(firstLine(output, err))
	}
	return nil
}

// removeAfter removes the drop-in when another process has ended, if that has not.
func (l *unitLearner) removeAfter() error {
	pidfd, err := kernel.OpenPIDFD(l.after)
	if err == nil {
		defer pidfd.Close()
		fds := []unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}
		for {
			if _, err := unix.Poll(fds, -1); err != unix.EINTR {
				break
			}
		}
	}
	os.Remove(l.socket())
	return l.remove()
}

// socket is where the service sends what it uses.
func (l *unitLearner) socket() string {
	dir := "/run"
	if l.place.User {
		dir = l.place.RuntimeDir
	}
	return filepath.Join(dir, "memjail-learn-"+l.unit.Name)
}

// listen makes the socket. One that nobody listens on is left from a memjail that was killed.
func (l *unitLearner) listen() (*net.UnixListener, error) {
	if c, err := net.Dial("unixpacket", l.socket()); err == nil {
		c.Close()
		return nil, fmt.Errorf("%s is being observed already", l.unit.Name)
	}
	if err := os.Remove(l.socket()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("making a socket: %w", err)
	}
	listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: l.socket(), Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("making a socket: %w", err)
	}
	// Whatever user the service has: who connects is asked for its unit.
	if err := os.Chmod(l.socket(), 0o666); err != nil {
		listener.Close()
		return nil, fmt.Errorf("making a socket: %w", err)
	}
	return listener, nil
}

func (l *unitLearner) accept(listener *net.UnixListener) {
	for {
		c, err := listener.AcceptUnix()
		if err != nil {
			return
		}
		if !l.isService(c) {
			c.Close()
			continue
		}
		l.mu.Lock()
		l.open++
		l.mu.Unlock()
		go l.receive(c)
	}
}

// isService reports whether the other end is a process of the unit. Nobody else may say
// what the policy is to allow.
func (l *unitLearner) isService(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var peer *unix.Ucred
	if raw.Control(func(fd uintptr) {
		peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}) != nil || err != nil {
		return false
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", peer.Pid))
	if err != nil {
		return false
	}
	group, err := l.show(l.unit.Name, "ControlGroup")
	if err != nil || group == "" {
		return false
	}
	for line := range strings.Lines(string(text)) {
		_, path, _ := strings.Cut(strings.TrimSpace(line), "::")
		if path == group || strings.HasPrefix(path, group+"/") {
			return true
		}
	}
	return false
}

// receive takes what one start of the service sends.
func (l *unitLearner) receive(c *net.UnixConn) {
	defer c.Close()
	packet := make([]byte, maxObserved)
	for {
		n, err := c.Read(packet)
		if err != nil || n == 0 {
			break
		}
		var m observedMessage
		if json.Unmarshal(packet[:n], &m) != nil {
			continue
		}
		l.mu.Lock()
		if m.Start != nil && l.start == nil {
			l.start = m.Start
		}
		l.mu.Unlock()
		if m.Use != nil {
			l.recorder.Observe(*m.Use)
		}
	}
	l.mu.Lock()
	l.open--
	l.closed = time.Now()
	l.mu.Unlock()
}

// wait waits until the time is over, or the service has ended for good.
func (l *unitLearner) wait(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, l.time)
	defer cancel()
	const pause = time.Second
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		l.mu.Lock()
		idle := l.start != nil && l.open == 0 && time.Since(l.closed) > pause
		l.mu.Unlock()
		if !idle {
			continue
		}
		if state, err := l.show(l.unit.Name, "ActiveState"); err == nil && (state == "inactive" || state == "failed") {
			return
		}
	}
}

// write writes the policy and says how to use it.
func (l *unitLearner) write(out *policyOutput, base *learn.Base) error {
	l.mu.Lock()
	start := l.start
	l.mu.Unlock()
	if start == nil {
		return misusedf("%s was not started while it was to be observed, so nothing was learned "+
			"(--restart restarts it)", l.unit.Name)
	}
	if l.unit.Notifies() {
		l.recorder.Observe(supervisor.Observation{Comm: l.unit.Name, Access: supervisor.AccessConnect,
			Family: unix.AF_UNIX, Path: "/run/systemd/notify"})
	}
	home := start.Home
	if !abspath.Within("/home", home) && !abspath.Within("/root", home) {
		home = "/root" // that of a service is where it keeps its data, as any other directory
	}
	p := l.recorder.Propose(learn.Options{Places: learn.Places{Home: home, Dir: start.Dir, Absolute: true},
		Secrets: l.secrets, ABI: start.ABI, Base: base, Service: true})
	var err error
	if p.Variables, err = l.unitVariables(start); err != nil {
		return err
	}
	command := []string{"memjail", "systemd", "learn", l.unit.Name}
	if err := l.save(out, &p, command); err != nil {
		return err
	}
	(&learner{options: &learnOptions{merge: l.merge}, io: l.io}).summary(&p, command)
	l.next()
	return nil
}

func (l *unitLearner) unitVariables(start *observedStart) (learn.Variables, error) {
	env := make([]string, len(start.Variables))
	for i, name := range start.Variables {
		env[i] = name + "="
	}
	secrets, err := secretPatterns()
	return l.variables(l.recorder, env, nil, secrets), err
}

// next prints the commands by which the service gets the policy.
func (l *unitLearner) next() {
	name := strings.TrimSuffix(l.unit.Name, ".service")
	place, user := "/etc/memjail/"+name+".toml", ""
	if l.place.User {
		place, user = filepath.Join(l.place.Config, "memjail", name+".toml"), "--user "
	}
	fmt.Fprintf(l.io.err, "memjail: next: install -D -m 644 %s %s && memjail systemd drop-in %s%s -p %s && %s && %s\n",
		policy.ShellWord(l.target()), policy.ShellWord(place), user, l.unit.Name, policy.ShellWord(place),
		l.command("daemon-reload"), l.command("restart", l.unit.Name))
}
