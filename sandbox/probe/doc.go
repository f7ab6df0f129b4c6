// Package probe is the engine of the attack suite: it attacks a sandbox by the attempts
// that it is given, and reports of each what stopped it, if anything, and in which layer.
// The attempts themselves are data, in sandbox/probe/attempts.
//
// An [Attempt] is a route to memory (or to what stands for it: program code,
// processes outside) × a target × an effect × an ABI. Whether it got through is
// judged by effect, on a canary in the victim's memory that the victim itself
// reads back, never by an errno alone. Every attempt is made twice: first without
// a sandbox, as the control; where that does not get through, nothing is proven.
//
// # Processes
//
// [Run] is called in the suite's own process, outside. The others are the same program
// started again (see [Serve]): the agent runs inside the launcher under test and starts
// one runner for each attempt; the runner starts the victims that the attempt needs and,
// where the attacker must be another process than the victim, the attacker. Victims
// outside are started by the suite itself. The control has an agent without a launcher.
//
// # Writing an attempt
//
// An attempt names itself, and has functions that run in different processes:
//
//   - Needs and Permits: anywhere; they look at the machine, or at a policy.
//   - Setup and SetupLate: outside, before the sandbox starts and while it is at work.
//     They have a [Setup], by which they start external victims, mount, and hand
//     descriptors to the launcher, and leave what Attack has to know in Setup.Values.
//   - Attack: inside (or in the control), in the attacker. It has an [Env], which has
//     a copy of the Setup, and a [Victim]: addresses of canaries, and numbers that are
//     proven to be that process's. It returns [Got] with what it read, [Did], or
//     [Refused] with the step that failed.
//   - Check or Judge, where the effect is not on the canary.
//
// A path to a victim in procfs comes from [Victim.ProcDir] or [Victim.Mem], whatever the
// pid namespaces of launcher and /proc; a number that could not be proven to be the
// victim's is [NoProcess] (see naming.go). What is prepared for one side must not be
// changed by the other: [Setup.Side] numbers them.
package probe
