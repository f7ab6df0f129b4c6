package cli

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/report"
	"github.com/memjail/memjail/sandbox/session"
	"github.com/spf13/cobra"
)

// explainOptions are the flags of policy explain.
type explainOptions struct {
	policyFlags
	read, write, exec, call []string
	connect, bind           []uint
	send, receive           []uint
	program                 string
	asJSON                  bool
}

func newPolicyExplain(io streams) *cobra.Command {
	o := &explainOptions{}
	cmd := &cobra.Command{
		Use:   "explain [NAME|FILE] QUESTION... [flags]",
		Short: "Explain whether a policy allows something, why, and what would change that",
		Long: `explain answers questions: allowed or refused, by which layer and which rule, and
the smallest change that would reverse the answer. The answers are about the sandbox:
file permissions are checked after it, as outside. Several questions are answered in
the order of the flags below.`,
		Example: `  memjail policy explain workspace --write ~/.ssh/id_ed25519
  memjail policy explain --call ptrace
  memjail policy explain ./my.toml --connect 443
  memjail policy explain --allow pin=true --program /srv/app/server --write /srv/app/new`,
		Args: wantArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args, io) },
	}
	f := cmd.Flags()
	o.policyFlags.declare(f)
	f.StringArrayVar(&o.read, "read", nil, "may `PATH` be read?")
	f.StringArrayVar(&o.write, "write", nil, "may `PATH` be written, or created?")
	f.StringArrayVar(&o.exec, "exec", nil, "may `PATH` be executed?")
	f.StringArrayVar(&o.call, "call", nil, "may the system call `NAME` be made?")
	f.UintSliceVar(&o.connect, "connect", nil, "may a TCP connection to `PORT` be made?")
	f.UintSliceVar(&o.bind, "bind", nil, "may a TCP socket bind `PORT`?")
	f.UintSliceVar(&o.send, "send", nil, "may a UDP datagram be sent to `PORT`?")
	f.UintSliceVar(&o.receive, "receive", nil, "may a UDP socket bind `PORT`?")
	f.StringVar(&o.program, "program", "", "answer for `CMD` as the program that memory.pin pins")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	return cmd
}

func (o *explainOptions) run(cmd *cobra.Command, args []string, io streams) error {
	requests, err := o.requests()
	if err != nil {
		return err
	}
	pol, err := o.policyFlags.named(cmd, args)
	if err != nil {
		return err
	}
	if o.program != "" && !pol.Memory.Pin {
		return misusedf("--program: the policy does not pin a program; add --allow pin=true")
	}
	answers, err := explainAll(pol, requests, o.program)
	if err != nil {
		return err
	}
	if o.asJSON {
		return printJSON(io, answers)
	}
	for _, a := range answers {
		if err := printAnswer(io.out, a); err != nil {
			return err
		}
	}
	return nil
}

// requests returns the questions that the flags ask.
func (o *explainOptions) requests() ([]policy.Request, error) {
	var asked []policy.Request
	for _, q := range []struct {
		action policy.Action
		paths  []string
	}{{policy.ActionRead, o.read}, {policy.ActionWrite, o.write}, {policy.ActionExecute, o.exec}} {
		for _, p := range q.paths {
			absolute, err := filepath.Abs(p)
			if err != nil || p == "" {
				return nil, misusedf("explaining the path %q: not a path", p)
			}
			asked = append(asked, policy.Request{Action: q.action, Path: absolute})
		}
	}
	for _, call := range o.call {
		asked = append(asked, policy.Request{Action: policy.ActionCall, Call: call})
	}
	for _, q := range []struct {
		action policy.Action
		ports  []uint
	}{{policy.ActionConnect, o.connect}, {policy.ActionBind, o.bind}, {policy.ActionSend, o.send},
		{policy.ActionReceive, o.receive}} {
		for _, port := range q.ports {
			if port > math.MaxUint16 {
				return nil, misusedf("explaining the port %d: ports end at 65535", port)
			}
			asked = append(asked, policy.Request{Action: q.action, Port: uint16(port)})
		}
	}
	if len(asked) == 0 {
		return nil, misusedf("explain needs a question: --read, --write, --exec, --call, --connect, " +
			"--bind, --send or --receive")
	}
	return asked, nil
}

// explainAll answers questions about a policy and the program that it pins, "" if that is
// not known.
func explainAll(pol policy.Policy, requests []policy.Request, program string) ([]policy.Answer, error) {
	plan, err := prepare(pol)
	if err != nil {
		return nil, err
	}
	defer plan.Close()
	facts, err := plan.Facts(session.ProcfsFile)
	if err != nil {
		return nil, misused(err)
	}
	if program != "" {
		if err := facts.Pin(pol, program, os.Environ()); err != nil {
			return nil, misused(err)
		}
	}
	var answers []policy.Answer
	for _, r := range requests {
		answer, err := policy.Explain(pol, r, facts)
		if err != nil {
			return nil, misused(err)
		}
		answers = append(answers, answer)
	}
	return answers, nil
}

func printAnswer(w io.Writer, a policy.Answer) error {
	var b strings.Builder
	object := a.Request.Path + a.Request.Call
	switch a.Request.Action {
	case policy.ActionConnect, policy.ActionBind, policy.ActionSend, policy.ActionReceive:
		object = strconv.Itoa(int(a.Request.Port))
	}
	verdict := "refused"
	if a.Allowed {
		verdict = "allowed"
	}
	fmt.Fprintf(&b, "%s: %s %s\n", verdict, a.Request.Action, report.Printable(object))
	if a.Layer != policy.LayerNone {
		fmt.Fprintf(&b, "  layer   %s\n", strings.TrimSpace(string(a.Layer)+" "+a.Errno))
	}
	if a.Key != "" {
		fmt.Fprintf(&b, "  rule    %s\n", report.Printable(strings.TrimSpace(a.Key+" "+a.Value)+" ("+
			a.Origin.String()+")"))
	}
	fmt.Fprintf(&b, "  why     %s\n", report.Printable(a.Why))
	if a.Remedy.None() {
		b.WriteString("  change  no change of the policy reverses this\n")
	} else {
		fmt.Fprintf(&b, "  change  %s\n", report.Printable(a.Remedy.String()))
	}
	if a.Remedy.Careful != "" {
		fmt.Fprintf(&b, "  careful %s\n", report.Printable(a.Remedy.Careful))
	}
	for _, note := range a.Notes {
		fmt.Fprintf(&b, "  note    %s\n", report.Printable(note))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
