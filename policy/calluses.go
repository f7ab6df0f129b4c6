package policy

import "slices"

// CallUse is one use of a system call. A policy can refuse it by name without refusing the
// call: calls that set something often read it, too.
type CallUse struct {
	Name string // "prlimit64:set"
	Call string // "prlimit64"
	What string // "a new limit"
}

// callUses is sorted by name. The filter has the arguments that each is recognized by.
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

// CallUses lists the uses of system calls that a policy can refuse without the rest of the
// call, sorted by name. The caller owns the slice.
func CallUses() []CallUse {
	all := callUses
	return all[:]
}

// refusable reports whether a policy can refuse a call, or a use of one, by this name.
func refusable(name string) bool {
	return KnownCall(name) || slices.ContainsFunc(callUses[:], func(u CallUse) bool { return u.Name == name })
}

// usesRefused returns the uses of a call that the policy refuses.
func (s *Syscalls) usesRefused(call string) []CallUse {
	var found []CallUse
	for _, u := range callUses {
		if u.Call == call && slices.Contains(s.Deny, u.Name) {
			found = append(found, u)
		}
	}
	return found
}
