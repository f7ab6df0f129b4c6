// Package probe attacks a sandbox in every known way and says, attempt by attempt,
// what was stopped, by which layer, and what was not.
//
// An [Attempt] is a route to memory (or to what stands for it: program code,
// processes outside) × a target × an effect × an ABI. Whether it got through is
// judged by effect, on a canary in the victim's memory that the victim itself
// reads back, never by an errno alone. Every attempt is made twice: first without
// a sandbox, as the control; where that does not get through, nothing is proven.
//
// The catalogue ([Catalogue]) is a table: tests, documentation and reports are
// derived from it. Processes are attacked only by numbers that are proven to be a
// victim's, whatever the pid namespaces of launcher and /proc (see naming.go). Three kinds of processes carry an attempt out, all of them this
// program started again (see [Serve]): the agent runs inside the launcher under
// test and starts one director for each attempt; the director makes the victims
// that the attempt needs and, where the attacker must be another process than the
// victim, the attacker.
package probe
