package session

import (
	"os"
	"strconv"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/supervisor/decide"
	"golang.org/x/sys/unix"
)

// ProcfsFile returns what the supervisor's table grants of a file at most. "Own" is this
// process, which stands for the calling one.
func ProcfsFile(below string) *policy.ProcfsFile {
	o := decide.Object{Class: decide.System, Name: below}
	first, rest, _ := strings.Cut(below, "/")
	if pid, err := strconv.Atoi(first); err == nil {
		o = decide.Object{Class: decide.Process, Name: rest, PID: pid, Own: pid == os.Getpid()}
		if task, ok := strings.CutPrefix(rest, "task/"); ok {
			thread, name, _ := strings.Cut(task, "/")
			o.Task, _ = strconv.Atoi(thread)
			o.Name = name
		}
	}
	most := policy.Policy{Procfs: policy.Procfs{
		Processes: policy.ProcessesSandbox, Write: []policy.ProcfsWrite{policy.WriteComm, policy.WriteOOMScoreAdj},
	}}
	f := &policy.ProcfsFile{System: o.Class == decide.System, Own: o.Own}
	asked := o
	asked.Member = true
	if v, ok := decide.Open(decide.Request{Flags: unix.O_RDONLY}, asked, &most).(decide.Inject); ok {
		f.Readable, f.Gated = true, v.Grant.Gate == decide.GatePtrace
	}
	if v, ok := decide.Open(decide.Request{Flags: unix.O_WRONLY}, asked, &most).(decide.Inject); ok {
		f.Writable, f.Write = true, v.Grant.Write
	}
	return f
}
