package probe

// Targets are all targets, from the attacker outwards.
func Targets() []Target {
	return []Target{Self, Thread, Child, Parent, Sibling, Outside, Monitor, System}
}

// Meaning describes whose memory it is.
func (t Target) Meaning() string {
	return map[Target]string{
		Self:    "the attacker's own process",
		Thread:  "the attacker's own process, by another thread's number",
		Child:   "the attacker's child",
		Parent:  "the attacker's parent, inside",
		Sibling: "another child of the attacker's parent, inside",
		Outside: "a process outside the sandbox, of the same user",
		Monitor: "the process that supervises the sandbox",
		System:  "no process: a file, a device, the kernel",
	}[t]
}

// Meaning describes what comes about.
func (e Effect) Meaning() string {
	return map[Effect]string{
		Read:      "a secret is read from the victim's memory",
		Write:     "the victim's memory is written",
		WriteRO:   "a page of the victim that is mapped read-only is written",
		WriteCode: "a page of the victim that is mapped executable, or its file, is written",
		Obtain:    "a means to reach memory is obtained, such as a descriptor",
		Disturb:   "the victim is disturbed, but its memory is not reached",
	}[e]
}

// Meaning describes the interface.
func (a ABI) Meaning() string {
	if a == I386 {
		return "the 32-bit system calls, by int 0x80 from a 64-bit process"
	}
	return "the system calls of the processor's usual mode"
}
