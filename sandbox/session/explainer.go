package session

import (
	"path"
	"slices"
	"sync"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/abspath"
	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/facts"
	"github.com/memjail/memjail/sandbox/landlock"
	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

// explainer describes to the supervisor what the kernel's rules refuse, and what would
// allow it. An object that is allowed, by far the usual case, costs a few look-ups.
type explainer struct {
	policy policy.Policy
	look   func() (*facts.Facts, error)
	rules  func() facts.RuleSum // made for the first call that may have been refused
	denied []landlock.DeniedPlace

	mu    sync.Mutex
	facts *facts.Facts // made when the first refusal is explained
	known map[policy.Request]explained
}

type explained struct {
	refusal supervisor.Refusal
	refused bool
}

// maxExplained bounds what is remembered: the sandbox chooses how much there is.
const maxExplained = 1024

// newExplainer returns nil where there are no rules.
func newExplainer(pol policy.Policy, plan *sandbox.Plan) supervisor.Explainer {
	if plan.Rules == nil {
		return nil
	}
	rules := func() []facts.Rule { return facts.RulesOf(plan.Rules) }
	return explainerOf(pol, rules, plan.Rules.Denied, func() (*facts.Facts, error) { return plan.Facts(ProcfsFile) })
}

// snapshotExplainer returns the explainer of a supervisor that has no plan.
func snapshotExplainer(pol policy.Policy, snapshot *facts.Snapshot) supervisor.Explainer {
	if snapshot == nil {
		return nil
	}
	rules := func() []facts.Rule { return snapshot.Rules }
	return explainerOf(pol, rules, snapshot.Denied,
		func() (*facts.Facts, error) { return snapshot.Facts(ProcfsFile), nil })
}

func explainerOf(pol policy.Policy, rules func() []facts.Rule, denied []landlock.DeniedPlace,
	look func() (*facts.Facts, error)) *explainer {
	sum := sync.OnceValue(func() facts.RuleSum { return facts.NewRuleSum(rules()) })
	return &explainer{policy: pol, look: look, rules: sum, denied: denied, known: map[policy.Request]explained{}}
}

var actions = map[supervisor.Access]policy.Action{
	supervisor.AccessRead: policy.ActionRead, supervisor.AccessList: policy.ActionRead,
	supervisor.AccessWrite: policy.ActionWrite, supervisor.AccessExecute: policy.ActionExecute,
	supervisor.AccessMake: policy.ActionWrite, supervisor.AccessRemove: policy.ActionWrite,
	supervisor.AccessConnect: policy.ActionConnect, supervisor.AccessBind: policy.ActionBind,
	supervisor.AccessSend: policy.ActionSend, supervisor.AccessReceive: policy.ActionReceive,
}

func (e *explainer) Path(name string, access supervisor.Access, missing bool) (supervisor.Refusal, bool) {
	if access == supervisor.AccessExecute {
		return e.program(name)
	}
	name, need := needed(name, access, missing)
	write := access != supervisor.AccessList && access != supervisor.AccessRead
	if e.rules().Gives(name, need) && !e.covered(name) && !(write && e.readOnly(name)) {
		return supervisor.Refusal{}, false
	}
	return e.explain(policy.Request{Action: actions[access], Path: name})
}

// Granted is about the rules alone, and not about what a view puts in the place of a path.
func (e *explainer) Granted(name string, access supervisor.Access) bool {
	if access == supervisor.AccessExecute {
		return e.rules().Gives(name, landlock.Execute)
	}
	name, need := needed(name, access, false)
	return e.rules().Gives(name, need)
}

// needed is the right that an access needs, and the path that has to have it.
func needed(name string, access supervisor.Access, missing bool) (on string, need landlock.Rights) {
	switch {
	case access == supervisor.AccessList:
		return name, landlock.ReadDir
	case access == supervisor.AccessRead:
		return name, landlock.ReadFile
	case missing, access == supervisor.AccessMake:
		return name, landlock.MakeReg
	case access == supervisor.AccessRemove: // the directory decides
		return path.Dir(name), landlock.RemoveFile
	}
	return name, landlock.WriteFile
}

// covered reports whether paths.deny closes a path. A cover lies in a tree that a rule grants.
func (e *explainer) covered(name string) bool {
	return slices.ContainsFunc(e.denied, func(d landlock.DeniedPlace) bool { return abspath.Within(d.Path, name) })
}

// readOnly reports whether a private view shows a path read-only. In a directory of the
// sandbox's own that lies in a tree that a rule lets be written.
func (e *explainer) readOnly(name string) bool {
	_, must := e.policy.OwnMounts()
	return must && facts.ReadOnly(name)
}

// program: the kernel opens the interpreter of a script, and the loader of a program,
// by the same rules.
func (e *explainer) program(name string) (supervisor.Refusal, bool) {
	file, interpreter, refused := e.rules().NotExecutable(name)
	if !refused && e.covered(name) {
		file, refused = name, true
	}
	if !refused || !e.policy.Paths.Rules.Restricted() {
		return supervisor.Refusal{}, false
	}
	refusal, refused := e.explain(policy.Request{Action: policy.ActionExecute, Path: file})
	if interpreter != "" {
		refusal.Reason = "it is run by " + interpreter + ": " + refusal.Reason
	}
	return refusal, refused
}

// Move: the rules compare what may be done with a file under its names.
func (e *explainer) Move(from, to string, directory bool) (supervisor.Refusal, bool) {
	if !e.rules().NotMovable(from, to, directory) {
		return supervisor.Refusal{}, false
	}
	r := supervisor.Refusal{Reason: "the file could be used in more ways there, or its directory has no rule for that"}
	var rights policy.Rights
	for _, rule := range e.policy.Paths.Rules.List() {
		if abspath.Within(rule.Path, to) {
			rights |= rule.Rights
		}
	}
	if rights&policy.MayRead != 0 {
		r.Remedy = remedyOf(policy.AddRule(rights&^policy.MayList, path.Dir(from)))
		r.Remedy.Note = "or copy the file"
	}
	return r, true
}

func (e *explainer) Port(port uint16, access supervisor.Access) (supervisor.Refusal, bool) {
	n := e.policy.Network
	switch {
	case access == supervisor.AccessConnect && n.ConnectTCP.Allows(port),
		access == supervisor.AccessBind && n.BindTCP.Allows(port),
		access == supervisor.AccessReceive && n.BindUDP.Allows(port),
		// A socket that is not bound needs a port, too. It is not examined whether this one
		// is bound.
		access == supervisor.AccessSend && n.ConnectUDP.Allows(port):
		return supervisor.Refusal{}, false
	}
	return e.explain(policy.Request{Action: actions[access], Port: port})
}

// explain asks the policy for the reason. Where the policy allows it, nothing is reported.
func (e *explainer) explain(request policy.Request) (supervisor.Refusal, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if known, ok := e.known[request]; ok {
		return known.refusal, known.refused
	}
	if e.facts == nil {
		facts, err := e.look()
		if err != nil {
			return supervisor.Refusal{}, false
		}
		e.facts = facts
	}
	answer, err := policy.Explain(e.policy, request, e.facts)
	// What a private view does not show is refused by nobody.
	found := explained{refused: err == nil && !answer.Allowed && answer.Errno != "ENOENT"}
	if found.refused {
		found.refusal = supervisor.Refusal{Errno: unix.EACCES, Reason: answer.Why, Rule: answer.Key,
			Remedy: answer.Remedy}
		if answer.Errno == "EROFS" {
			found.refusal.Errno = unix.EROFS
		}
		if answer.Key != "" && answer.Origin != (policy.Origin{}) {
			found.refusal.Reason += " (" + answer.Origin.String() + ")"
		}
	}
	if len(e.known) < maxExplained {
		e.known[request] = found
	}
	return found.refusal, found.refused
}
