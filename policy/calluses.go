package policy

import "slices"

// CallUse is a part of what a system call does, which a policy can refuse by a name of
// its own and leave the rest: calls that set something often read it, too.
type CallUse struct {
	Name string // "prlimit64:set"
	Call string // "prlimit64"
	What string // "a new limit"
}

// callUses is sorted by name. The filter knows by which arguments each is told.
var callUses = [...]CallUse{
	{"modify_ldt:write", "modify_ldt", "changing the table"},
	{"move_pages:move", "move_pages", "moving pages, other than asking where they are"},
	{"prlimit64:set", "prlimit64", "a new limit"},
	{"quotactl:set", "quotactl", "changing quotas and switching them on and off"},
	{"quotactl_fd:set", "quotactl_fd", "changing quotas and switching them on and off"},
	{"setfsgid32:set", "setfsgid32", "another group, other than asking for the present one (-1)"},
	{"setfsgid:set", "setfsgid", "another group, other than asking for the present one (-1)"},
	{"setfsuid32:set", "setfsuid32", "another user, other than asking for the present one (-1)"},
	{"setfsuid:set", "setfsuid", "another user, other than asking for the present one (-1)"},
}

// CallUses lists the uses of system calls that a policy can refuse by themselves, sorted
// by name. The caller owns the slice.
func CallUses() []CallUse {
	all := callUses
	return all[:]
}

// refusable reports whether a policy can name a call, or a use of one, to refuse it.
func refusable(name string) bool {
	return KnownCall(name) || slices.ContainsFunc(callUses[:], func(u CallUse) bool { return u.Name == name })
}

// usesRefused are the uses of a call that a policy refuses.
func (s *Syscalls) usesRefused(call string) []CallUse {
	var found []CallUse
	for _, u := range callUses {
		if u.Call == call && slices.Contains(s.Deny, u.Name) {
			found = append(found, u)
		}
	}
	return found
}
