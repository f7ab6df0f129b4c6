package probe

// What the tests of the whole suite, which have the attempts, know of the engine.
const (
	VictimName     = victimName
	VictimDeadline = victimDeadline
)

// KilledDetail is what is reported of a thread that the kernel ended.
var KilledDetail = killed.Detail
