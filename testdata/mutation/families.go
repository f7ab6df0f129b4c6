package main

// family is a part of memjail that is changed, and the tests that have to notice.
type family struct {
	name      string
	files     []string
	names     []string // the functions and variables of them; none: all functions
	operators operator
	// tests are tried in order until one fails: the quick ones first.
	tests []tests
	// slow: only with -slow.
	slow bool
}

// tests are those of a package that match a pattern; all of them, without one.
type tests struct {
	pkg, pattern string
	short        bool // with -short
}

var families = []family{
	{name: "table of grants", files: []string{"supervisor/decide/grants.go"}, names: []string{"buildGrants"},
		operators: dropElement | swapName,
		tests:     []tests{{pkg: "./supervisor/decide"}, {pkg: "./sandbox/capability/install", pattern: "Fuzz|Table|Compile"}}},
	{name: "decision about an open", files: []string{"supervisor/decide/grants.go"},
		names: []string{"find", "plain", "matches", "validTail", "Open", "DependsOnMembership", "DependsOnTracer",
			"DependsOnParent", "writable", "WorldReadable"},
		operators: negate | dropSide | dropCase,
		tests:     []tests{{pkg: "./supervisor/decide"}, {pkg: "./sandbox/capability/install", pattern: "Fuzz"}}},
	{name: "filter's table", files: []string{"sandbox/filter/rules.go"}, names: []string{"rules"},
		operators: dropElement, tests: filterTests},
	{name: "filter's prologue", files: []string{"sandbox/filter/prologue.go"},
		operators: negate | dropSide | dropCall, tests: filterTests},
	{name: "filter's compiled bodies", files: []string{"sandbox/filter/programs/amd64-listener.bpf",
		"sandbox/filter/programs/amd64-plain.bpf", "sandbox/filter/programs/arm64-listener.bpf",
		"sandbox/filter/programs/arm64-plain.bpf"},
		operators: flipJump, tests: filterTests},
	{name: "supervisor's own filter", files: []string{"sandbox/filter/supervisor.go"},
		names: []string{"own", "ownDenials"}, operators: dropElement | negate | dropCall,
		tests: []tests{{pkg: "./sandbox/filter", pattern: "TestOwn|FuzzSupervisorProgram"}}},
	{name: "special file systems and devices",
		files:     []string{"sandbox/specialfs/specialfs.go", "sandbox/landlock/devices.go"},
		names:     []string{"table", "deviceRules", "basicDevices", "wholeDeviceDirs", "terminalMajors", "Named", "OfMagic", "At"},
		operators: dropElement | negate,
		tests:     []tests{{pkg: "./sandbox/specialfs"}, {pkg: "./sandbox/landlock"}, {pkg: "./sandbox/capability/install", pattern: "Special"}}},
	{name: "carve", files: []string{"sandbox/landlock/carve.go"},
		operators: negate | dropSide | dropCall, tests: []tests{{pkg: "./sandbox/landlock"}}},
	{name: "walk through carved trees", files: []string{"sandbox/landlock/walk.go", "sandbox/landlock/node.go"},
		operators: negate | dropSide | dropCall, tests: []tests{{pkg: "./sandbox/landlock"}}},
	{name: "denied paths", files: []string{"sandbox/landlock/deny.go"},
		operators: negate | dropSide, tests: []tests{{pkg: "./sandbox/landlock"}}},
	{name: "steps of the starter", files: []string{"sandbox/starter/starter.go"},
		names: []string{"outerSteps", "domainSteps", "execSteps", "limitSteps", "raisingSteps", "capabilitySteps", "left",
			"filterSteps", "finalLimits", "lateLimit"},
		operators: negate | dropElement | dropCall,
		tests:     []tests{{pkg: "./sandbox/starter"}, {pkg: "./sandbox"}}},
	{name: "self-check", files: []string{"sandbox/kernel/steps.go"}, names: []string{"StepsSelfCheck"},
		operators: negate | dropElement | dropCall,
		tests:     []tests{{pkg: "./sandbox/kernel", pattern: "SelfCheck"}, {pkg: "./sandbox", pattern: "SelfCheck"}}},
	{name: "inherited descriptors", files: []string{"sandbox/descriptors/descriptors.go", "sandbox/descriptors/sockets.go",
		"sandbox/descriptors/places.go", "sandbox/descriptors/memfd.go"},
		operators: negate | dropSide | dropCase,
		tests: []tests{{pkg: "./sandbox/descriptors"}, {pkg: "./sandbox"},
			{pkg: "./cmd/memjail", pattern: "Held|Foreign|Inherited|TestKernelObjects"}}},
	{name: "resolver", files: []string{"supervisor/resolve/resolve.go", "supervisor/resolve/walk.go",
		"supervisor/resolve/mounted.go", "supervisor/resolve/process.go"},
		operators: negate | dropSide, tests: []tests{{pkg: "./supervisor/resolve"}, {pkg: "./supervisor", pattern: "Slow"}}},
	{name: "BPF programs", files: []string{"sandbox/capability/install/bpf/capability.bpf.c"},
		operators: emptyProgram, slow: true, tests: []tests{{pkg: "./cmd/memjail", pattern: "TestCapability$|TestDrop$"}}},
}

// filterTests: the quick ones first.
var filterTests = []tests{
	{pkg: "./sandbox/filter", pattern: "TestOwn|TestSpot|TestDenials|TestFind|FuzzProgram|TestNumbers"},
	{pkg: "./sandbox/filter", pattern: "TestVerdicts", short: true},
	{pkg: "./sandbox/filter"},
}
