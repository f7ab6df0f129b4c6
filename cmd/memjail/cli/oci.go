package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/memjail/memjail/cmd/memjail/oci"
	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/file"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/program"
	"github.com/memjail/memjail/sandbox/report"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func newOCI(env []string, _ streams) *cobra.Command {
	return &cobra.Command{
		Use:   "oci [--runtime RUNTIME] [--policy POLICY] [--config FILE] RUNTIME-ARGS...",
		Short: "Be an OCI runtime (runc, crun) whose containers run under memjail",
		Long: `oci takes the command line of an OCI runtime, puts memjail in front of what the
container executes, and becomes that runtime. A container engine starts it as
"memjail-oci", a link to memjail; docs/containers.md has the configuration of
Docker, Podman, containerd and Kubernetes.

"create" and "run" change the bundle's config.json: memjail is bound into the container,
read-only, and "memjail exec" precedes the command. "exec" does the same for the process.
Everything else is passed on as it is. If a container cannot be restricted, it is not
created.

  --runtime RUNTIME  the OCI runtime (default: runc, or else crun)
  --policy POLICY    a built-in policy, or the absolute path of a file (default: memory)
  --config FILE      settings (default: ` + oci.SettingsFile + `, if it is there)

A container may choose another policy by the annotation ` + oci.AnnotationPolicy + `, and
` + oci.AnnotationMemory + `, among those that the settings list.`,
		Example: `  memjail oci --runtime crun run --bundle DIR NAME
  docker run --runtime memjail IMAGE`,
		DisableFlagParsing: true, DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || args[0] == "--help" || args[0] == "-h" {
				return cmd.Help()
			}
			return runOCI(args, env)
		},
	}
}

// ociMain is the program under the name memjail-oci.
func ociMain(args, env []string, io streams) int { return reportError(runOCI(args, env), io.err) }

// runOCI rewrites what the call needs and becomes the runtime. What goes wrong is also
// written to the runtime's log, from which engines take their messages.
func runOCI(args, env []string) error {
	call, err := oci.ParseCall(args)
	if err == nil {
		err = (&ociWrapper{call: call, env: env}).run()
	}
	if err != nil && call.LogFile != "" {
		err = errors.Join(err, logOCI(call, err))
	}
	return err
}

// ociWrapper carries a call of a runtime out.
type ociWrapper struct {
	call     oci.Call
	env      []string
	settings oci.Settings
	runtime  string
}

func (w *ociWrapper) run() error {
	if err := w.configure(); err != nil {
		return err
	}
	call := w.call
	var err error
	switch call.Verb {
	case "create", "run":
		err = w.create()
	case "exec":
		call, err = w.exec()
	}
	if err != nil {
		return err
	}
	err = unix.Exec(w.runtime, append([]string{w.runtime}, call.Passed()...), w.env)
	return fmt.Errorf("executing the runtime %s: %w", w.runtime, err)
}

// configure reads the settings and finds the runtime.
func (w *ociWrapper) configure() error {
	name := w.call.Config
	if name == "" {
		name = oci.SettingsFile
	}
	w.settings = oci.DefaultSettings()
	data, err := os.ReadFile(name)
	switch {
	case err == nil:
		if w.settings, err = oci.ParseSettings(name, data); err != nil {
			return err
		}
	case w.call.Config != "" || !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("reading the settings: %w", err)
	}
	if w.call.Policy != "" {
		if err := oci.CheckPolicyName(w.call.Policy); err != nil {
			return fmt.Errorf("--policy: %w", err)
		}
		w.settings.Policy = w.call.Policy
	}
	runtimes := oci.DefaultRuntimes
	if w.call.Runtime != "" {
		runtimes = []string{w.call.Runtime}
	} else if w.settings.Runtime != "" {
		runtimes = []string{w.settings.Runtime}
	}
	return w.find(runtimes)
}

// find looks for the first runtime that is installed.
func (w *ociWrapper) find(runtimes []string) error {
	for _, name := range runtimes {
		if w.runtime = lookRuntime(name); w.runtime == "" {
			continue
		}
		own, err := os.Stat("/proc/self/exe")
		other, otherErr := os.Stat(w.runtime)
		if err == nil && otherErr == nil && os.SameFile(own, other) {
			return fmt.Errorf("the runtime %s is memjail itself", w.runtime)
		}
		return nil
	}
	return fmt.Errorf("no OCI runtime: %s is not installed; name one by --runtime or in %s",
		strings.Join(runtimes, " or "), oci.SettingsFile)
}

// lookRuntime returns the absolute path of a runtime, or "". Engines do not always set PATH.
func lookRuntime(name string) string {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		if err != nil && !strings.Contains(name, "/") {
			path, err = exec.LookPath(filepath.Join(dir, name))
		}
	}
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return ""
	}
	return path
}

// create rewrites the configuration of the bundle.
func (w *ociWrapper) create() error {
	created, ok, err := w.call.Create()
	if err != nil || !ok {
		return err
	}
	name := oci.ConfigFile(created.Bundle)
	err = rewriteJSON(name, func(data []byte) ([]byte, error) {
		spec, err := oci.ReadSpec(data)
		if err != nil {
			return nil, err
		}
		if err := spec.Check(); err != nil {
			return nil, err
		}
		prefix, binds, err := w.choose(spec)
		if err != nil {
			return nil, err
		}
		prefix.KeepFDs = w.passedFDs(created.KeepFDs)
		return spec.Wrap(prefix, binds)
	})
	if err != nil {
		return fmt.Errorf("the container cannot run under memjail: %w", err)
	}
	return nil
}

// choose returns the policy of a container and the files that it needs there. The policy is
// read as it will be in the container: a mistake in it is found before that exists.
func (w *ociWrapper) choose(spec *oci.Spec) (oci.Prefix, []oci.Bind, error) {
	prefix := oci.Prefix{}
	name, memory, err := w.settings.Choose(spec.Annotations())
	if err != nil {
		return prefix, nil, err
	}
	own, err := w.program()
	if err != nil {
		return prefix, nil, err
	}
	binds := []oci.Bind{{Source: own, Destination: oci.ProgramPath}}
	prefix.Policy, prefix.Memory = name, memory
	if file.IsName(name) {
		system := file.Loader{Directories: []string{file.SystemPolicies}}
		if name, err = system.Find(name); err != nil {
			return prefix, nil, err
		}
	}
	if name != "" { // not a built-in policy
		prefix.Policy = oci.PolicyPath(name)
	}
	env := spec.Process().Env()
	if program.Getenv(env, "HOME") == "" {
		env = append(slices.Clip(env), "HOME=/") // the runtime sets it
	}
	// What the image has in directories of policies means nothing.
	loader := file.Loader{Env: env, Dir: spec.Process().Dir(), Directories: []string{}, Untested: true}
	loader.ReadFile = func(path string) ([]byte, error) {
		source, ok := oci.HostPath(path)
		if !ok || filepath.Clean(path) != path {
			return nil, errors.New("a container cannot have it: name it by a path that is relative to the policy's " +
				"directory, without \"..\"")
		}
		data, err := os.ReadFile(source)
		if bind := (oci.Bind{Source: source, Destination: path}); err == nil && !slices.Contains(binds, bind) {
			binds = append(binds, bind)
		}
		return data, err
	}
	pol, err := loader.Load(prefix.Policy)
	prefix.Silent = pol.Report.Denials == policy.DenialsAuto
	if err == nil && memory != "" {
		_, err = loader.Apply(pol, file.Overrides{Memory: memory})
	}
	return prefix, binds, err
}

// program is the memjail that containers get.
func (w *ociWrapper) program() (string, error) {
	if w.settings.Program != "" {
		return w.settings.Program, nil
	}
	if kernel.DynamicallyLinked() {
		return "", errDynamic
	}
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding this program: %w", err)
	}
	return path, nil
}

// passedFDs are the descriptors that --preserve-fds passes to a container, which come
// behind the sockets of a service manager.
func (w *ociWrapper) passedFDs(count int) []int {
	sockets, err := strconv.Atoi(program.Getenv(w.env, "LISTEN_FDS"))
	if err != nil {
		sockets = 0
	}
	var fds []int
	for i := range count {
		fds = append(fds, 3+sockets+i)
	}
	return fds
}

// exec rewrites the process, with the policy that the container was created with.
func (w *ociWrapper) exec() (oci.Call, error) {
	e, ok, err := w.call.Exec()
	if err != nil || !ok {
		return w.call, err
	}
	prefix, err := w.prefixOf(e.Container)
	if err != nil {
		return w.call, fmt.Errorf("exec in the container %s: %w", e.Container, err)
	}
	prefix.KeepFDs = w.passedFDs(e.KeepFDs)
	for _, name := range e.Files {
		err := rewriteJSON(name, func(data []byte) ([]byte, error) {
			process, err := oci.ReadProcess(data)
			if err != nil {
				return nil, err
			}
			return process.Wrap(prefix)
		})
		if err != nil {
			return w.call, fmt.Errorf("exec --process %s: %w", name, err)
		}
	}
	return e.Wrapped(prefix), nil
}

// prefixOf asks the runtime for a container's bundle, whose configuration has the prefix.
func (w *ociWrapper) prefixOf(container string) (oci.Prefix, error) {
	cmd := exec.Command(w.runtime, w.call.State(container)...)
	cmd.Env = w.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return oci.Prefix{}, fmt.Errorf("%s state: %w: %s", filepath.Base(w.runtime), err, lastLineOf(stderr.String()))
	}
	var state struct {
		Bundle string `json:"bundle"`
	}
	if err := json.Unmarshal(stdout.Bytes(), &state); err != nil || state.Bundle == "" {
		return oci.Prefix{}, errors.New("the state that the runtime reports has no bundle")
	}
	data, err := os.ReadFile(oci.ConfigFile(state.Bundle))
	if err != nil {
		return oci.Prefix{}, err
	}
	spec, err := oci.ReadSpec(data)
	if err != nil {
		return oci.Prefix{}, err
	}
	prefix, ok := spec.Wrapped()
	if !ok {
		return prefix, errors.New("it was created without memjail, and a process in it would not be restricted: " +
			"create it again")
	}
	return prefix, nil
}

// lastLineOf returns the last line of a program's messages.
func lastLineOf(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// rewriteJSON replaces a file by what a function makes of it, completely or not at all. A
// symbolic link is replaced, not what it leads to: others may use that.
func rewriteJSON(name string, change func([]byte) ([]byte, error)) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", name)
	}
	if data, err = change(data); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".memjail-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(info.Mode().Perm()), keepOwner(f, info), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name()) // of no use to anybody
	}
	return err
}

// keepOwner gives a file the owner of another one.
func keepOwner(f *os.File, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) == os.Geteuid() && int(stat.Gid) == os.Getegid() {
		return nil
	}
	return f.Chown(int(stat.Uid), int(stat.Gid))
}

// logOCI appends an error to the runtime's log, in the runtime's format.
func logOCI(call oci.Call, cause error) error {
	message := "memjail: " + report.Printable(cause.Error())
	now := time.Now().Format(time.RFC3339)
	line := fmt.Sprintf("time=%q level=error msg=%q\n", now, message)
	if call.LogJSON {
		text, err := json.Marshal(struct {
			Level string `json:"level"`
			Msg   string `json:"msg"`
			Time  string `json:"time"`
		}{"error", message, now})
		if err != nil {
			return err
		}
		line = string(text) + "\n"
	}
	f, err := os.OpenFile(call.LogFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("--log: %w", err)
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}
